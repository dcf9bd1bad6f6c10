"""A few rows are the parameters of one statement: what it takes, what it leaves, what it refuses."""

import datetime
import threading

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb

import mrl_db
from mrl_db.postgres import write

DIMS = 4
WRITTEN = "SELECT sum(n_tup_ins + n_tup_del) FROM pg_stat_xact_sys_tables"


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


def test_upserts_of_a_few_rows_leave_nothing_in_the_servers_catalogue(db, dsn):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    with psycopg.connect(dsn) as mine:  # counts what its transaction did
        docs.upsert([1], vectors(1), connection=mine)
        before = mine.execute(WRITTEN).fetchone()
        for n in (1, 200):
            for _ in range(5):
                docs.upsert(range(n), vectors(n), year=[1] * n, connection=mine)
                docs.add(range(n), vectors(n), on_conflict="skip", connection=mine)

        assert mine.execute(WRITTEN).fetchone() == before


@pytest.mark.parametrize("few", [0, 1 << 20])
@pytest.mark.parametrize(
    "column",
    [
        "title text NOT NULL",
        "title text CHECK (title IS NOT NULL)",
        "title text NOT NULL DEFAULT 'x' CHECK (title <> 'x')",
    ],
)
def test_rows_embedded_anew_keep_the_columns_that_are_left_out(
    db, execute, monkeypatch, few, column
):
    n = 3
    monkeypatch.setattr(write, "_FEW_BYTES", few)
    execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), {column})")
    docs = db.attach("docs", low_dim="index")
    docs.add(range(n), vectors(n), title=["kept"] * n)

    assert docs.upsert(range(n), vectors(n, seed=1)) == n

    rows = docs.get([n - 1])
    assert rows.columns["title"] == ["kept"]
    np.testing.assert_array_equal(rows.vectors, vectors(n, seed=1)[-1:])
    with pytest.raises(mrl_db.DatabaseError, match="title"):
        docs.upsert([0, n], vectors(2, seed=2))
    np.testing.assert_array_equal(docs.get([0]).vectors, vectors(n, seed=1)[:1])


def test_columns_left_out_of_a_new_row_get_their_defaults(db, execute):
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), "
        "year integer NOT NULL DEFAULT 7, title text NOT NULL)"
    )
    docs = db.attach("docs")
    docs.upsert([1, 2], vectors(2), title=["a", "b"])

    docs.upsert([2, 3], vectors(2, seed=1), title=["c", "d"])

    assert docs.get([1, 2, 3]).columns == {"year": [7, 7, 7], "title": ["a", "c", "d"]}


def test_two_who_renew_the_same_rows_wait_for_each_other(db, dsn, execute):
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), title text NOT NULL)"
    )
    docs = db.attach("docs")
    docs.add([1], vectors(1), title=["kept"])
    with psycopg.connect(dsn) as other:
        other.execute("UPDATE docs SET title = 'new' WHERE id = 1")
        thread = threading.Thread(target=docs.upsert, args=([1], vectors(1, seed=1)))
        thread.start()
        thread.join(0.2)
        other.commit()
    thread.join()

    rows = docs.get([1])
    assert rows.columns["title"] == ["new"]
    np.testing.assert_array_equal(rows.vectors, vectors(1, seed=1))


@pytest.mark.superuser
def test_a_column_left_out_is_no_matter_of_the_policy_for_new_rows(db, dsn, execute):
    docs = db.create_collection("docs", dims=DIMS, columns={"tenant": "text"})
    docs.add([1], vectors(1), tenant=["a"])
    execute("CREATE ROLE renewing_writer LOGIN")
    try:
        execute("GRANT ALL ON docs TO renewing_writer")
        execute("GRANT ALL ON ALL TABLES IN SCHEMA mrl TO renewing_writer")
        execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON docs USING (tenant = 'a') WITH CHECK (tenant = 'a')")
        with mrl_db.connect(f"{dsn} user=renewing_writer") as theirs:
            assert theirs.open("docs").upsert([1], vectors(1, seed=1)) == 1
            with pytest.raises(mrl_db.PrivilegeError):
                theirs.open("docs").upsert([2], vectors(1))
    finally:
        execute("DROP OWNED BY renewing_writer; DROP ROLE renewing_writer")


TYPES = (
    "CREATE DOMAIN short AS text CHECK (length(value) < 5); "
    "CREATE TYPE mood AS ENUM ('happy', 'sad'); CREATE DOMAIN many AS integer CHECK (value > 9)"
)
VALUES = {
    "integer": [1, None],
    "text[]": [["a", None], []],
    "jsonb": [Jsonb({"a": [1]}), None],
    "numeric(6,2)": [1, None],
    "mood": ["happy", None],
    "name": ["abc", None],
    "varchar(5)": ["abc", None],
    "char(5)": ["abc  ", None],
    "timestamptz": [datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc), None],
    "bytea": [b"\0\1", None],
    "int4range": [psycopg.types.range.Range(1, 4), None],
    "short": ["abc", None],
    "many": [12, None],
}


@pytest.mark.parametrize("sql_type", VALUES)
def test_columns_of_every_type_come_back_as_they_would_by_copy(db, execute, monkeypatch, sql_type):
    execute(TYPES)
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), value {sql_type})"
    )
    docs = db.attach("docs")
    values = VALUES[sql_type]

    docs.upsert([1, 2], vectors(2), value=values)
    docs.upsert([2], vectors(1), value=[None])
    monkeypatch.setattr(write, "_FEW_BYTES", 0)
    docs.upsert([10], vectors(1), value=values[:1])

    few = execute("SELECT value::text FROM docs WHERE id IN (1, 10)")
    assert few[0] == few[1]
    assert execute("SELECT value FROM docs WHERE id = 2") == [(None,)]
    read = [docs.get([1]).columns["value"][0], docs.search(vectors(1)[0], k=1, columns=["value"])]
    wanted = getattr(values[0], "obj", values[0])
    assert read[0] == wanted
    assert read[1].columns["value"][0] == wanted


@pytest.mark.parametrize(
    ("sql_type", "value"),
    [("varchar(2)", "abc"), ("bit(2)", "101"), ("short", "abcde"), ("mood", "angry"), ("many", 7)],
)
def test_no_value_is_cut_to_fit(db, execute, sql_type, value):
    execute(TYPES)
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), value {sql_type})"
    )
    docs = db.attach("docs")

    for method in (docs.add, docs.upsert):
        with pytest.raises(mrl_db.MrlDbError):
            method([1], vectors(1), value=[value])
    assert docs.count() == 0


def test_no_key_is_cut_to_fit(db, execute):
    execute(f"CREATE TABLE docs (id varchar(3) PRIMARY KEY, embedding vector({DIMS}))")
    docs = db.attach("docs")

    for method in (docs.add, docs.upsert, docs.ingest):
        for key in ("abc  ", "abcd"):
            with pytest.raises(mrl_db.ValueRangeError, match=r"ids\[1\] .*the key holds 3"):
                method(["a", key], vectors(2))
    assert docs.add(["äöü", "a  "], vectors(2)) == 2
    assert docs.get(["äöü", "a  ", "abc  "]).ids.tolist() == ["äöü", "a  "]


@pytest.mark.parametrize(
    "key_type", ["smallint", "integer", "bigint", "uuid", "text", "varchar(9)"]
)
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_keys_and_vectors_of_every_type(db, execute, key_type, vector_type):
    execute(f"CREATE TABLE docs (id {key_type} PRIMARY KEY, embedding {vector_type}({DIMS}))")
    docs = db.attach("docs", low_dim="index")
    execute(f"INSERT INTO docs VALUES ('{KEYS[key_type]}', '[1,2,3,4]')")
    key = execute("SELECT id FROM docs")[0][0]

    assert docs.upsert([key], np.full((1, DIMS), 0.5, np.float32)) == 1
    assert docs.add([key], vectors(1), on_conflict="skip") == 0

    assert docs.get([key]).vectors.tolist() == [[0.5] * DIMS]


KEYS = {
    "smallint": 3,
    "integer": 3,
    "bigint": 3,
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "text": "käse",
    "varchar(9)": "käse",
}


ENDS = {
    "date": datetime.date,
    "timestamp": datetime.datetime,
    "timestamptz": datetime.datetime,
}


@pytest.mark.parametrize("sql_type", ENDS)
def test_dates_without_an_end_are_pythons_last_and_first(db, execute, sql_type):
    first, last = ENDS[sql_type].min, ENDS[sql_type].max
    if sql_type == "timestamptz":
        first, last = (each.replace(tzinfo=datetime.timezone.utc) for each in (first, last))
    docs = db.create_collection("docs", dims=DIMS, columns={"at": sql_type})
    docs.add([1, 2], vectors(2), at=[last, first])
    execute(
        f"INSERT INTO docs (id, embedding, at) VALUES (3, '{vectors(1)[0].tolist()}', 'infinity')"
    )
    docs.update([2], at=first)

    assert execute("SELECT at::text FROM docs ORDER BY id") == [
        ("infinity",),
        ("-infinity",),
        ("infinity",),
    ]
    assert docs.get([1, 2, 3]).columns["at"] == [last, first, last]
    assert docs.count({"at": last}) == 2
    assert docs.search(vectors(1)[0], k=1, columns=["at"]).columns["at"][0] == last


def test_a_date_that_python_cannot_hold_is_named(db, execute):
    docs = db.create_collection("docs", dims=DIMS, columns={"at": "date"})
    execute("INSERT INTO docs (id, embedding, at) VALUES (3, '[1,2,3,4]', '0044-03-15 BC')")

    with pytest.raises(mrl_db.ValueRangeError, match="44-03-15 BC|before year 1"):
        docs.get([3])
