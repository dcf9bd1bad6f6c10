"""Law 1 and law 3: a funnel that keeps everything is brute force; a funnel whose shortlist holds the answer agrees with it."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db import Plan, Precision, Stage

N, DIMS = 120, 24
HALF, FULL = Precision.float16, Precision.float32


@pytest.fixture(scope="module")
def collections(server):
    """One collection for each metric, with ties, near-ties and a zero prefix in it, indexed."""
    rng = np.random.default_rng(11)
    vectors = rng.standard_normal((N, DIMS)).astype(np.float32)
    vectors[10:15] = vectors[10]
    vectors[20] = vectors[21] * np.float32(1 + 1e-6)
    vectors[30, :12] = 0
    made = {}
    for metric in ("cosine", "inner_product", "l2"):
        name = f"funnel_{metric}"
        if name in server.list():
            server.drop(name)
        docs = server.create_collection(
            name,
            dims=DIMS,
            nesting_dims=(6, 12, 24),
            shortlist_dims=6,
            metric=metric,
            columns={"third": "integer"},
        )
        docs.add(np.arange(N), vectors, third=np.arange(N) % 3)
        docs.create_index(kind="hnsw")
        made[metric] = docs
    return made, vectors


stages = st.lists(st.integers(1, DIMS - 1), unique=True, max_size=3).map(sorted)


@given(
    metric=st.sampled_from(["cosine", "inner_product", "l2"]),
    widths=stages,
    route=st.sampled_from(["hnsw", "seqscan"]),
    effort=st.integers(1, 1000),
    third=st.none() | st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=250)
def test_law_1_a_funnel_whose_keeps_all_equal_n_is_brute_force(
    collections, metric, widths, route, effort, third, seed
):
    made, vectors = collections
    plan = Plan(route, effort, (*(Stage(width, HALF, N) for width in widths), Stage(DIMS, FULL, N)))
    query = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    rows = [i for i in range(N) if third is None or i % 3 == third]

    hits = made[metric].search(
        query, k=N, plan=plan, where=None if third is None else {"third": third}
    )

    oracle.assert_same_answer(hits, oracle.nearest(metric, query, rows, vectors[rows], N))


@given(
    metric=st.sampled_from(["cosine", "inner_product", "l2"]),
    k=st.integers(1, 2 * N),
    shortlist=st.none() | st.integers(1, N),
    third=st.none() | st.integers(0, 3),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=250)
def test_law_3_engines_agree_wherever_the_shortlist_holds_the_answer(
    collections, metric, k, shortlist, third, seed
):
    """Every funnel returns as many rows as exact search, with true distances, and none nearer than the exact ones."""
    made, vectors = collections
    query = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    where = None if third is None else {"third": third}

    hits = made[metric].search(query, k=k, shortlist=shortlist, where=where)
    exact = made[metric].search(query, k=k, where=where, exact=True)

    rows = [i for i in range(N) if third is None or i % 3 == third]
    oracle.assert_same_answer(
        exact, oracle.nearest(metric, query, rows, vectors[rows], k), tolerance=1e-12
    )
    assert len(hits.ids) == len(exact.ids) == min(k, len(rows))
    assert len(set(hits.ids.tolist())) == len(hits.ids)
    assert set(hits.ids.tolist()) <= set(rows)
    np.testing.assert_allclose(
        hits.distances, oracle.distance(metric, query, vectors[hits.ids]), rtol=2e-6, atol=2e-6
    )
    assert np.all(np.diff(hits.distances) >= 0)
    assert np.all(hits.distances >= exact.distances - 2e-6)
    if set(hits.ids.tolist()) == set(exact.ids.tolist()):
        oracle.assert_same_answer(
            hits, list(zip(exact.distances.tolist(), exact.ids.tolist(), strict=True))
        )


def test_recall_counts_what_is_as_near_as_the_true_answer():
    trace = mrl_db.Trace("sql", 0.0, ())
    exact = mrl_db.Hits(np.array([[1, 2]]), np.array([[0.1, 0.2]]), trace)
    tied = mrl_db.Hits(np.array([[1, 3]]), np.array([[0.1, 0.2]]), trace)
    wrong = mrl_db.Hits(np.array([[1, 3]]), np.array([[0.1, 0.3]]), trace)

    from mrl_db.evaluate.metrics import recall_at_k

    assert recall_at_k(tied, exact).tolist() == [1.0]
    assert recall_at_k(wrong, exact).tolist() == [0.5]
    assert recall_at_k(wrong[0], exact[0]).tolist() == [0.5]
