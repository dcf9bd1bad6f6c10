"""Rows out of frames and whatever else people hold vectors in."""

import datetime
import decimal
import uuid

import duckdb
import numpy as np
import pandas as pd
import pgvector
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db

UTC = datetime.timezone.utc
moments = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2200, 1, 1))
TYPES = {
    "text": (
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        pa.string(),
    ),
    "boolean": (st.booleans(), pa.bool_()),
    "integer": (st.integers(-(2**31), 2**31 - 1), pa.int32()),
    "bigint": (st.integers(1 - 2**53, 2**53 - 1), pa.int64()),  # as pandas makes floats of them
    "real": (st.floats(width=32, allow_nan=False), pa.float32()),
    "double precision": (st.floats(allow_nan=False), pa.float64()),
    "date": (st.dates(datetime.date(1950, 1, 1)), pa.date32()),
    "timestamp": (moments, pa.timestamp("us")),
    "timestamptz": (moments.map(lambda at: at.replace(tzinfo=UTC)), pa.timestamp("us", "UTC")),
    "numeric": (st.decimals(-1000, 1000, places=3), pa.decimal128(10, 3)),
    "uuid": (st.uuids().map(str), pa.string()),
}
COLUMNS = {f"c{number}": sql_type for number, sql_type in enumerate(TYPES)}


@st.composite
def tables(draw):
    """An Arrow table of some chunks, with every type and NULLs."""
    n = draw(st.integers(1, 12))
    arrays = {
        "id": pa.array(range(n), pa.int64()),
        "embedding": pa.array(
            draw(st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=n, max_size=n)),
            pa.list_(pa.float32(), 3),
        ),
        "other": pa.array(["left out"] * n),
    }
    for name, sql_type in COLUMNS.items():
        values, kind = TYPES[sql_type]
        cells = st.lists(st.none() | values, min_size=n, max_size=n)
        arrays[name] = pa.array(draw(cells), kind)
    table = pa.table(arrays)
    cut = draw(st.integers(0, n))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def with_nullable(table):
    return table.to_pandas(types_mapper=pd.ArrowDtype)


SOURCES = {
    "arrow": lambda table: table,
    "reader": lambda table: pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
    "pandas": lambda table: table.to_pandas(),
    "pandas of arrow": with_nullable,
    "polars": pl.from_arrow,
    "duckdb": lambda table: duckdb.from_arrow(table),
    "dicts": lambda table: table.to_pylist(),
    "records of pandas": lambda table: with_nullable(table).to_dict("records"),
}


@pytest.fixture(scope="module")
def typed(server):
    docs = server.create_collection("typed", dims=3, columns=COLUMNS)
    yield docs
    server.drop("typed")


@pytest.mark.parametrize("source", SOURCES)
@given(
    table=tables(),
    method=st.sampled_from(["add", "upsert", "ingest"]),
    result=st.sampled_from(["to_arrow", "to_pandas", "to_polars", "to_list"]),
)
@settings(max_examples=10)
def test_what_goes_in_by_a_frame_comes_out_and_goes_in_again(typed, source, table, method, result):
    """Types, NULLs and chunks; the expected values are Arrow's own."""
    typed.delete(where={})

    assert getattr(typed, method)(SOURCES[source](table)) == len(table)

    records = typed.get(range(len(table)))
    np.testing.assert_array_equal(records.vectors, table["embedding"].to_pylist())
    for name, sql_type in COLUMNS.items():
        want = table[name].to_pylist()
        if sql_type == "uuid":
            want = [None if value is None else uuid.UUID(value) for value in want]
        assert records.columns[name] == want

    typed.delete(where={})
    typed.add(getattr(records, result)())
    again = typed.get(range(len(table)))
    assert again.columns == records.columns
    np.testing.assert_array_equal(again.vectors, records.vectors)


@pytest.fixture
def docs(db):
    columns = {"year": "integer", "day": "date", "title": "text", "score": "double precision"}
    return db.create_collection("docs", dims=3, metric="l2", columns=columns)


def test_a_frame_of_pandas_whose_integers_became_floats_beside_missing_ones(docs):
    frame = pd.DataFrame(
        {
            "embedding": [[1, 0, 0], np.ones(3), (0.5, 1, 2)],
            "year": [2020, None, 2021],
            "day": pd.to_datetime(["2026-01-02", None, "2026-01-03"]),
            "title": ["a", np.nan, None],
            "score": [0.5, np.nan, 1.0],
        },
        index=pd.Index([7, 8, 9], name="id"),
    )
    assert frame["year"].dtype == float

    docs.add(frame)

    records = docs.get([7, 8, 9])
    assert records.vectors.tolist() == [[1, 0, 0], [1, 1, 1], [0.5, 1, 2]]
    assert records.columns == {
        "year": [2020, None, 2021],
        "day": [datetime.date(2026, 1, 2), None, datetime.date(2026, 1, 3)],
        "title": ["a", None, None],
        "score": [0.5, None, 1.0],
    }


def test_columns_of_frames_in_place_of_lists(docs):
    frame = pd.DataFrame({"id": [1, 2], "v": [[1, 0, 0], [0, 1, 0]], "year": [2020, None]})
    docs.add(frame["id"], frame["v"], year=frame["year"])
    other = pl.DataFrame({"id": [3, 4], "v": [[1.0, 0, 0], [0, 0, 1]], "year": [None, 1]})
    docs.add(other["id"], other["v"], year=other["year"])
    third = pa.table({"id": [5], "v": [[1.0, 2.0, 3.0]], "year": [5]})
    docs.add(third["id"], third["v"], year=third["year"])

    assert docs.get(pd.Series([1, 2, 3, 4, 5])).columns["year"] == [2020, None, None, 1, 5]
    assert docs.delete(frame["id"]) == 2


def test_dicts_with_holes(docs):
    rows = [{"id": number, "embedding": [number, 1, 1]} for number in range(9000)]
    rows[3]["title"] = "three"
    rows[4] |= {"title": float("nan"), "score": float("nan"), "day": pd.NaT}

    assert docs.ingest(rows[:5]) == 5
    assert docs.ingest(iter(rows[5:]), index=False) == 8995

    titles = docs.get(range(5), columns=["title", "score"]).columns
    assert titles["title"] == [None, None, None, "three", None]
    assert np.isnan(titles["score"][4])  # a number, in a column of floats


class Tensor:
    """What is used of a PyTorch tensor, on another device and with a gradient."""

    def __init__(self, values, dtype="torch.float32", here=False):
        self.values, self.dtype, self.here = values, dtype, here

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.values, self.dtype, here=True)

    def float(self):
        return Tensor(self.values, here=True)

    def __array__(self, dtype=None, copy=None):
        if not self.here or self.dtype == "torch.bfloat16":
            raise TypeError("can't convert it")
        return np.asarray(self.values, np.float32)


@pytest.mark.parametrize(
    "vectors",
    [
        [[1, 0, 2], [3, 4, 5]],
        ((1, 0, 2), (3, 4, 5)),
        [pgvector.Vector([1, 0, 2]), pgvector.Vector([3, 4, 5])],
        [pgvector.HalfVector([1, 0, 2]), pgvector.HalfVector([3, 4, 5])],
        Tensor([[1, 0, 2], [3, 4, 5]]),
        Tensor([[1, 0, 2], [3, 4, 5]], "torch.bfloat16"),
        [Tensor([1, 0, 2]), Tensor([3, 4, 5])],
        pd.DataFrame([[1.0, 0, 2], [3, 4, 5]]),
        pa.array([[1.0, 0, 2], [3, 4, 5]], pa.list_(pa.float32(), 3)),
    ],
    ids=lambda vectors: type(vectors).__name__,
)
def test_vectors_as_people_hold_them(docs, vectors):
    docs.add([1, 2], vectors)

    assert docs.get([1, 2]).vectors.tolist() == [[1, 0, 2], [3, 4, 5]]
    if not isinstance(vectors, (pd.DataFrame, Tensor, pa.Array)):
        assert docs.search(vectors[1], k=1).ids.tolist() == [2]
    assert docs.search(vectors, k=1).ids.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ([1, 2], mrl_db.ShapeError, "without vectors; wanted"),
        (pd.DataFrame({"id": [1]}), mrl_db.ValueRangeError, "no column 'embedding'.*it has id"),
        (pl.DataFrame({"embedding": [[1.0]]}), mrl_db.ValueRangeError, "no column 'id'"),
        (
            pa.table([[1], [[1.0, 2, 3]], [1], [2]], ["id", "embedding", "year", "year"]),
            mrl_db.ValueRangeError,
            "two columns 'year'",
        ),
        (
            pd.DataFrame([[1, 1, [1.0, 2, 3]]], columns=["id", "id", "embedding"]),
            mrl_db.ValueRangeError,
            "two columns 'id'",
        ),
        (
            pa.table(
                {"id": [1], "embedding": [[1.0, 2, 3]], "day": pa.array([2**30], pa.date32())}
            ),
            mrl_db.ValueRangeError,
            r"column 'day' is date32\[day\], row 0 of a batch",
        ),
        (
            pa.table(
                {"id": [1], "embedding": [[1.0, 2, 3]]}
                | {"title": pa.array([b"\xff"]).view(pa.string())}
            ),
            mrl_db.ValueRangeError,
            "column 'title' is string, row 0 of a batch",
        ),
        (
            pa.table(
                {"id": [1], "embedding": [[1.0, 2, 3]]}
                | {"day": pa.array([0], pa.timestamp("us", "Mars/Olympus"))}
            ),
            mrl_db.ValueRangeError,
            "column 'day' is timestamp.*row 0 of a batch",
        ),
        (
            pl.DataFrame({"id": [1], "embedding": [[1.0, 2, 3]]}).with_columns(
                pl.Series("year", [1], dtype=pl.Int128)
            ),
            mrl_db.DtypeError,
            "cannot be read as Arrow.*cast the column",
        ),
        (
            pd.DataFrame({"id": [1, 2], "embedding": [[1, 2, 3], None]}),
            mrl_db.ValueRangeError,
            "'embedding' has 1 missing values.*dropna",
        ),
        ([{"id": 1, "embedding": [1, 2, 3]}, {"id": 2}], mrl_db.ValueRangeError, "row 1 has no"),
        ([{"id": 1, "embedding": [1, 2, 3]}, 5], mrl_db.ShapeError, "row 1 is a int"),
        (
            [{"id": 1, "embedding": [1, 2, 3], "year": 2020.5}],
            mrl_db.DtypeError,
            "column 'year' is integer, row 0 has 2020.5",
        ),
        ([{"id": 1, "embedding": [1, 2, 3], "year": 2.0**60}], mrl_db.DtypeError, "year"),
        (
            [{"id": 1, "embedding": [1, 2, 3], "day": datetime.datetime(2026, 1, 1, 9)}],
            mrl_db.DtypeError,
            "column 'day' is date",
        ),
        (
            pa.table({"id": [1], "embedding": pa.array([[1, 2, 3]], pa.list_(pa.int8()))}),
            mrl_db.DtypeError,
            "wanted floats",
        ),
    ],
)
def test_frames_that_are_refused_leave_nothing(docs, source, error, said):
    with pytest.raises(error, match=said):
        docs.add(source)

    assert docs.count() == 0


@pytest.mark.parametrize(
    "vectors",
    [[np.array([1, 2, 3])], np.array([[1, 2, 3]]), [[True, False, True]], [[2**64, 1, 1]]],
)
def test_integers_of_arrays_are_refused(docs, vectors):
    with pytest.raises(mrl_db.DtypeError, match="wanted float32"):
        docs.add([1], vectors)


def test_keys_and_exact_numbers_by_their_text(db):
    docs = db.create_collection(
        "docs", dims=2, key_type="uuid", columns={"price": "numeric", "owner": "uuid"}
    )
    key, owner = uuid.UUID(int=1), uuid.UUID(int=2)
    frame = pl.DataFrame(
        {"id": [str(key)], "embedding": [[1.0, 2.0]], "price": ["1.250"], "owner": [str(owner)]}
    )

    docs.add(frame)
    docs.upsert(frame.to_pandas())

    want = {"price": [decimal.Decimal("1.250")], "owner": [owner]}
    assert docs.get(key).columns == want


def test_a_frame_beside_columns_is_refused(docs):
    with pytest.raises(mrl_db.ShapeError, match="a frame brings its own"):
        docs.add(pd.DataFrame({"id": [1], "embedding": [[1, 2, 3]]}), title=["a"])


def test_columns_of_a_file_under_other_names(docs):
    frame = pl.DataFrame({"key": [1], "v": [[1.0, 2.0, 3.0]], "title": ["a"]})

    assert docs.ingest(frame, id="key", vector="v") == 1
    assert docs.get(1).columns["title"] == ["a"]
