"""Results as frames and in notebooks."""

import datetime
import decimal
import pickle
import uuid

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import mrl_db

COLUMNS = {
    "title": "text",
    "price": "numeric",
    "tags": "text[]",
    "meta": "jsonb",
    "year": "integer",
}


@pytest.fixture
def docs(db):
    docs = db.create_collection("docs", dims=3, metric="l2", columns=COLUMNS)
    docs.add(
        [1, 2, 3],
        np.eye(3),
        title=["<b>one</b>", "two", None],
        price=[decimal.Decimal("1.250"), None, None],
        tags=[["a", "b"], [], None],
        meta=[{"a": [1, None]}, None, None],
        year=[2024, None, None],
    )
    return docs


def test_hits_of_one_query_and_of_a_batch_as_frames(docs):
    one = docs.search([1, 0, 0], k=2, columns=["title", "year"])
    batch = docs.search(np.eye(3), k=2, columns=["title", "year"])

    assert one.to_polars().rows() == [
        (1, 0.0, "<b>one</b>", 2024),
        (2, pytest.approx(2**0.5), "two", None),
    ]
    table = batch.to_arrow()
    assert table.column_names == ["query", "rank", "id", "distance", "title", "year"]
    assert table["query"].to_pylist() == [0, 0, 1, 1, 2, 2]
    assert table["id"].to_pylist() == batch.ids.ravel().tolist()
    assert batch.to_pandas()["rank"].tolist() == [0, 1] * 3


def test_frames_read_hits_and_records_without_being_asked(docs):
    hits, records = docs.search([1, 0, 0], k=3, columns=["year"]), docs.get([3, 1])

    assert pa.table(hits).schema.field("year").type == pa.int32()
    assert pl.DataFrame(records)["id"].to_list() == [3, 1]
    assert duckdb.sql("SELECT sum(year) FROM hits").fetchall() == [(2024,)]
    assert pd.DataFrame(hits.to_arrow().to_pandas())["id"].tolist() == hits.ids.tolist()


def test_the_schema_depends_on_the_columns_only(docs):
    every, none = docs.get([1, 2, 3]), docs.get([7])
    nulls = docs.get([3])

    assert every.to_arrow().schema == none.to_arrow().schema == nulls.to_arrow().schema
    assert every.to_arrow().slice(0, 1).to_pylist() == [
        {
            "id": 1,
            "embedding": [1.0, 0.0, 0.0],
            "title": "<b>one</b>",
            "price": "1.250",
            "tags": ["a", "b"],
            "meta": '{"a": [1, null]}',
            "year": 2024,
        }
    ]
    assert none.to_pandas().columns.tolist() == ["id", "embedding", *COLUMNS]


@pytest.mark.parametrize(("key_type", "key"), [("uuid", uuid.UUID(int=7)), ("text", "seven")])
def test_keys_that_are_no_integers_are_text(db, key_type, key):
    docs = db.create_collection("docs", dims=2, key_type=key_type)
    docs.add([key], np.eye(1, 2))

    assert docs.search([1, 0]).to_arrow()["id"].to_pylist() == [str(key)]
    assert docs.get([key]).to_arrow()["id"].to_pylist() == [str(key)]
    docs.delete(where={})
    assert docs.search([1, 0]).to_arrow().schema.field("id").type == pa.string()


def test_notebooks_show_tables_with_every_text_escaped(docs):
    hits = docs.search([1, 0, 0], k=3, columns=["title"])
    shown = hits._repr_html_()

    assert "<td>&lt;b&gt;one&lt;/b&gt;</td>" in shown
    assert "<b>" not in shown
    assert "<caption>3 hits</caption>" in shown
    assert "<caption>9 hits</caption>" in docs.search(np.eye(3), k=3)._repr_html_()
    assert "<th>rows in</th>" in hits.trace._repr_html_()
    assert "<td>title text, price numeric" in docs._repr_html_()


def test_long_batches_are_cut_in_notebooks(docs):
    shown = docs.search(np.tile(np.eye(3), (20, 1)), k=3)._repr_html_()

    assert "180 hits, 130 more" in shown
    assert shown.count("<tr>") == 51


def test_a_promise_in_a_notebook():
    from mrl_db.model.promise import Promise, Recall, Target

    plan = mrl_db.flat_plan(dims=3, k=2)
    recall = Recall(100, 0.99, 0.9, 0.8, 0.98, 1.0)
    promise = Promise(
        "native", Target(0.98), 2, plan, 0.95, recall, "given", 10.0, 20.0, 3, 1, (),
        datetime.datetime(2026, 1, 1), "<i>drift</i>",
    )  # fmt: skip

    shown = promise._repr_html_()

    assert "&lt;i&gt;drift&lt;/i&gt;" in shown
    assert "mean recall 0.98 at k = 2, 95% confidence" in shown


def test_hits_come_back_from_pickle_with_their_trace(docs):
    docs.load()
    asked = [
        docs.search([1, 0, 0], k=2, columns=["title", "meta"], vectors=True),
        docs.search(np.eye(3, dtype=np.float32), k=2),
        docs.search(np.eye(3, dtype=np.float32)[0], k=2),
        docs.search([1, 0, 0], k=2, engine="sql", columns=["price"]),
        docs.search([1, 0, 0], k=2, exact=True),
    ]

    for hits in asked:
        again = pickle.loads(pickle.dumps(hits))
        assert again.to_arrow() == hits.to_arrow()
        assert again.trace == hits.trace
        assert again.certified == hits.certified
