"""Sources of every kind: of no rows, with JSON and arrays, missing ids, masks, odd containers."""

import decimal
import re
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mrl_db
from mrl_db.faces import sources


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=3, metric="l2", columns={"year": "integer"})


def frames_of(rows):
    """The same rows as each kind of frame has them."""
    table = pa.Table.from_pylist(rows)
    kinds = {
        "pandas": pd.DataFrame(rows),
        "nullable": table.to_pandas(types_mapper=pd.ArrowDtype),
        "arrow": table,
        "polars": pl.DataFrame(rows),
    }
    if "meta" in table.column_names:
        views = {
            "string_view": pa.string_view(),
            "large": pa.large_string(),
            "dictionary": pa.dictionary(pa.int32(), pa.string()),
        }
        for name, kind in views.items():
            column = pa.array(table["meta"].to_pylist(), pa.string()).cast(kind)
            kinds[name] = table.set_column(table.column_names.index("meta"), "meta", column)
        kinds["categorical"] = kinds["polars"].cast({"meta": pl.Categorical})
    return kinds


@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_json_is_its_text_in_frames_of_every_kind(db, kind):
    docs = db.create_collection("docs", dims=3, columns={"meta": kind})
    texts = ['{"a": 1}', '"a string"', "[1, 2]", None]
    rows = [
        {"id": number, "embedding": [1.0, 2.0, 3.0], "meta": text}
        for number, text in enumerate(texts)
    ]

    for name, frame in frames_of(rows).items():
        docs.upsert(frame)
        want = [{"a": 1}, "a string", [1, 2], None]
        assert docs.get(range(4)).columns["meta"] == want, name
    for form in ("to_pandas", "to_polars", "to_arrow", "to_list"):
        docs.upsert(getattr(docs.get(range(4)), form)())
        assert docs.get(range(4)).columns["meta"] == want, form
    with pytest.raises(mrl_db.DtypeError, match=r"column 'meta' is JSON, row 0 .*json.dumps"):
        docs.add(pd.DataFrame({"id": [9], "embedding": [[1, 2, 3]], "meta": ["{"]}))


@pytest.mark.parametrize("form", ["to_pandas", "to_polars", "to_arrow", "to_list"])
def test_arrays_of_every_kind_come_out_and_go_in_again(db, form):
    columns = {"j": "jsonb[]", "i": "integer[]", "u": "uuid[]", "n": "numeric[]"}
    docs = db.create_collection("docs", dims=3, columns=columns)
    values = {
        "j": [{"a": 1}, "text", None],
        "i": [[1, 2], [3, 4]],
        "u": [uuid.UUID(int=1)],
        "n": [decimal.Decimal("1.50")],
    }
    docs.add([1, 2], np.ones((2, 3), np.float32), **{name: [v, None] for name, v in values.items()})
    before = docs.get([1, 2]).columns

    docs.upsert(getattr(docs.get([1, 2]), form)())

    assert docs.get([1, 2]).columns == before


@pytest.mark.parametrize("method", ["add", "upsert", "ingest"])
def test_no_rows_are_none(docs, method):
    docs.add([1], np.ones((1, 3), np.float32))
    records = docs.get([])
    empty = [
        [],
        pd.DataFrame({"id": [], "embedding": []}),
        pl.DataFrame({"id": [], "embedding": []}),
        pa.table(
            {"id": pa.array([], pa.int64()), "embedding": pa.array([], pa.list_(pa.float32()))}
        ),
        records.to_list(),
        records.to_arrow(),
        records.to_pandas(),
        records.to_polars(),
    ]

    assert [getattr(docs, method)(source) for source in empty] == [0] * len(empty)
    assert docs.ingest([[], ([9], [[1.0, 2, 3]]), records.to_pandas()]) == 1
    assert docs.count() == 2


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None]),
        pl.Series([1, None]),
        pa.array([1, None]),
        pa.chunked_array([[1], [None]]),
    ],
    ids=lambda ids: type(ids).__module__,
)
def test_an_id_that_is_missing_is_named(docs, ids):
    calls = (
        lambda: docs.add(ids, np.ones((2, 3), np.float32)),
        lambda: docs.get(ids),
        lambda: docs.delete(ids),
        lambda: docs.update(ids, year=1),
    )
    for call in calls:
        with pytest.raises(mrl_db.DtypeError, match=r"ids\[1\] is missing"):
            call()


def test_what_a_masked_array_hides_is_refused(docs):
    hidden = np.ma.array([[1.0, 2, 3], [1, 2, 99]], mask=[[0, 0, 0], [0, 0, 1]])
    ids = np.ma.array([7, 8], mask=[0, 1])
    seen = np.ma.array([[1.0, 2, 3]], mask=False)
    assert docs.add(np.ma.array([1]), seen, year=np.ma.array([5], mask=[1])) == 1
    assert docs.get([1]).columns["year"] == [None]

    for vectors in (hidden, list(hidden)):
        with pytest.raises(mrl_db.ValueRangeError, match=r"vectors\[1\]\[2\] is masked"):
            docs.add([2, 3], vectors)
    with pytest.raises(mrl_db.ValueRangeError, match=r"query\[2\] is masked"):
        docs.search(hidden[1], k=1)
    calls = (
        lambda: docs.add(ids, [[1, 2, 3]] * 2),
        lambda: docs.get(ids),
        lambda: docs.delete(ids),
        lambda: docs.update(ids, year=1),
        lambda: docs.search(like=ids, k=1),
    )
    for call in calls:
        with pytest.raises(mrl_db.ValueRangeError, match=r"ids\[1\] is masked"):
            call()


@pytest.mark.parametrize(
    ("ids", "vectors", "columns"),
    [
        ([1], (vector for vector in [[1.0, 2, 3]]), {}),
        ({1}, [[1.0, 2, 3]], {}),
        ([1], [[1.0, 2, 3]], {"year": 5}),
        ([1], [[1.0, 2, 3]], {"year": np.array(3)}),
        ([1], [[1.0, 2, 3]], {"year": {5}}),
        ([1], [[1.0, 2, 3]], {"year": {0: 5}}),
        ([1], np.array(3.0), {}),
        (np.array(1), [[1.0, 2, 3]], {}),
        (1, [[1.0, 2, 3]], {}),
    ],
)
def test_ingest_refuses_the_containers_that_add_refuses(docs, ids, vectors, columns):
    said = set()
    for method in (docs.add, docs.ingest):
        with pytest.raises((mrl_db.ShapeError, mrl_db.DtypeError)) as error:
            method(ids, vectors, **columns)
        said.add(re.sub("0x[0-9a-f]+", "", str(error.value)))

    assert len(said) == 1


def test_a_file_with_two_columns_of_one_name_is_refused(docs, tmp_path):
    table = pa.table([[1], [[1.0, 2, 3]], [5], [6]], ["id", "embedding", "year", "year"])
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)

    for read in (
        lambda: docs.ingest(path),
        lambda: sources.parquet_schema(path, "id", "embedding"),
    ):
        with pytest.raises(mrl_db.ValueRangeError, match="two columns 'year'"):
            read()
