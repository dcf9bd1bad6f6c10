"""Small inputs as people give them: right answers, or a refusal that says the way out."""

import datetime
import subprocess
import sys
import threading
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.learn import Adaptor, Rotation
from mrl_db.learn.layer_norm import LayerNorm
from mrl_db.learn.transform import transform_from_bytes
from mrl_db.model.filters import from_json
from mrl_db.postgres import indexing

DIMS = 4


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


# Arrays in columns, and arguments that are nothing of the kind


@pytest.mark.parametrize(
    "value",
    [("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], dtype=object), ["a", "b"]],
)
def test_a_column_of_arrays_takes_tuples_and_numpys(db, value):
    docs = db.create_collection("docs", dims=DIMS, columns={"tags": "text[]"})

    docs.add([1, 2], vectors(2), tags=[value, None])
    docs.upsert(pd.DataFrame({"id": [3], "embedding": list(vectors(1)), "tags": [value]}))

    assert docs.get([1, 2, 3]).columns["tags"] == [["a", "b"], None, ["a", "b"]]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("x", "wanted a list, or None"),
        ({"a"}, "wanted a list, or None"),
        (b"x", "wanted a list, or None"),
        ([1, "a"], "each of it an integer"),
        ((np.datetime64("2020-01-01"),), "each of it an integer"),
        ([2**31], "from -2147483648"),
        ([[1], 2], "does not fit"),
        ([[]], "does not fit"),
    ],
)
def test_what_is_no_array_of_a_columns_kind_is_refused(db, value, word):
    docs = db.create_collection("docs", dims=DIMS, columns={"numbers": "integer[]"})
    for write in (docs.add, docs.upsert):
        with pytest.raises(mrl_db.DtypeError, match=word):
            write([1], vectors(1), numbers=[value])
    assert docs.count() == 0


@pytest.mark.parametrize("engine", ["sql", "native"])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"k": 2**70}, mrl_db.ValueRangeError),
        ({"columns": None}, mrl_db.ValueRangeError),
        ({"columns": 5}, mrl_db.ValueRangeError),
        ({"threads": 0}, mrl_db.ValueRangeError),
        ({"threads": "2"}, mrl_db.ValueRangeError),
        ({"plan": "graph"}, mrl_db.PlanError),
        ({"plan": 5}, mrl_db.PlanError),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_by_both_engines(db, engine, arguments, error):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add([1, 2], vectors(2))
    docs.load(cache=False)

    with pytest.raises(error, match=next(iter(arguments))):
        docs.search(vectors(1)[0], engine=engine, **arguments)


def test_what_is_no_plan_is_refused_wherever_one_is_given(db):
    docs = db.create_collection("docs", dims=DIMS)
    for take in (
        docs.set_plan,
        lambda plan: docs.load(plan=plan),
        lambda plan: docs.recall(plan=plan),
    ):
        with pytest.raises(mrl_db.PlanError, match="plan is 'graph'"):
            take("graph")
    with pytest.raises(mrl_db.ValueRangeError, match="wanted a dict"):
        db.create_collection("others", dims=DIMS, columns=["year"])
    with pytest.raises(mrl_db.ValueRangeError, match="shortlist_dims is 0"):
        db.create_collection("others", dims=DIMS, shortlist_dims=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pool_size": 0},
        {"pool_size": "4"},
        {"connect_timeout": 0},
        {"connect_timeout": float("nan")},
        {"statement_timeout": -1},
        {"statement_timeout": "1s"},
    ],
)
def test_connections_with_what_cannot_be_meant_are_refused(dsn, arguments):
    with pytest.raises(mrl_db.ValueRangeError, match=next(iter(arguments))):
        mrl_db.connect(dsn, **arguments)
    for other in (5, b"host=localhost"):
        with pytest.raises(mrl_db.ConnectError, match="wanted a connection string"):
            mrl_db.connect(other)


def test_a_database_that_was_closed_says_so(dsn):
    with mrl_db.connect(dsn) as closed:
        pass
    with pytest.raises(mrl_db.ConnectError, match="was closed, by close"):
        closed.list()


@pytest.mark.parametrize("seconds", [0, -1, "60", None, float("nan"), float("inf")])
def test_a_budget_is_a_time(db, seconds):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(20), vectors(20))
    with pytest.raises(mrl_db.ValueRangeError, match="budget_seconds is"):
        docs.tune(recall=0.5, budget_seconds=seconds)


@pytest.mark.parametrize("kind", [Rotation, Adaptor, LayerNorm])
@pytest.mark.parametrize("data", [b"", b"junk", b"\x93NUMPY", b"PK\x03\x04" + bytes(40)])
def test_what_was_not_written_by_us_is_not_read(kind, data):
    for read in (kind.from_bytes, transform_from_bytes):
        with pytest.raises(mrl_db.ValueRangeError, match="of ours"):
            read(data)
    with pytest.raises(mrl_db.ValueRangeError, match="of ours"):  # another one's
        kind.from_bytes(
            (LayerNorm(4) if kind is not LayerNorm else Rotation.fit(vectors(9))).to_bytes()
        )


@pytest.mark.parametrize("made", [None, 5, [[1.0] * DIMS] * 2, []])
def test_an_embedding_function_that_makes_no_vectors_is_named(db, made):
    db.create_collection("docs", dims=DIMS, text="content")
    docs = db.open("docs", embed=lambda _: made)
    for work in (lambda: docs.add_texts([1], ["a"]), lambda: docs.search_text("a")):
        with pytest.raises(mrl_db.ShapeError, match="embed= made"):
            work()


# Names that mean two things


@pytest.mark.parametrize("name", ["index", "upsert", "progress", "id_", "vector", "batch_id"])
def test_a_column_called_like_an_option_is_not_lost(db, name):
    docs = db.create_collection("docs", dims=DIMS, columns={name: "text"})

    if name == "id_":  # no option
        docs.ingest([1, 2], vectors(2), **{name: ["a", "b"]})
    else:
        with pytest.raises(mrl_db.MrlDbError, match="list of dicts|without NUL"):
            docs.ingest([1, 2], vectors(2), **{name: ["a", "b"]})
        assert docs.count() == 0
        frame = pd.DataFrame({"id": [1, 2], "embedding": list(vectors(2)), name: ["a", "b"]})
        docs.ingest(frame)

    assert docs.get([1, 2]).columns[name] == ["a", "b"]


def test_a_batch_id_that_may_be_meant_for_a_column_is_refused(db):
    docs = db.create_collection("docs", dims=DIMS, columns={"batch_id": "text"})
    for write in (docs.add, docs.upsert, docs.ingest):
        with pytest.raises(mrl_db.ValueRangeError, match="has a column batch_id"):
            write([1], vectors(1), batch_id="nightly")

    row = {"id": 1, "embedding": vectors(1)[0], "batch_id": "nightly"}
    assert docs.add([row], batch_id="one") == docs.add([row], batch_id="one") == 1

    assert docs.get([1]).columns["batch_id"] == ["nightly"]


@pytest.mark.parametrize("name", ["id", "distance"])
def test_no_column_stands_where_a_hits_own_does(db, execute, name):
    execute(f"CREATE TABLE t (doc_id bigint PRIMARY KEY, {name} text, embedding vector({DIMS}))")
    docs = db.attach("t", key="doc_id")
    docs.add([7], vectors(1), **{name: ["x"]})

    with pytest.raises(mrl_db.ValueRangeError, match="its own"):
        docs.search(vectors(1)[0], k=1, columns=[name])

    assert docs.get([7]).columns[name] == ["x"]
    assert docs.count({name: "x"}) == 1


@pytest.mark.parametrize("way", ["parquet", "arrow", "pandas", "dicts"])
def test_misspelt_columns_are_named(db, tmp_path, way):
    docs = db.create_collection("docs", dims=DIMS, columns={"title": "text"})
    rows = {"id": [1, 2], "embedding": vectors(2).tolist(), "Title": ["a", "b"]}
    table = pa.table(rows)
    pq.write_table(table, tmp_path / "rows.parquet")
    source = {
        "parquet": tmp_path / "rows.parquet",
        "arrow": table,
        "pandas": table.to_pandas(),
        "dicts": table.to_pylist(),
    }[way]

    with pytest.warns(UserWarning, match=r"left out \(Title\).*title"):
        docs.ingest(source)

    assert docs.count() == 2


# Values


@pytest.mark.parametrize("sql_type", ["timestamp", "timestamptz", "date", "integer", "text"])
@pytest.mark.parametrize("mark", [pd.NaT, pd.NA])
def test_pandas_marks_of_missing_values_are_null(db, sql_type, mark):
    docs = db.create_collection("docs", dims=DIMS, columns={"at": sql_type})

    docs.add([1], vectors(1), at=[mark])
    docs.update([1], at=mark)

    assert docs.get([1]).columns["at"] == [None]
    with pytest.raises(mrl_db.FilterError, match="None for NULL"):
        docs.count({"at": mark})


@pytest.mark.parametrize("scale", [1e19, 1e25, 1e37, 1e-17, 1e-25, 1e-38])
def test_lengths_whose_squares_no_float_holds_are_refused_under_cosine(db, scale):
    docs = db.create_collection("docs", dims=DIMS)
    rows = vectors(30) * np.float32(scale)

    with pytest.raises(mrl_db.ValueRangeError, match="scale it"):
        docs.add(range(30), rows)
    docs.add(range(30), vectors(30))
    with pytest.raises(mrl_db.ValueRangeError, match="scale it"):
        docs.search(rows[3], k=1)


@pytest.mark.parametrize("scale", [1e-14, 1e-9, 1e9, 1e17])
def test_lengths_short_of_that_do_not_matter_under_cosine(db, scale):
    docs = db.create_collection("docs", dims=DIMS)
    rows = vectors(30) * np.float32(scale)
    docs.add(range(30), rows)
    docs.load(cache=False)

    exact = docs.search(vectors(30), k=5, exact=True)
    for engine in ("sql", "native"):
        hits = docs.search(rows, k=5, engine=engine)
        assert hits.ids[:, 0].tolist() == list(range(30))
        np.testing.assert_allclose(hits.distances, exact.distances, atol=1e-5)


class OnAnotherDevice:
    shape = (2, DIMS)

    def __array__(self, *_, **__):
        raise TypeError("can't convert device type tensor to numpy")


def test_what_gives_no_array_is_not_called_ragged(db):
    docs = db.create_collection("docs", dims=DIMS)

    with pytest.raises(mrl_db.DtypeError, match="can't convert device"):
        docs.add([1, 2], OnAnotherDevice())
    with pytest.raises(mrl_db.ShapeError, match="ragged"):
        docs.add([1, 2], [[1.0, 2.0], [1.0]])


# Filters


def test_rows_are_filtered_by_their_key(db):
    docs = db.create_collection("docs", dims=DIMS, key_type="uuid")
    keys = [uuid.UUID(int=number) for number in range(9)]
    docs.add(keys, vectors(9))
    docs.load(cache=False)

    for engine in ("sql", "native"):
        hits = docs.search(vectors(1)[0], k=9, engine=engine, where={"id": {"$in": keys[:3]}})
        assert sorted(hits.ids.tolist()) == keys[:3]
    assert docs.count({"id": keys[4]}) == 1
    assert docs.delete(where={"id": {"$gte": keys[7]}}) == 2
    with pytest.raises(mrl_db.FilterError, match=r"uuid\.UUID"):
        docs.count({"id": 3})


def test_membership_is_not_asked_of_arrays(db):
    docs = db.create_collection("docs", dims=DIMS, columns={"tags": "text[]"})
    docs.add([1], vectors(1), tags=[["a", "b"]])

    with pytest.raises(mrl_db.FilterError, match="single values"):
        docs.count({"tags": {"$in": ["a"]}})
    assert docs.count({"tags": "{a,b}"}) == 1


@pytest.mark.parametrize(
    "where",
    [
        {"day": {"$gte": "2020-01-01"}},
        {"$or": [{"day": "2020-01-01"}, {"n": 7}]},
        {"$not": {"day": {"$lt": "2020-01-01"}}},
        {"key": "00000000-0000-0000-0000-000000000001"},
        {"n": {"$in": [2.5]}},
        {"at": {"$lte": "2020-01-01T00:00:00+00:00"}},
    ],
)
def test_filters_in_json_have_dates_uuids_and_exact_numbers_as_text(db, where):
    columns = {"day": "date", "key": "uuid", "n": "numeric", "at": "timestamptz"}
    docs = db.create_collection("docs", dims=DIMS, columns=columns)
    docs.add(
        [1],
        vectors(1),
        day=[datetime.date(2020, 1, 1)],
        key=[uuid.UUID(int=1)],
        n=[Decimal("2.5")],
        at=[datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)],
    )

    assert docs.count(from_json(where, docs.columns)) == 1


def test_the_command_line_shows_rows_of_a_day(db, dsn):
    docs = db.create_collection("docs", dims=DIMS, columns={"day": "date"})
    docs.add([1, 2], vectors(2), day=[datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)])
    command = [sys.executable, "-m", "mrl_db.faces.cli", "search", "docs", "--dsn", dsn]

    shown = subprocess.run(
        [*command, "--like", "1", "--where", '{"day": "2021-01-01"}'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "2021-01-01" in shown
    assert "2020-01-01" not in shown


# Waits, halves and roads that end


def test_attach_does_not_wait_for_ever_behind_a_session_that_is_idle(db, dsn, execute):
    execute(f"CREATE TABLE t (id bigint PRIMARY KEY, embedding vector({DIMS}))")
    impatient = conninfo.make_conninfo(dsn, options="-c lock_timeout=100ms")
    with psycopg.connect(dsn) as idle, mrl_db.connect(impatient) as mine:
        idle.execute("SELECT count(*) FROM t")
        with pytest.raises(mrl_db.ConflictError, match="another session holds the table"):
            mine.attach("t")
    with psycopg.connect(dsn) as client:
        client.execute("SELECT mrl.wait_briefly()")
        assert client.execute("SHOW lock_timeout").fetchone() == ("10s",)
        client.rollback()
        client.execute("SET lock_timeout = '1min'; SELECT mrl.wait_briefly()")
        assert client.execute("SHOW lock_timeout").fetchone() == ("1min",)


def test_an_index_whose_build_was_cut_is_built_by_the_next_call(db, dsn, execute):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(range(50), vectors(50))
    with psycopg.connect(dsn) as holding:
        holding.execute("UPDATE docs SET embedding = embedding WHERE id = 1")
        with mrl_db.connect(dsn, statement_timeout=0.3) as mine, pytest.raises(mrl_db.MrlDbError):
            mine.open("docs").create_index(kind="hnsw", concurrently=True)

    docs.create_index(kind="hnsw", concurrently=True)

    assert docs.index_kind == "hnsw"
    assert execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_an_index_that_somebody_builds_now_is_left_alone(db, dsn, execute):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(range(50), vectors(50))
    with psycopg.connect(dsn) as holding:
        holding.execute("UPDATE docs SET embedding = embedding WHERE id = 1")
        build = threading.Thread(
            target=docs.create_index, kwargs={"kind": "hnsw", "concurrently": True}
        )
        build.start()
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        while execute(invalid) == [(0,)]:
            pass
        with docs._opened.session.connection() as connection:
            indexing._drop_halves(connection, docs._opened.info, False)
        assert execute(invalid) == [(1,)]
        holding.commit()
    build.join()
    assert db.open("docs").index_kind == "hnsw"


def test_load_where_nothing_can_be_written_says_what_works(db, dsn):
    db.create_collection("docs", dims=DIMS).add(range(5), vectors(5))
    reading = conninfo.make_conninfo(dsn, options="-c default_transaction_read_only=on")
    with mrl_db.connect(reading) as mine:
        docs = mine.open("docs")
        with pytest.raises(mrl_db.FreshnessError, match=r'max_staleness=float\("inf"\)'):
            docs.load()
        docs.load(max_staleness=float("inf"))
        assert docs.search(vectors(5)[3], k=1, engine="native").ids.tolist() == [3]


def test_a_partitioned_table_without_a_key_of_its_own_is_told_what_it_can_do(db, execute):
    execute(
        f"CREATE TABLE t (id bigint, at date, embedding vector({DIMS}), PRIMARY KEY (id, at)) "
        "PARTITION BY RANGE (at)"
    )

    with pytest.raises(mrl_db.ValueRangeError, match="partition it by hash of id"):
        db.attach("t")
