"""Searches that ask for more than the k nearest rows, judged by brute force."""

import os
import uuid

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db.learn import Rotation

N, DIMS = 400, 8
EXAMPLES = int(os.environ.get("MRL_DB_GROUP_EXAMPLES", "20"))  # of each engine; `make soak`: more
GROUPS = {
    "few": lambda number: number % 3,
    "one large": lambda number: 0 if number < N - 20 else number,
    "each its own": lambda number: number,
    "some NULL": lambda number: None if number % 4 == 0 else number % 20,
}
COLUMNS = {**dict.fromkeys(map(str, range(len(GROUPS))), "integer"), "year": "integer"}
ENGINES = [{"engine": "sql"}, {"engine": "native"}, {"exact": True}]


@pytest.fixture(scope="module", params=["cosine", "l2"])
def loaded(server, request):
    """Rows around few centres, so that the nearest ones are often of one group."""
    name = f"grouped_{request.param}"
    rng = np.random.default_rng(3)
    rows = np.repeat(rng.standard_normal((20, DIMS)), N // 20, axis=0)
    vectors = (rows + 0.1 * rng.standard_normal((N, DIMS))).astype(np.float32)
    values = [
        {**{str(at): of(number) for at, of in enumerate(GROUPS.values())}, "year": number % 7}
        for number in range(N)
    ]
    docs = server.create_collection(name, dims=DIMS, metric=request.param, columns=COLUMNS)
    docs.add(range(N), vectors, **{name: [row[name] for row in values] for name in COLUMNS})
    docs.load(route="flat")
    yield docs, vectors, values
    server.drop(name)


def nearest_groups(docs, vectors, values, query, group, k, own=None, limit=np.inf, years=None):
    """The first row of each group in the whole list of distances."""
    best = {}
    for distance, key in oracle.nearest(docs.metric.value, query, range(N), vectors, N):
        if key != own and distance <= limit and (years is None or values[key]["year"] in years):
            best.setdefault(values[key][group], (distance, key))
    return sorted(best.values())[:k]


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 30),
    group=st.sampled_from([str(at) for at in range(len(GROUPS))]),
    years=st.none() | st.sets(st.integers(0, 6), min_size=1),
    like=st.booleans(),
)
@settings(max_examples=EXAMPLES)
def test_the_best_row_of_each_group_as_brute_force_finds_it(
    loaded, engine, seed, k, group, years, like
):
    docs, vectors, values = loaded
    rng = np.random.default_rng(seed)
    own = rng.integers(0, N, 2).tolist() if like else [None, None]
    queries = vectors[own] if like else vectors[rng.integers(0, N, 2)] + 0.05
    asked = {"like": own} if like else {"query": queries}
    if like and own[0] == own[1]:
        return
    where = None if years is None else {"year": {"$in": sorted(years)}}

    hits = docs.search(**asked, k=k, group_by=group, where=where, plan=plan_of(engine, k), **engine)

    for number, query in enumerate(queries):
        want = nearest_groups(docs, vectors, values, query, group, k, own[number], years=years)
        assert hits[number].ids.tolist() == [key for _, key in want]
        np.testing.assert_allclose(
            hits[number].distances, [distance for distance, _ in want], rtol=1e-4, atol=1e-5
        )
        assert hits[number].columns[group].tolist() == [values[key][group] for _, key in want]


def plan_of(engine, k):
    """Plans that miss nothing, so that the answer is the brute-force one; None for exact search."""
    if "exact" in engine:
        return None
    if engine["engine"] == "sql":
        stage = mrl_db.Stage(DIMS, mrl_db.Precision.float32, k)
        return mrl_db.Plan("seqscan", 1, (stage,))
    return mrl_db.flat_plan(dims=DIMS, k=k, keep=N)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_vectors_come_along(loaded, engine):
    docs, vectors, _ = loaded

    one = docs.search(vectors[3], k=5, vectors=True, columns=["year"], **engine)
    batch = docs.search(vectors[:3], k=5, vectors=True, **engine)

    np.testing.assert_array_equal(one.vectors, vectors[one.ids])
    np.testing.assert_array_equal(batch.vectors, vectors[batch.ids])
    assert list(one.columns) == ["year"]
    assert batch[1].vectors.shape == (5, DIMS)
    assert one.to_arrow().column_names == ["id", "distance", "year", "vector"]
    assert docs.search(vectors[3], k=5, **engine).vectors is None


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_limit_of_distance_leaves_out_what_is_farther(loaded, engine):
    docs, vectors, _ = loaded
    every = docs.search(vectors[:6], k=30, **engine)
    limit = float(np.sort(every.distances.ravel())[60])

    hits = docs.search(vectors[:6], k=30, max_distance=limit, vectors=True, **engine)

    for number in range(6):
        within = every.distances[number] <= limit
        assert hits[number].ids.tolist() == every.ids[number][within].tolist()
        np.testing.assert_array_equal(hits[number].vectors, vectors[every.ids[number][within]])
        one = docs.search(vectors[number], k=30, max_distance=limit, **engine)
        assert one.ids.tolist() == hits[number].ids.tolist()
    assert docs.search(vectors[0], max_distance=-5.0, **engine).ids.shape == (0,)


def test_hits_of_different_numbers_are_padded_in_arrays_only(loaded):
    docs, vectors, _ = loaded
    queries = np.stack([vectors[0], -vectors[0]])

    limit = docs.search(vectors[0], k=5, exact=True).distances[-1]
    hits = docs.search(queries, k=5, max_distance=limit, vectors=True, exact=True)

    assert hits.counts.tolist() == [5, 0]
    assert hits.ids[1].tolist() == [-1] * 5
    assert np.isnan(hits.distances[1]).all()
    assert np.isnan(hits.vectors[1]).all()
    assert [len(each) for each in hits] == [len(each) for each in hits.to_list()] == [5, 0]
    assert hits.to_arrow()["query"].to_pylist() == [0] * 5
    assert "<caption>5 hits</caption>" in hits._repr_html_()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_rows_like_a_row_are_its_neighbours_without_itself(loaded, engine):
    docs, vectors, _ = loaded
    by_vector = docs.search(vectors[[7, 9]], k=6, **engine)

    one, both = docs.search(like=7, k=5, **engine), docs.search(like=[7, 9], k=5, **engine)

    assert one.ids.tolist() == [key for key in by_vector[0].ids.tolist() if key != 7]
    assert both.ids.tolist()[0] == one.ids.tolist()
    assert 9 not in both.ids[1]
    elsewhere = docs.search(like=7, k=N, where={"year": 1}, **engine)  # 7 is of year 0
    assert len(elsewhere.ids) == docs.count({"year": 1})


def test_rows_like_a_row_whose_key_is_a_uuid_and_whose_vector_is_adapted(db):
    keys = [uuid.UUID(int=number) for number in range(50)]
    rows = np.random.default_rng(5).standard_normal((50, 4), dtype=np.float32)
    adaptor = Rotation.fit(rows)
    docs = db.create_collection("docs", dims=4, key_type="uuid", adaptor=adaptor)
    docs.add(keys, rows)

    hits = docs.search(like=keys[3], k=4)

    assert hits.ids.tolist() == docs.search(rows[3], k=5).ids.tolist()[1:]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, mrl_db.ShapeError, "a query or like="),
        ({"query": np.ones(DIMS), "like": 1}, mrl_db.ShapeError, "a query or like="),
        ({"like": N}, mrl_db.ValueRangeError, f"no row {N} with a vector"),
        ({"like": "x"}, mrl_db.DtypeError, "give integers"),
        ({"like": [1, 1]}, mrl_db.DuplicateKeyError, "twice"),
        ({"query": np.ones(DIMS), "max_distance": "far"}, mrl_db.ValueRangeError, "max_distance"),
        ({"query": np.ones(DIMS), "max_distance": np.nan}, mrl_db.ValueRangeError, "max_distance"),
        ({"query": np.ones(DIMS), "max_distance": True}, mrl_db.ValueRangeError, "max_distance"),
        ({"query": np.ones(DIMS), "group_by": "x"}, mrl_db.ValueRangeError, "no column 'x'"),
    ],
)
def test_what_cannot_be_meant_is_refused(loaded, arguments, error, said):
    with pytest.raises(error, match=said):
        loaded[0].search(**arguments)


def test_groups_are_of_values_that_compare(db):
    docs = db.create_collection("docs", dims=2, columns={"meta": "jsonb", "x": "double precision"})
    docs.add(range(4), np.ones((4, 2)), x=[float("nan"), float("nan"), None, 0.0])

    assert docs.search([1, 1], group_by="x").ids.tolist() == [0, 2, 3]
    with pytest.raises(mrl_db.ValueRangeError, match="a column of jsonb"):
        docs.search([1, 1], group_by="meta")


def test_an_index_into_hits_of_one_query_says_what_to_do(loaded):
    with pytest.raises(mrl_db.ShapeError, match="one query; iterate"):
        loaded[0].search(np.ones(DIMS))[0]
