"""Words that stand twice: as types for whoever writes Python, as values, and in the compiled module."""

from typing import get_args

import pytest

from mrl_db import _kernels
from mrl_db.model import key, metric, plan, precision


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (metric.MetricName, [each.value for each in metric.Metric]),
        (precision.PrecisionName, [each.value for each in precision.Precision]),
        (plan.Route, [*plan._SQL_ROUTES, *plan._NATIVE_ROUTES]),
        (plan.Space, list(_kernels.Space.__members__)),
        (key.KeyName, key.KEY_TYPES.keys() - {"character varying"}),
    ],
)
def test_a_type_names_what_there_is(names, values):
    assert set(get_args(names)) == set(values)


def test_what_the_compiled_module_names_is_known():
    assert _kernels.Precision.__members__.keys() <= {each.value for each in precision.Precision}
    assert _kernels.Route.__members__.keys() == set(plan._NATIVE_ROUTES)
    assert _kernels.KeyType.__members__.keys() == {each.wire for each in key.KEY_TYPES.values()}
    assert _kernels.PROJECTION_DIMS == plan.PROJECTION_DIMS


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (_kernels.Metric, {"cosine": 0, "inner_product": 1, "l2": 2}),
        (_kernels.Space, {"prefix": 0, "projection": 1}),
        (_kernels.Precision, {"bit": 0, "int4": 1, "int8": 2, "float32": 3}),
        (_kernels.KeyType, {"int16": 0, "int32": 1, "int64": 2, "uuid": 3, "text": 4}),
    ],
)
def test_numbers_that_files_have_stay(words, numbers):
    """A cached index of before would be read as another: a new word comes last."""
    now = {name: int(word) for name, word in words.__members__.items()}

    assert {name: now[name] for name in numbers} == numbers
    assert sorted(now.values()) == list(range(len(now)))
