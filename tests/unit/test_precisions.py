"""Every precision in every place that has to know it: a new one is forgotten nowhere in silence."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from mrl_db import _kernels
from mrl_db.engines.native.index import _add_codes, check_plan
from mrl_db.engines.native.memory import footprint
from mrl_db.engines.native.plans import native_plan
from mrl_db.evaluate.representations import as_stored
from mrl_db.model.errors import PlanError
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, Stage
from mrl_db.model.precision import Precision

N, DIMS, K = 3000, 64, 10
ROWS = np.random.default_rng(5).standard_normal((N + 20, DIMS)).astype(np.float32)
STAGES = [
    (precision, space, dims)
    for precision in Precision
    for space, dims in (("prefix", DIMS), ("prefix", DIMS // 2), ("projection", DIMS))
    if (precision, dims) != (Precision.float32, DIMS)
]


def is_refused(plan, info):
    try:
        check_plan(plan, info)
    except PlanError:
        return True
    return False


@pytest.mark.parametrize("metric", list(Metric), ids=lambda metric: metric.value)
@pytest.mark.parametrize(("precision", "space", "dims"), STAGES)
def test_a_stage_is_refused_or_its_codes_are_made_counted_and_searched(
    metric, precision, space, dims
):
    info = SimpleNamespace(name="docs", dims=DIMS, metric=metric, key_type="bigint")
    last = Stage(DIMS, Precision.float32, K)
    every = Plan("flat", 1, (Stage(dims, precision, N, space), last))
    if is_refused(every, info):
        return
    index = _kernels.Index(
        _kernels.Metric.__members__[metric.value], DIMS, _kernels.KeyType.int64, True
    )
    index.append(np.arange(N).view(np.uint8).reshape(N, 8), ROWS[:N], 1)

    _add_codes(index, every, 1)

    expected = footprint(N, info, every, in_memory=True)
    projection = 2 * 256 * DIMS if space == "projection" else 0  # its matrix, whatever the rows
    assert index.bytes - index.vector_bytes == pytest.approx(
        expected.resident + projection, rel=0.04
    )
    exact = index.search_many(ROWS[N:], native_plan(Plan("flat", 1, (last,))), None, 1)[0]
    found = index.search_many(ROWS[N:], native_plan(every), None, 1)[0]
    assert np.array_equal(found, exact)
    some = Plan("flat", 1, (Stage(dims, precision, N // 4, space), last))
    found = index.search_many(ROWS[N:], native_plan(some), None, 1)[0]
    shares = [len(set(a) & set(b)) / K for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert np.mean(shares) > 0.5  # of chance: a quarter


def test_the_dearer_a_precision_the_less_is_lost():
    rows = ROWS[:500]
    dearest_first = list(Precision)
    lost = [np.square(as_stored(rows, each) - rows).sum() for each in dearest_first]

    assert all(a.bits > b.bits for a, b in pairwise(dearest_first))
    assert lost[0] == 0
    assert all(a < b for a, b in pairwise(lost))
