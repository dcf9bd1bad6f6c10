"""Rows by filter: scanned page by page, updated without their vectors, skipped where they are."""

import decimal
import uuid

import duckdb
import evaluator
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db.learn import Rotation

COLUMNS = {"year": "integer", "title": "text", "tags": "text[]", "meta": "jsonb"}
N = 50


def key_of(kind, number):
    return {"uuid": uuid.UUID(int=number), "text": f"k{number:03}"}.get(kind, number)


@pytest.fixture(scope="module", params=["bigint", "text", "uuid"])
def filled(server, request):
    name = f"scanned_{request.param}"
    docs = server.create_collection(name, dims=3, key_type=request.param, columns=COLUMNS)
    keys = [
        key_of(request.param, number) for number in np.random.default_rng(0).permutation(N).tolist()
    ]
    years = [None if number % 5 == 0 else 2000 + number % 7 for number in range(N)]
    docs.add(keys, np.random.default_rng(1).standard_normal((N, 3)), year=years)
    yield docs, sorted(zip(keys, years, strict=True))
    server.drop(name)


@given(
    where=st.sampled_from([None, {"year": {"$gte": 2003}}, {"year": None}, {"year": 1}]),
    after=st.none() | st.integers(0, N - 1),
    limit=st.none() | st.integers(1, N + 5),
    page=st.integers(1, N + 5),
)
@settings(max_examples=30)
def test_pages_add_up_to_what_a_filter_selects_in_the_order_of_keys(
    filled, where, after, limit, page
):
    docs, rows = filled
    first = None if after is None else rows[after][0]
    want = [
        (key, year)
        for key, year in rows
        if evaluator.holds(where, {"year": year}) and (first is None or key > first)
    ][:limit]

    pages = list(docs.scan(where, columns=["year"], after=first, limit=limit, page=page))

    assert [
        (k, y) for p in pages for k, y in zip(p.ids.tolist(), p.columns["year"], strict=True)
    ] == want
    assert [len(p) for p in pages[:-1]] == [page] * (len(pages) - 1)
    assert all(len(p) for p in pages)


def test_a_scan_brings_vectors_and_all_columns_if_asked(filled):
    docs, rows = filled
    keys = [key for key, _ in rows]

    bare, full = docs.scan(page=7).records(), docs.scan(vectors=True, page=7).records()

    stored = docs.get(keys)
    np.testing.assert_array_equal(full.vectors, stored.vectors)
    assert full.columns == bare.columns == stored.columns
    assert bare.vectors.shape == (N, 0)
    assert bare.to_arrow().column_names == ["id", *COLUMNS]
    assert full.to_arrow().schema == stored.to_arrow().schema


def test_frames_read_a_scan_batch_by_batch(filled):
    docs, rows = filled
    years = docs.scan(columns=["year"], page=7)

    batches = list(years.to_batches())
    assert [batch.num_rows for batch in batches] == [7] * 7 + [1]
    assert len({batch.schema for batch in batches}) == 1
    assert pl.DataFrame(years)["year"].to_list() == [year for _, year in rows]
    assert duckdb.sql("SELECT count(*) FROM years").fetchall() == [(N,)]
    assert (
        pl.DataFrame(docs.scan({"year": 1}, columns=["year"])).schema == pl.DataFrame(years).schema
    )
    assert docs.scan(columns=[], limit=1).to_list() == [{"id": rows[0][0]}]


def test_a_scan_that_is_left_holds_no_connection(dsn):
    with mrl_db.connect(dsn, pool_size=1) as db:
        docs = db.create_collection("docs", dims=2)
        docs.add(range(10), np.ones((10, 2)))
        pages = iter(docs.scan(page=3))

        assert next(pages).ids.tolist() == [0, 1, 2]
        docs.delete([3])
        docs.add([11], np.ones((1, 2)))

        assert [key for page in pages for key in page.ids.tolist()] == [4, 5, 6, 7, 8, 9, 11]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"after": "x"}, "the key is bigint"),
        ({"limit": 0}, "limit is 0"),
        ({"page": 0}, "page is 0"),
        ({"columns": ["nothing"]}, "no column 'nothing'"),
        ({"where": {"nothing": 1}}, "no column 'nothing'"),
    ],
)
def test_scans_that_cannot_be_meant(docs, arguments, said):
    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.scan(**arguments)


@pytest.fixture
def docs(db):
    columns = {**COLUMNS, "price": "numeric", "percent %s": "real"}
    docs = db.create_collection("docs", dims=3, columns=columns)
    docs.add(range(6), np.eye(6, 3) + 1, year=range(2000, 2006))
    return docs


def test_an_update_gives_each_row_its_own_values_and_leaves_the_vectors(docs):
    before = docs.get(range(6))

    changed = docs.update(
        [4, 1, 77],
        title=["four", None, "nobody's"],
        meta=[{"a": 1}, None, "text"],
        tags=[["x"], [], None],
        price=[decimal.Decimal("1.50"), None, 3],
    )

    assert changed == 2
    after = docs.get(range(6))
    np.testing.assert_array_equal(after.vectors, before.vectors)
    assert after.columns["year"] == before.columns["year"]
    assert after.columns["title"] == [None, None, None, None, "four", None]
    assert after.columns["meta"][4] == {"a": 1}
    assert after.columns["tags"] == [None, [], None, None, ["x"], None]
    assert after.columns["price"][4] == decimal.Decimal("1.50")


def test_one_value_for_several_rows_for_one_and_for_a_filter(docs):
    assert docs.update([1, 2], title="same", meta={"b": 2}) == 2
    assert docs.update(3, title="alone", tags=["p", "q"]) == 1
    assert docs.update(where={"year": {"$gte": 2004}}, title="late", tags=["r"], meta={"c": 3}) == 2
    assert docs.update(where={"year": 2000}, **{"percent %s": 0.5}) == 1

    columns = docs.get(range(6)).columns
    assert columns["title"] == [None, "same", "same", "alone", "late", "late"]
    assert columns["tags"] == [None, None, None, ["p", "q"], ["r"], ["r"]]
    assert columns["meta"] == [None, {"b": 2}, {"b": 2}, None, {"c": 3}, {"c": 3}]
    assert columns["percent %s"] == [0.5, None, None, None, None, None]


def test_an_update_of_more_rows_than_a_statement_takes(docs):
    keys = range(10, 2510)
    docs.add(keys, np.ones((2500, 3)))

    assert docs.update(keys, year=keys, title=[str(key) for key in keys]) == 2500
    assert docs.get(keys).columns["year"] == list(keys)


def test_an_update_is_seen_by_searches_over_loaded_rows(docs):
    docs.load()
    assert docs.search([1, 1, 1], where={"title": "new"}).ids.tolist() == []

    docs.update([2], title="new")

    assert docs.search([1, 1, 1], where={"title": "new"}).ids.tolist() == [2]


def test_an_update_is_whole_or_absent_and_written_once_for_a_batch_id(docs):
    with pytest.raises(mrl_db.MrlDbError):
        docs.update([1, 2], year=[7, 2**40])
    assert docs.get([1, 2]).columns["year"] == [2001, 2002]

    assert docs.update([1], year=7, batch_id="b") == 1
    assert docs.update([1], year=8, batch_id="b") == 1
    assert docs.get(1).columns["year"] == [7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"title": "x"}, "ids or where="),
        ({"ids": [1], "where": {}, "title": "x"}, "ids or where="),
        ({"ids": [1]}, "got no columns"),
        ({"ids": [1], "embedding": [1]}, "no column 'embedding'"),
        ({"ids": [1, 1], "title": "x"}, "stands twice"),
        ({"ids": [1, 2], "title": ["x"]}, "1 values for 2 rows"),
        ({"where": {}, "year": "x"}, "wanted an integer"),
        ({"where": {}, "year": [2000]}, "wanted an integer"),
    ],
)
def test_updates_that_cannot_be_meant(docs, arguments, said):
    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.update(**arguments)

    assert docs.get(range(6)).columns["title"] == [None] * 6


def test_rows_that_are_there_are_skipped_if_asked(docs):
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([5, 6], np.ones((2, 3)))

    assert docs.add([5, 6], np.ones((2, 3)), on_conflict="skip", title=["old", "new"]) == 1
    assert docs.add([5, 6], np.ones((2, 3)), on_conflict="skip") == 0
    assert docs.get([5, 6]).columns["title"] == [None, "new"]
    with pytest.raises(mrl_db.ValueRangeError, match="on_conflict is 'replace'"):
        docs.add([5], np.ones((1, 3)), on_conflict="replace")


def test_columns_that_another_client_adds_later(docs, execute):
    execute("ALTER TABLE docs ADD COLUMN later integer DEFAULT 5")

    assert docs.update([1], later=6) == 1
    assert docs.scan({"later": 6}, columns=["later"]).records().ids.tolist() == [1]
    execute("ALTER TABLE docs ADD COLUMN last integer DEFAULT 5")
    assert docs.search([1, 1, 1], group_by="last").ids.shape == (1,)


def test_rows_with_keys_of_an_identity_column_are_skipped(db, execute):
    execute(
        "CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "embedding vector(3))"
    )
    docs = db.attach("made")

    assert docs.add([1], np.ones((1, 3)), on_conflict="skip") == 1
    assert docs.add([1, 2], np.ones((2, 3)), on_conflict="skip") == 1


def test_a_collection_is_created_or_opened(db):
    made = {"dims": 8, "nesting_dims": (4, 8), "metric": "l2", "columns": {"year": "int"}}
    docs = db.create_collection("docs", **made, if_exists="open")
    docs.add([1], np.ones((1, 8)))

    again = db.create_collection("docs", **made, if_exists="open")
    assert again.count() == 1
    assert db.create_collection("docs", dims=8, metric="l2", if_exists="open").count() == 1
    with pytest.raises(mrl_db.CollectionExistsError):
        db.create_collection("docs", **made)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"dims": 9, "nesting_dims": (4, 9)}, "its dims is 8, not 9"),
        ({"metric": "cosine"}, "its metric is l2, not cosine"),
        ({"key_type": "text"}, "its key_type is bigint, not text"),
        ({"nesting_dims": (2, 8)}, r"its nesting_dims is \(4, 8\), not \(2, 8\)"),
        ({"columns": {"year": "text"}}, "its column 'year' is integer, not text"),
        ({"columns": {"title": "text"}}, "its column 'title' is missing, not text"),
        ({"schema": "mrl"}, "its schema is public, not mrl"),
    ],
)
def test_a_collection_that_does_not_fit_is_not_opened(db, other, said):
    made = {"dims": 8, "nesting_dims": (4, 8), "metric": "l2", "columns": {"year": "integer"}}
    db.create_collection("docs", **made)

    with pytest.raises(mrl_db.CollectionExistsError, match=said):
        db.create_collection("docs", **{**made, **other}, if_exists="open")


def test_an_adaptor_must_be_the_same_one(db):
    rows = np.random.default_rng(2).standard_normal((40, 4), dtype=np.float32)
    adaptor, other = Rotation.fit(rows), Rotation.fit(rows[:20])
    db.create_collection("docs", dims=4, adaptor=adaptor)

    assert (
        db.create_collection("docs", dims=4, adaptor=adaptor, if_exists="open").adaptor is not None
    )
    for adaptor in (None, other):
        with pytest.raises(mrl_db.CollectionExistsError, match="its adaptor is another one"):
            db.create_collection("docs", dims=4, adaptor=adaptor, if_exists="open")


def test_a_database_is_asked_like_a_dict(db, execute):
    db.create_collection("docs", dims=3)
    execute("CREATE TABLE plain (id int)")

    assert "docs" in db
    assert "plain" not in db
    assert 7 not in db
    assert db["docs"].dims == 3
    assert list(db) == ["docs"]
    with pytest.raises(mrl_db.CollectionNotFoundError):
        db["plain"]
    with pytest.raises(mrl_db.CollectionExistsError, match="relation"):
        db.create_collection("plain", dims=3, if_exists="open")


ARGUMENTS = ("self", "ids", "vectors", "source", "where", "connection", "batch_id", "columns")


def test_columns_that_are_named_like_arguments_come_in_frames(db):
    docs = db.create_collection("docs", dims=3, columns=dict.fromkeys(ARGUMENTS, "integer"))
    rows = [{"id": n, "embedding": [1, 2, 3], **dict.fromkeys(ARGUMENTS, n)} for n in range(3)]
    others = [{"id": n, **dict.fromkeys(ARGUMENTS, n + 10)} for n in range(4)]

    assert docs.add(rows[:1]) + docs.ingest(rows[1:]) == 3
    assert docs.update(others) == docs.update(pl.DataFrame(others)) == 3
    assert docs.get(range(3)).columns == {name: [10, 11, 12] for name in ARGUMENTS}
    assert docs.update(1, self=5) == docs.update(where={"id": 1}, self=5) == 1
    assert docs.get(1).columns["self"] == [5]
    assert docs.add([9], [[1, 2, 3]], self=[6]) == 1

    with pytest.raises(mrl_db.ValueRangeError, match=r"column 'embedding'.*upsert\(\)"):
        docs.update(rows)
    with pytest.raises(mrl_db.ValueRangeError, match="no columns"):
        docs.update([{"id": 1}])
    with pytest.raises(mrl_db.ValueRangeError, match="row 1 has no 'id'"):
        docs.update([{"id": 1, "self": 2}, {"self": 3}])
