"""Of parts that were loaded for different plans: the one that is enough for all."""

import pytest

from mrl_db import Precision, flat_plan, graph_plan
from mrl_db.parts.planners import farthest

DIMS = 48
SHORT, LONG = graph_plan(dims=DIMS, effort=48), graph_plan(dims=DIMS, effort=192)
SCAN = flat_plan(dims=DIMS, keep=60)
SCAN_INT8 = flat_plan(dims=DIMS, precision=Precision.int8, keep=60)


@pytest.mark.parametrize(
    ("loaded", "plan"),
    [
        ([(SHORT, 10_000)], SHORT),
        ([(SHORT, 10_000), (LONG, 9_000), (SHORT, 10_000)], LONG),
        ([(SCAN_INT8, 100), (SHORT, 10_000), (LONG, 10_000)], LONG),
        ([(SCAN_INT8, 0), (SHORT, None)], SHORT),
        ([(SCAN_INT8, 5_000), (LONG, 10**7)], SCAN_INT8),
        ([(SCAN, 5_000), (SCAN_INT8, 5_000), (LONG, 10**7)], SCAN_INT8),
        ([(SCAN_INT8, 100), (SCAN_INT8, 7)], SCAN_INT8),
        ([(SCAN, 100), (SCAN, 10_000)], SCAN),
    ],
)
def test_one_plan_is_enough_for_all_parts(loaded, plan):
    assert farthest(loaded) == plan
    assert farthest(loaded[::-1]) == plan
