"""The compiled module keeps memory safe whoever calls, in whatever order."""

import numpy as np
import pytest

from mrl_db import _kernels

DIMS = 16


def keys(first, n):
    return np.arange(first, first + n).view(np.uint8).reshape(n, 8)


def new_index(n, dims=DIMS):
    index = _kernels.Index(_kernels.Metric.l2, dims, _kernels.KeyType.int64, True)
    rows = np.random.default_rng(n).standard_normal((n, dims), dtype=np.float32)
    index.append(keys(0, n), rows, 1)
    return index, rows


def plan():
    stage = (_kernels.Space.prefix, DIMS, _kernels.Precision.float32, 3)
    return _kernels.NativePlan(_kernels.Route.flat, 1, [stage])


@pytest.mark.parametrize("dims", [0, 16001])
def test_an_index_has_dims(dims):
    with pytest.raises(ValueError, match=f"dims is {dims}"):
        _kernels.Index(_kernels.Metric.l2, dims, _kernels.KeyType.int64, True)


def test_what_another_index_gave_is_refused():
    small, rows = new_index(20)
    selection = new_index(5000)[0].select(keys(4000, 900))
    live = new_index(5000)[0].live(None)[0]

    with pytest.raises(ValueError, match="the selection is another index's"):
        small.search_many(rows, plan(), selection, 1)
    with pytest.raises(ValueError, match="the selection is another index's"):
        small.live(selection)
    with pytest.raises(ValueError, match="the rows are another index's"):
        small.coordinates(live, np.array([4999], dtype=np.uint32), 0, 4)
    found = small.search_many(rows, plan(), small.select(keys(3, 5)), 1)[0]
    assert set(found.ravel().tolist()) <= set(range(3, 8))


def test_rows_come_before_codes():
    index, rows = new_index(20)
    index.add_flat_codes(_kernels.Space.prefix, 8, _kernels.Precision.int8, None, 1)

    with pytest.raises(RuntimeError, match="before codes"):
        index.append(keys(20, 20), rows, 1)


def test_a_projection_comes_before_what_needs_it():
    index, _ = new_index(20)

    with pytest.raises(RuntimeError, match="need a projection"):
        index.add_line_codes(1)
    with pytest.raises(RuntimeError, match="needs a projection"):
        index.build("default", 1, None)
    with pytest.raises(ValueError, match='no build "quick"'):
        index.build("quick", 1, None)
