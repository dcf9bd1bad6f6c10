"""`hits.certified`: whoever says that an answer is proven is right, and says so of plain data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db import Plan, Precision, Stage, _kernels, flat_plan
from mrl_db.engines.native.plans import native_plan
from mrl_db.engines.native.projection import fit_projection
from mrl_db.model.metric import Metric


def index_of(rows, metric):
    index = _kernels.Index(
        getattr(_kernels.Metric, metric.value), rows.shape[1], _kernels.KeyType.int64, True
    )
    keys = np.arange(len(rows), dtype=np.int64).view(np.uint8).reshape(-1, 8)
    index.append(keys, rows, 1)
    return index


def true_distances(metric, query, rows):
    return metric.distances(query.astype(np.float64), rows.astype(np.float64))


def assert_exact(metric, query, rows, ids, k):
    distances = true_distances(metric, query, rows)
    kth = np.sort(distances)[k - 1]
    longest = np.linalg.norm(rows, axis=1).max() * max(1, np.linalg.norm(query))
    slack = 2e-6 * (1 if metric is Metric.cosine else longest)
    if metric is Metric.l2:
        assert (distances[ids] ** 2 <= kth**2 + 4 * slack + 4e-6 * longest**2).all()
    else:
        assert (distances[ids] <= kth + 2 * slack).all()


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(list(Metric)),
    dims=st.integers(2, 70),
    crowd=st.sampled_from([0, 30, 200]),
    noise=st.sampled_from([1e-3, 5e-3, 2e-2, 0.1]),
    spread=st.sampled_from([0.0, 1.0]),
    keep=st.integers(5, 80),
)
def test_what_is_certified_is_the_exact_answer(seed, metric, dims, crowd, noise, spread, keep):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((300, dims))
    rows[:crowd] = rows[0] + noise * rng.standard_normal((crowd, dims))
    rows *= rng.lognormal(0, spread, (300, 1))
    rows = rows.astype(np.float32)
    index = index_of(rows, metric)
    queries = np.concatenate([rows[0] + noise * rng.standard_normal((10, dims)), rows[50:60]])
    queries = queries.astype(np.float32)
    stages = [Stage(dims, Precision.int8, keep), Stage(dims, Precision.float32, 5)]
    plan = native_plan(Plan("flat", 1, tuple(stages)))

    all_proven = True
    for query in queries:
        ids, _, _, proven = index.search_one(query, plan)
        all_proven &= proven
        if proven:
            assert_exact(metric, query, rows, ids, 5)

    ids, _, _, proven = index.search_many(queries, plan, None, 1)
    assert proven == all_proven


@pytest.mark.parametrize("metric", list(Metric))
def test_an_answer_is_certified_where_enough_is_kept(metric):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((3000, 64)).astype(np.float32)
    index = index_of(rows, metric)

    proven = [
        np.mean(
            [
                index.search_one(
                    query, native_plan(flat_plan(dims=64, precision="int8", keep=keep))
                )[3]
                for query in rows[:100]
            ]
        )
        for keep in (10, 20, 60)
    ]

    # The next row after the last is as near, more often than not; the 60th hardly ever is.
    assert proven[0] < 0.5
    assert proven[0] < proven[1] <= proven[2]
    assert proven[2] > 0.9


def test_a_walk_and_coarser_codes_prove_nothing_unless_they_leave_out_nothing():
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((600, 32)).astype(np.float32)
    index = index_of(rows, Metric.l2)
    index.set_projection(*fit_projection(index.sample(600)))
    index.build("fast", 1, None)
    last = Stage(32, Precision.float32, 10)
    lines = Stage(32, Precision.int4, 60, "projection")
    every = Stage(32, Precision.int4, 600, "projection")

    proven = {
        plan: index.search_one(rows[0], native_plan(plan))[3]
        for plan in (
            Plan("graph", 100, (lines, last)),
            Plan("flat", 1, (lines, last)),
            Plan("flat", 1, (every, last)),
            Plan("flat", 1, (last,)),
        )
    }

    assert list(proven.values()) == [False, False, True, True]
