"""Rows without a vector: written, read, counted, filtered, and never an answer of a search."""

import asyncio

import evaluator
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db.learn import Rotation

DIMS = 3
KEYS = st.lists(st.integers(0, 7), unique=True, max_size=5)
VECTOR = st.none() | st.tuples(*[st.integers(-4, 4)] * DIMS)
YEAR = st.none() | st.integers(2000, 2003)


@st.composite
def writes(draw):
    """One write: its name, keys, a vector or None for each, a year for each."""
    keys = draw(KEYS)
    kind = draw(st.sampled_from(["skip", "upsert", "years", "no years", "update", "delete"]))
    return kind, keys, [draw(VECTOR) for _ in keys], [draw(YEAR) for _ in keys]


def write(docs, kind, keys, vectors, years):
    listed = [None if vector is None else list(vector) for vector in vectors]
    if kind == "skip":
        return docs.add(keys, listed, on_conflict="skip", year=years)
    if kind == "upsert":
        return docs.upsert(keys, listed, year=years)
    if kind == "years":
        return docs.upsert(keys, year=years)
    if kind == "no years":
        return docs.upsert(keys)
    return docs.update(keys, year=years) if kind == "update" else docs.delete(keys)


def write_twin(rows, kind, keys, vectors, years):
    there = set(rows) & set(keys)
    for key, vector, year in zip(keys, vectors, years, strict=True):
        old_vector, old_year = rows.get(key, (None, None))
        if kind == "upsert" or (kind == "skip" and key not in there):
            rows[key] = vector, year
        elif kind == "years" or (kind == "update" and key in there):
            rows[key] = old_vector, year
        elif kind == "no years":
            rows[key] = old_vector, old_year
        elif kind == "delete":
            rows.pop(key, None)
    return {"skip": len(keys) - len(there), "update": len(there), "delete": len(there)}.get(
        kind, len(keys)
    )


@pytest.fixture(scope="module")
def loaded(server):
    docs = server.create_collection(
        "some", dims=DIMS, metric="l2", columns={"year": "integer"}, vectors_required=False
    )
    docs.load()
    yield docs
    server.drop("some")


FILTERS = [
    None,
    {"year": {"$gte": 2002}},
    {"embedding": None},
    {"embedding": {"$exists": True}},
    {"$or": [{"embedding": {"$ne": None}}, {"year": None}]},
]


@given(st.lists(writes(), min_size=1, max_size=6), VECTOR.filter(bool))
@settings(max_examples=40)
def test_rows_are_what_a_dict_of_rows_is(loaded, history, query):
    loaded.delete(where={})
    rows = {}

    for each in history:
        assert write(loaded, *each) == write_twin(rows, *each), each[0]

    for where in FILTERS:
        chosen = {
            key: row
            for key, row in sorted(rows.items())
            if evaluator.holds(where, {"embedding": row[0], "year": row[1]})
        }
        scanned = loaded.scan(where, vectors=True, page=3).records()
        assert loaded.count(where) == len(chosen)
        assert scanned.ids.tolist() == list(chosen)
        assert scanned.columns["year"] == [year for _, year in chosen.values()]
        want = [[np.nan] * DIMS if vector is None else vector for vector, _ in chosen.values()]
        np.testing.assert_array_equal(scanned.vectors, np.array(want).reshape(-1, DIMS))
        np.testing.assert_array_equal(loaded.get(list(chosen)).vectors, scanned.vectors)
        nearest = sorted(
            (np.linalg.norm(np.subtract(query, vector)), key)
            for key, (vector, _) in chosen.items()
            if vector is not None
        )[:3]
        for engine in ("sql", "native"):
            hits = loaded.search(query, k=3, where=where, engine=engine)
            assert hits.ids.tolist() == [key for _, key in nearest], (where, engine)


@pytest.fixture
def docs(db):
    return db.create_collection(
        "docs", dims=2, columns={"title": "text"}, metadata=True, vectors_required=False
    )


def test_many_rows_some_without_a_vector(docs):
    vectors = np.random.default_rng(0).standard_normal((20_000, 2)).astype(np.float32)
    listed = [None if number % 3 == 0 else row for number, row in enumerate(vectors)]

    docs.add(range(20_000), listed)
    docs.upsert(range(20_000), title=["same"] * 20_000)
    docs.ingest([(range(20_000, 20_003), None, {"title": ["late"] * 3})])

    assert docs.count({"embedding": None}) == 6_667 + 3
    assert docs.count({"title": "same", "embedding": {"$exists": True}}) == 13_333
    np.testing.assert_array_equal(docs.get([1, 19_999]).vectors, vectors[[1, 19_999]])
    assert docs.search(vectors[1], k=1, exact=True).ids.tolist() == [1]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist])
@pytest.mark.parametrize("write", ["add", "ingest", "upsert"])
def test_frames_have_null_for_no_vector_and_may_lack_the_column(docs, make, write):
    rows = [
        {"id": 1, "embedding": [1.0, 2.0], "title": "a"},
        {"id": 2, "embedding": None, "title": "b"},
    ]

    assert getattr(docs, write)(make(rows)) == 2
    assert getattr(docs, write)(make([{"id": 3, "title": "c"}])) == 1
    assert getattr(docs, write)(make([{"id": 4, "embedding": None, "title": "d"}])) == 1

    assert docs.count() == 4
    assert [row["embedding"] is None for row in docs.get([1, 2, 3, 4]).to_list()] == [
        False,
        True,
        True,
        True,
    ]
    assert docs.count({"embedding": {"$exists": True}}) == 1


@pytest.mark.parametrize("form", ["to_list", "to_pandas", "to_polars", "to_arrow"])
def test_what_comes_out_goes_in_again(docs, form):
    docs.add([1, 2, 3], [[1, 2], None, [3, 4]], title=["a", "b", "c"])
    before = docs.get([1, 2, 3])

    docs.delete(where={})
    docs.add(getattr(before, form)())

    after = docs.get([1, 2, 3])
    np.testing.assert_array_equal(after.vectors, before.vectors)
    assert after.columns == before.columns
    assert before.to_arrow()["embedding"].null_count == 1
    assert before.to_arrow().schema == docs.get([1]).to_arrow().schema


def test_a_row_like_which_others_shall_be_has_a_vector(docs):
    docs.add([1, 2], [None, [1, 1]])

    with pytest.raises(mrl_db.ValueRangeError, match="no row 1 with a vector"):
        docs.search(like=1)
    assert docs.search([1, 1], k=5, vectors=True).ids.tolist() == [2]


def test_where_vectors_are_required_none_is_refused_with_the_way_out(db):
    docs = db.create_collection("docs", dims=2, columns={"title": "text"})

    with pytest.raises(mrl_db.ValueRangeError, match="row 1 is None.*vectors_required=False"):
        docs.add([1, 2], [[1, 2], None])
    with pytest.raises(mrl_db.ShapeError, match="without vectors"):
        docs.add([1, 2], title=["a", "b"])
    assert docs.count() == 0


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([None, [1, np.nan]], "row 1: a NaN"),
        ([None, [1, 2, 3]], "3 dims"),
        ([[1, 2]], "2 ids for 1 vectors"),
        (np.full((2, 2), np.nan), "row 0: a NaN"),
    ],
)
def test_what_is_given_is_checked_all_the_same(docs, vectors, said):
    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.add([1, 2], vectors)

    assert docs.count() == 0


@pytest.mark.parametrize("where", [{"embedding": [1, 2]}, {"embedding": {"$in": [[1, 2]]}}])
def test_vectors_are_not_filtered_by(docs, where):
    with pytest.raises(mrl_db.FilterError, match="searched for"):
        docs.count(where)


def test_an_adaptor_changes_the_vectors_that_are_there(db):
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    adaptor = Rotation.fit(rows)
    plain = db.create_collection("plain", dims=4, vectors_required=False)
    plain.add([0, 1, 2], [rows[0], None, rows[2]])

    copied = plain.adapt("copied", adaptor)
    made = db.create_collection("made", dims=4, adaptor=adaptor, vectors_required=False)
    given = rows[[0, 2]].copy()
    made.add([0, 1, 2], [given[0], None, given[1]])

    want = np.vstack([adaptor.apply(rows[0]), np.full(4, np.nan), adaptor.apply(rows[2])])
    for docs in (copied, made):
        np.testing.assert_allclose(docs.get([0, 1, 2]).vectors, want, rtol=1e-5)
    np.testing.assert_array_equal(given, rows[[0, 2]])


def test_a_collection_is_opened_if_it_takes_what_is_given(db):
    db.create_collection("strict", dims=2)
    db.create_collection("loose", dims=2, vectors_required=False)

    assert db.create_collection("loose", dims=2, if_exists="open").count() == 0
    with pytest.raises(mrl_db.CollectionExistsError, match="vectors_required is True, not False"):
        db.create_collection("strict", dims=2, vectors_required=False, if_exists="open")


def test_tasks_write_and_read_them_alike(dsn):
    async def main():
        async with await mrl_db.connect_async(dsn) as db:
            docs = await db.create_collection("docs", dims=2, vectors_required=False)
            await docs.add([1, 2], [[1, 1], None])
            await docs.upsert([3])
            pages = [page.ids.tolist() async for page in docs.scan({"embedding": None}, page=1)]
            return await docs.count(), pages, (await docs.search([1, 1], k=3)).ids.tolist()

    assert asyncio.run(main()) == (3, [[2], [3]], [1])
