"""What a default effort is measured by: how far the tenth nearest other row is; which are tried."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db import _kernels
from mrl_db.engines.native.default_effort import _tenth_of_others
from mrl_db.engines.native.projection import fit_projection
from mrl_db.model.metric import Metric


def index_of(vectors, metric):
    index = _kernels.Index(
        getattr(_kernels.Metric, metric.value), vectors.shape[1], _kernels.KeyType.int64, True
    )
    keys = np.arange(len(vectors), dtype=np.int64).view(np.uint8).reshape(-1, 8)
    index.append(keys, vectors, 1)
    index.set_projection(*fit_projection(index.sample(1000)))
    index.build("fast", 1, None)
    return index


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(list(Metric)),
    n=st.sampled_from([500, 4096, 4100]),  # a block, and a little more
    dims=st.integers(2, 40),
    copies=st.integers(0, 300),
    noise=st.sampled_from([0.0, 1e-6, 1e-3]),
)
def test_the_tenth_of_others_is_that_of_a_look_at_all(seed, metric, n, dims, copies, noise):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dims))
    rows[:copies] = rows[0] + noise * rng.standard_normal((copies, dims))  # a crowd, or one row
    rows = rows.astype(np.float32)
    index = index_of(rows, metric)
    live, _ = index.live(None)
    drawn = np.unique(rng.integers(0, n, 20).astype(np.uint32))
    queries = index.coordinates(live, drawn, 0, dims)

    tenth = _tenth_of_others(index, live, drawn, queries, metric)

    for number, position in enumerate(drawn):
        others = np.delete(rows, position, axis=0).astype(np.float64)
        distances = np.sort(metric.distances(rows[position].astype(np.float64), others))
        # Of copies that float32 products cannot tell apart, others than the nearest are measured.
        unit = np.linalg.norm(rows, axis=1).max()
        slack = 1e-6 if metric is Metric.cosine else 1e-6 * unit**2
        if metric is Metric.l2:
            assert tenth[number] ** 2 - distances[9] ** 2 <= 2 * slack
        else:
            assert tenth[number] - distances[9] <= slack
        assert tenth[number] >= distances[9] - 1e-9 * abs(distances[9]) - 1e-12


@given(first=st.integers(1, 5000), n=st.integers(0, 10**8), dims=st.integers(1, 16_000))
def test_efforts_double_up_to_a_scan_and_few_rows_ask_nothing(first, n, dims):
    *walks, last = _kernels.default_efforts(first, n)
    asked = _kernels.default_effort_queries(n, dims)

    assert walks[0] == first
    assert all(later == 2 * earlier for earlier, later in pairwise(walks))
    assert last == _kernels.SCAN_EFFORT
    assert len(walks) == 1 or 60 * walks[-1] < n  # lines that a walk reads
    assert (asked == 0) == (n < 500)
    assert asked <= min(128, n // 16)
    assert asked <= 32 or asked * n * dims <= 4e10
