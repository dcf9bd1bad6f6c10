"""Laws 1 and 3 in the native engine: keeping everything is brute force; both engines agree wherever the shortlist holds the answer."""

import uuid

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db import Plan, Precision, Stage, flat_plan, graph_plan

N, DIMS = 150, 24
BIT, INT4, INT8, F32 = Precision.bit, Precision.int4, Precision.int8, Precision.float32
KEYS = {
    "bigint": lambda i: i,
    "smallint": lambda i: i - 70,
    "uuid": lambda i: uuid.UUID(int=(i * 7919) << 64),
    "text": lambda i: f"ключ {i}",
}
LOADED = Plan(
    "flat",
    1,
    (
        Stage(5, BIT, N),
        Stage(DIMS, BIT, N),
        Stage(DIMS, INT4, N, "projection"),
        Stage(DIMS, INT8, N),
        Stage(DIMS, F32, N),
    ),
)


@pytest.fixture(scope="module")
def collections(server):
    """Collections of every metric and some key types, with ties and near-ties in them, loaded: flat with many codes, and as a graph."""
    rng = np.random.default_rng(12)
    vectors = rng.standard_normal((N, DIMS)).astype(np.float32)
    vectors[10:15] = vectors[10]
    vectors[20] = vectors[21] * np.float32(1 + 1e-6)
    vectors[30, :12] = 0
    vectors[:, 17] = 0  # a dead dimension
    vectors[:, 18] = 3  # a constant one
    vectors[40] *= 20  # an outlier
    made = {}
    for metric in ("cosine", "inner_product", "l2"):
        for key_type, key in KEYS.items():
            name = f"native_{metric}_{key_type}"
            if name in server.list():
                server.drop(name)
            docs = server.create_collection(
                name,
                dims=DIMS,
                nesting_dims=(12, 24),
                shortlist_dims=12,
                metric=metric,
                key_type=key_type,
                columns={"third": "integer"},
            )
            docs.add([key(i) for i in range(N)], vectors, third=np.arange(N) % 3)
            walked = server.open(name)
            walked.load()
            docs.load(plan=LOADED)
            made[metric, key_type] = docs, walked
    return made, vectors


metrics = st.sampled_from(["cosine", "inner_product", "l2"])
key_types = st.sampled_from(sorted(KEYS))
stages = st.lists(
    st.sampled_from(
        [
            Stage(5, BIT, N),
            Stage(DIMS, BIT, N),
            Stage(DIMS, INT4, N, "projection"),
            Stage(DIMS, INT8, N),
        ]
    ),
    unique=True,
).map(lambda chosen: sorted(chosen, key=lambda stage: (stage.precision.bits, stage.dims)))
prefixes = st.lists(st.integers(1, DIMS - 1), unique=True, max_size=2).map(
    lambda widths: [Stage(width, F32, N) for width in sorted(widths)]
)


@given(
    metric=metrics,
    key_type=key_types,
    chosen=stages | prefixes,
    third=st.none() | st.integers(0, 3),
    k=st.integers(1, 2 * N),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=300)
def test_law_1_a_native_funnel_whose_keeps_all_equal_n_is_brute_force(
    collections, metric, key_type, chosen, third, k, seed
):
    made, vectors = collections
    docs, _ = made[metric, key_type]
    k = min(k, N)
    plan = Plan("flat", 1, (*chosen, Stage(DIMS, F32, k)))
    query = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    rows = [i for i in range(N) if third is None or i % 3 == third]

    hits = docs.search(query, k=k, plan=plan, where=None if third is None else {"third": third})

    assert hits.trace.engine == "native"
    keys = [KEYS[key_type](i) for i in rows]
    oracle.assert_same_answer(
        hits,
        oracle.nearest(metric, query, keys, vectors[rows], k),
        tolerance=1e-4 if metric != "cosine" else 2e-6,
    )


@given(
    metric=metrics,
    key_type=key_types,
    effort=st.integers(1, 400),
    k=st.integers(1, 2 * N),
    third=st.none() | st.integers(0, 3),
    seed=st.integers(0, 10_000),
    batch=st.booleans(),
    flat=st.booleans(),
)
@settings(max_examples=300)
def test_law_3_the_engines_agree_wherever_the_shortlist_holds_the_answer(
    collections, metric, key_type, effort, k, third, seed, batch, flat
):
    """Every native search returns as many rows as exact search, with true distances, none nearer than the exact ones, none that may not be."""
    made, vectors = collections
    docs = made[metric, key_type][0 if flat else 1]
    query = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    where = None if third is None else {"third": third}
    plan = flat_plan(dims=DIMS, k=k) if flat else graph_plan(dims=DIMS, k=k, effort=effort)

    hits = docs.search(
        query[np.newaxis] if batch else query, k=k, where=where, plan=plan, engine="native"
    )
    hits = hits[0] if batch else hits
    exact = docs.search(query, k=k, where=where, exact=True)
    in_sql = docs.search(query, k=k, where=where, engine="sql", shortlist=N)

    place = {KEYS[key_type](i): i for i in range(N)}
    rows = [i for i in range(N) if third is None or i % 3 == third]
    assert hits.ids.dtype == in_sql.ids.dtype
    assert hits.distances.dtype == in_sql.distances.dtype
    assert len(hits.ids) == len(exact.ids) == min(k, len(rows))
    found = [place[key] for key in hits.ids.tolist()]
    assert len(set(found)) == len(found)
    assert set(found) <= set(rows)
    np.testing.assert_allclose(
        hits.distances, oracle.distance(metric, query, vectors[found]), rtol=2e-6, atol=1e-4
    )
    assert np.all(np.diff(hits.distances) >= 0)
    assert np.all(hits.distances >= exact.distances - 1e-4 - 2e-6 * np.abs(exact.distances))
    if set(hits.ids.tolist()) == set(exact.ids.tolist()):
        answer = list(zip(exact.distances.tolist(), exact.ids.tolist(), strict=True))
        oracle.assert_same_answer(hits, answer, tolerance=1e-4)
        oracle.assert_same_answer(in_sql, answer, tolerance=1e-4)


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_the_default_graph_finds_nearly_everything_here(collections, metric):
    made, _vectors = collections
    queries = np.random.default_rng(5).standard_normal((200, DIMS)).astype(np.float32)

    hits = made[metric, "bigint"][1].search(queries, k=10)

    exact = made[metric, "bigint"][1].search(queries, k=10, exact=True)
    shared = [
        len(set(a) & set(b)) for a, b in zip(hits.ids.tolist(), exact.ids.tolist(), strict=True)
    ]
    assert np.mean(shared) >= 9.5
