"""Hits unlike each other, by maximal marginal relevance as the paper writes it; and pages of hits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db

N, DIMS = 60, 3
ENGINES = [{"engine": "sql"}, {"engine": "native"}, {"exact": True}]


@pytest.fixture(scope="module", params=["cosine", "l2", "inner_product"])
def loaded(server, request):
    rng = np.random.default_rng(8)
    vectors = rng.standard_normal((N, DIMS)).astype(np.float32)
    docs = server.create_collection(
        f"varied_{request.param}",
        dims=DIMS,
        metric=request.param,
        columns={"year": "integer"},
        text="content",
        language="simple",
    )
    years = [number % 7 for number in range(N)]
    docs.add(range(N), vectors, year=years, content=[f"y{year} all" for year in years])
    docs.load(route="flat")
    yield docs, vectors
    server.drop(docs.name)


def likeness(metric, a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "l2":
        return -math.dist(a, b)
    return float(a @ b) / (1 if metric == "inner_product" else math.hypot(*a) * math.hypot(*b))


def varied(metric, query, vectors, keys, weight, k):
    """Carbonell & Goldstein's formula, word for word."""
    chosen, rest = [], list(keys)
    while rest and len(chosen) < k:
        scores = [
            weight * likeness(metric, query, vectors[key])
            - (1 - weight) * max(likeness(metric, vectors[key], vectors[own]) for own in chosen)
            if chosen
            else likeness(metric, query, vectors[key])
            for key in rest
        ]
        chosen.append(rest.pop(int(np.argmax(scores))))
    return chosen


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@given(
    seed=st.integers(0, 10**6),
    weight=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    k=st.integers(1, 12),
    candidates=st.none() | st.integers(12, 70),
    where=st.sampled_from([None, {"year": {"$gte": 5}}]),
)
@settings(max_examples=15)
def test_variety_is_what_the_formula_gives(loaded, engine, seed, weight, k, candidates, where):
    docs, vectors = loaded
    query = np.random.default_rng(seed).standard_normal(DIMS).astype(np.float32)
    width = candidates or max(4 * k, 20)
    nearest = docs.search(query, k=width, where=where, exact=True).ids.tolist()

    hits = docs.search(query, k=k, mmr=weight, candidates=candidates, where=where, **engine)

    want = varied(docs.metric.value, query, vectors, nearest, weight, k)
    assert hits.ids.tolist() == want
    distances = docs.metric.distances(query.astype(float), vectors[want].astype(float))
    np.testing.assert_allclose(hits.distances, distances, atol=1e-5)
    assert hits.vectors is None
    assert not hits.columns


def test_variety_beside_groups_limits_likes_and_batches(loaded):
    docs, vectors = loaded
    batch = docs.search(vectors[:3], k=4, mmr=0.5, vectors=True, columns=["year"])
    for number in range(3):
        alone = docs.search(vectors[number], k=4, mmr=0.5)
        assert batch[number].ids.tolist() == alone.ids.tolist()
    np.testing.assert_array_equal(batch.vectors, vectors[batch.ids])

    groups = docs.search(vectors[0], k=7, mmr=0.2, group_by="year", columns=["year"])
    assert sorted(groups.columns["year"]) == list(range(7))
    assert 5 not in docs.search(like=5, k=9, mmr=0.1).ids
    limit = float(docs.search(vectors[0], k=6).distances[-1])
    assert docs.search(vectors[0], k=9, mmr=0.1, max_distance=limit).ids.shape == (6,)


@pytest.mark.parametrize("engine", [*ENGINES, {"text": "y3 all"}, {"group_by": "year"}], ids=str)
@given(
    offset=st.integers(0, 70),
    k=st.integers(1, 20),
    where=st.sampled_from([None, {"year": {"$gte": 4}}]),
)
@settings(max_examples=15)
def test_pages_add_up_to_one_long_list(loaded, engine, offset, k, where):
    docs, vectors = loaded
    asked = {"where": where, **engine, "columns": ["year"]}
    if "text" in engine:
        asked["exact"] = True
        asked["fusion"] = (1, 1)
        k = 30 - min(offset, 29)  # lists of one length are fused
    whole = docs.search(vectors[7], k=offset + k, **asked)

    page = docs.search(vectors[7], k=k, offset=offset, **asked)

    assert page.ids.tolist() == whole.ids[offset:].tolist()
    assert page.distances.tolist() == whole.distances[offset:].tolist()
    assert page.columns["year"].tolist() == whole.columns["year"][offset:].tolist()


def test_pages_of_a_batch(loaded):
    docs, vectors = loaded

    pages = docs.search(vectors[:4], k=5, offset=10, vectors=True)

    assert pages.ids.tolist() == docs.search(vectors[:4], k=15).ids[:, 10:].tolist()
    np.testing.assert_array_equal(pages.vectors, vectors[pages.ids])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mmr": 1.5}, "mmr is 1.5"),
        ({"mmr": "0.5"}, "mmr is '0.5'"),
        ({"mmr": True}, "mmr is True"),
        ({"mmr": 0.5, "candidates": 3}, "wanted at least k, 10"),
        ({"candidates": 30}, "give both"),
        ({"mmr": 0.5, "offset": 1}, "mmr= and offset="),
        ({"mmr": 0.5, "text": "a"}, "mmr= and text="),
        ({"offset": -1}, "offset is -1"),
        ({"offset": 1.5}, "offset is 1.5"),
        ({"candidates": 30, "text": "a"}, "candidates= and text="),
    ],
)
def test_what_cannot_be_meant(loaded, arguments, said):
    docs, vectors = loaded

    with pytest.raises(mrl_db.ValueRangeError, match=said):
        docs.search(vectors[0], k=10, **arguments)
