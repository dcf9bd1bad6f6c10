"""Values of every type: what goes in comes out, and what does not fit is refused by its row."""

import datetime as dt
import ipaddress
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

import mrl_db

DIMS = 4
TZ = dt.timezone(dt.timedelta(hours=2))
COLUMNS = {
    "iv": "interval",
    "t": "time",
    "tz": "timetz",
    "b": "bytea",
    "o": "oid",
    "ip": "inet",
    "net": "cidr",
    "r": "int4range",
    "dr": "daterange",
    "mr": "int8multirange",
    "ivs": "interval[]",
}
ROW = {
    "iv": dt.timedelta(days=1, seconds=2, microseconds=3),
    "t": dt.time(10, 30),
    "tz": dt.time(10, 30, 0, 5, TZ),
    "b": b"\0\1",
    "o": 2**32 - 1,
    "ip": ipaddress.ip_address("10.0.0.1"),
    "net": ipaddress.ip_network("10.0.0.0/8"),
    "r": Range(1, 10),
    "dr": Range(dt.date(2020, 1, 1), dt.date(2020, 2, 1)),
    "mr": Multirange([Range(1, 3), Range(2**40, None)]),
    "ivs": [dt.timedelta(days=-1, seconds=520), None],
}


def vectors(n):
    return np.arange(1, n * DIMS + 1, dtype=np.float32).reshape(n, DIMS)


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=DIMS, columns=COLUMNS)


STRANGE = [
    5,
    1.5,
    True,
    "soon",
    dt.date(2020, 1, 1),
    dt.datetime(2020, 1, 1),
    {"a": 1},
    (1, 2),
    [7],
    object(),
    uuid.UUID(int=1),
    2**40,
]


@pytest.mark.parametrize("name", COLUMNS)
def test_no_value_of_another_type_is_stored(docs, name):
    for value in STRANGE:
        if (name, value) == ("o", 5):
            continue
        with pytest.raises(mrl_db.DtypeError, match=f"column '{name}' is .*, row 1"):
            docs.add([1, 2], vectors(2), **{name: [None, value]})
        with pytest.raises(mrl_db.DtypeError, match=f"column '{name}' is .*, row 0"):
            docs.add([{"id": 1, "embedding": vectors(1)[0], name: value}])
        with pytest.raises(mrl_db.DtypeError, match=f"column '{name}' is"):
            docs.update(where={}, **{name: value})

    assert docs.count() == 0


@pytest.mark.parametrize("form", ["to_list", "to_pandas", "to_polars", "to_arrow"])
def test_what_comes_out_of_any_type_goes_in_again(docs, execute, form):
    docs.add([1, 2], vectors(2), **{name: [value, None] for name, value in ROW.items()})
    before = execute("SELECT docs::text FROM docs ORDER BY id")

    records = docs.get([1, 2])
    assert records.columns == {name: [value, None] for name, value in ROW.items()}
    docs.upsert(getattr(records, form)())

    assert execute("SELECT docs::text FROM docs ORDER BY id") == before


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("iv", "1 day", dt.timedelta(days=1)),
        ("iv", "-1 days +00:08:40.5", dt.timedelta(days=-1, seconds=520.5)),
        ("iv", "2 days, 3:04:05", dt.timedelta(days=2, hours=3, minutes=4, seconds=5)),
        ("iv", "-00:00:01", dt.timedelta(seconds=-1)),
        ("t", "10:00", dt.time(10)),
        ("tz", "10:00:00+02:00", dt.time(10, tzinfo=TZ)),
        ("ip", "10.0.0.1/24", ipaddress.ip_interface("10.0.0.1/24")),
        ("net", "::/0", ipaddress.ip_network("::/0")),
        ("r", "[1,3)", Range(1, 3)),
        ("mr", "{[1,3)}", Multirange([Range(1, 3)])),
    ],
)
def test_text_is_read_where_it_says_a_value(docs, name, text, value):
    docs.add([1], vectors(1), **{name: [text]})
    docs.upsert(pl.DataFrame({"id": [2], "embedding": vectors(1).tolist(), name: [text]}))
    docs.add([3], vectors(1))
    docs.update([3], **{name: text})

    assert docs.get([1, 2, 3]).columns[name] == [value] * 3
    assert docs.count({name: text}) == docs.count({name: value}) == 3
    assert docs.count({name: {"$in": [value]}}) == 3


@pytest.mark.parametrize("text", ["", "1 month", "1 day ago", "day", "1 day 5", "P1D", "24:61"])
def test_intervals_that_python_cannot_read_are_refused(docs, text):
    with pytest.raises(mrl_db.DtypeError, match=r"wanted a datetime.timedelta, or its text"):
        docs.add([1], vectors(1), iv=[text])


@pytest.mark.parametrize(
    ("base", "value"), [("integer", 2**40), ("interval", "x"), ("bytea", 5), ("oid[]", [-1])]
)
def test_domains_are_checked_as_what_they_are_made_of(db, execute, base, value):
    execute(f"CREATE DOMAIN kind AS {base}")
    execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), x kind)")
    docs = db.attach("docs")

    with pytest.raises(mrl_db.DtypeError, match="is public.kind, row 0 has"):
        docs.add([1], vectors(1), x=[value])


def test_arrow_has_types_of_its_own_for_times_and_durations(docs):
    docs.add([1], vectors(1), **{name: [value] for name, value in ROW.items()})

    schema = docs.get([1]).to_arrow().schema

    assert schema.field("iv").type == pa.duration("us")
    assert schema.field("t").type == pa.time64("us")
    assert schema == docs.get([]).to_arrow().schema
    assert pd.DataFrame(docs.get([1]).to_pandas())["iv"].tolist() == [ROW["iv"]]


def test_update_gives_values_of_every_type(docs, execute):
    docs.add([1, 2, 3], vectors(3))

    docs.update([1], **{name: [value] for name, value in ROW.items() if name != "ivs"})
    docs.update(1, ivs=ROW["ivs"])
    docs.update(where={"id": 2}, **ROW)
    docs.upsert([3], vectors(3)[2:], **{name: [value] for name, value in ROW.items()})

    columns = ", ".join(COLUMNS)
    rows = execute(f"SELECT {columns} FROM docs")
    assert rows[0] == rows[1] == rows[2]


NO_JSON = [
    {"a": np.int64(1)},
    {"a": dt.date(2020, 1, 1)},
    {"a": uuid.UUID(int=1)},
    {"a": b""},
    {"a": {1}},
    {"a": float("nan")},
    object(),
]


@pytest.mark.parametrize("kind", ["json", "jsonb", "jsonb[]"])
@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: type(value).__name__)
def test_update_refuses_what_is_no_json(db, kind, value):
    docs = db.create_collection("docs", dims=DIMS, columns={"meta": kind})
    docs.add([1, 2], vectors(2))
    given = [value] if kind == "jsonb[]" else value

    with pytest.raises(mrl_db.DtypeError, match=r"column 'meta' is json.*, row 0 .*no JSON"):
        docs.update(where={}, meta=given)
    with pytest.raises(mrl_db.DtypeError, match=r"column 'meta' is json.*, row 1 .*no JSON"):
        docs.update([1, 2], meta=[None, given])


def test_update_gives_arrays_of_json(db):
    docs = db.create_collection("docs", dims=DIMS, columns={"meta": "jsonb[]"})
    docs.add([1, 2], vectors(2))

    docs.update(1, meta=[{"a": 1}, None, "x"])
    docs.update(where={"id": 2}, meta=[])

    assert docs.get([1, 2]).columns["meta"] == [[{"a": 1}, None, "x"], []]


def test_values_that_nobody_sends_are_refused_in_words(db):
    docs = db.create_collection("docs", dims=DIMS, columns={"p": "point", "n": "text"}, text="n")
    docs.add([1], vectors(1))

    with pytest.raises(mrl_db.DtypeError, match="cannot adapt type 'object'"):
        docs.update(1, p=object())
    with pytest.raises(mrl_db.DtypeError, match="column 'p' is point.*valid Unicode"):
        docs.update(1, p="\ud800")
    with pytest.raises(mrl_db.ValueRangeError, match="text is .*valid Unicode"):
        docs.search(text="\ud800", k=1)
    with pytest.raises(mrl_db.ValueRangeError, match="the table is"):
        db.attach("\ud800")


@pytest.mark.parametrize(
    "value",
    [pd.NA, pd.NaT, [pd.NaT], object(), {1}, {"a": 1}, "\ud800"],
    ids=lambda value: type(value).__name__,
)
def test_raw_refuses_parameters_that_are_not_sent(value):
    with pytest.raises(mrl_db.FilterError, match="as parameter 1; wanted a value that psycopg"):
        mrl_db.raw(sql.SQL("row_.n = %s OR row_.n = %s"), "x", value)


WITHOUT_LOADER = {
    "point": "(1,2)",
    "box": "(3,4),(1,2)",
    "circle": "<(1,2),3>",
    "bit(3)": "101",
    "varbit": "10",
    "money": "$1.50",
    "macaddr": "08:00:2b:01:02:03",
    "tsvector": "'a':1 'b':2",
    "tsquery": "'a' & 'b'",
    "regclass": "pg_class",
    "pg_lsn": "16/B374D848",
    "jsonpath": '$."a"',
    "xid": "7",
    "pair": "(1,x)",
    "mood": "sad",
    "feeling": "sad",
    "sparsevec(3)": "{1:1,3:2}/3",
}


@pytest.mark.parametrize("sql_type", WITHOUT_LOADER)
def test_types_that_psycopg_does_not_know_are_read_as_their_text(db, execute, sql_type):
    execute(
        "CREATE TYPE pair AS (a integer, b text); CREATE TYPE mood AS ENUM ('happy', 'sad'); "
        "CREATE DOMAIN feeling AS mood"
    )
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), "
        f"x {sql_type}, xs {sql_type}[])"
    )
    text = WITHOUT_LOADER[sql_type]
    row = (str(vectors(1)[0].tolist()), text, [text])
    execute(f"INSERT INTO docs VALUES (1, %s, %s::{sql_type}, %s::{sql_type}[])", row)
    docs = db.attach("docs")

    want = {"x": [text], "xs": [[text]]}
    assert docs.get([1]).columns == want
    assert docs.scan().records().columns == want
    hits = docs.search(vectors(1)[0], k=1, columns=["x", "xs"])
    assert {name: each.tolist() for name, each in hits.columns.items()} == want
    assert docs.get([1]).to_arrow().drop(["id", "embedding"]).to_pydict() == want
    if sql_type not in ("mood", "feeling"):
        for name, value in (("x", text), ("xs", [text])):
            with pytest.raises(mrl_db.DtypeError, match="are not sent .*write it by SQL"):
                docs.add([2], vectors(1), **{name: [value]})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t", "24:00"),
        ("iv", "178000000 years"),
        ("dr", "[0044-03-15 BC,2020-01-01)"),
        ("dr", "[2020-01-01,10000-01-01)"),
        ("ivs", "{1000000000 days}"),
    ],
)
def test_a_value_that_python_has_none_for_is_named(docs, execute, name, text):
    docs.add([1, 7], vectors(2))
    execute(f"UPDATE docs SET {name} = %s WHERE id = 7", (text,))
    said = rf"column '{name}' of the row with key 7 has a value .*columns=.* by SQL"

    calls = (
        lambda: docs.get([1, 7]),
        lambda: docs.scan().to_list(),
        lambda: docs.search(vectors(1)[0], k=2, columns=[name]),
        lambda: docs.search(vectors(2), k=2, columns=[name]),
        lambda: docs.search(vectors(1)[0], k=2, columns=[name], exact=True),
    )
    for call in calls:
        with pytest.raises(mrl_db.ValueRangeError, match=said):
            call()
    assert docs.get([1, 7], columns=["b"]).ids.tolist() == [1, 7]


def test_what_has_no_end_is_pythons_last_and_first(docs, execute):
    ends = [dt.timedelta.max, dt.timedelta.min]
    days = Range(dt.date(2020, 1, 1), dt.date.max)
    docs.add([1, 2], vectors(2), iv=ends, dr=[days, None])
    docs.add([3, 4], vectors(2))
    docs.update([3, 4], iv=ends, dr=[days, None])
    docs.update(where={"id": 4}, iv=ends[1])

    assert docs.get([1, 2, 3, 4]).columns["iv"] == ends * 2
    assert docs.get([1, 3]).columns["dr"] == [days] * 2
    assert docs.count({"dr": days}) == 2
    assert execute("SELECT DISTINCT upper(dr)::text FROM docs WHERE dr IS NOT NULL") == [
        ("infinity",)
    ]
    if execute("SHOW server_version_num")[0][0] >= "170000":
        assert (
            execute("SELECT iv::text FROM docs ORDER BY id")
            == [
                ("infinity",),
                ("-infinity",),
            ]
            * 2
        )
    with pytest.raises(mrl_db.ValueRangeError, match="column of interval.*to_list"):
        docs.get([1]).to_arrow()


@pytest.mark.parametrize(("kind", "text"), [("json", "1"), ("json[]", "{1}"), ("point", "(1,2)")])
def test_types_without_equality_are_not_compared(db, kind, text):
    docs = db.create_collection("docs", dims=DIMS, columns={"x": kind})
    docs.add([1], vectors(1))

    for where in ({"x": text}, {"x": {"$ne": text}}, {"x": {"$in": [text]}}, {"x": {"$lt": text}}):
        if "[]" in kind and "$in" in str(where):
            continue  # refused as all arrays are
        with pytest.raises(mrl_db.FilterError, match="PostgreSQL has no equality"):
            docs.count(where)
    assert docs.count({"x": None}) == docs.count({"x": {"$exists": False}}) == 1
    assert docs.count({"x": {"$ne": None}}) == 0


@pytest.mark.parametrize("form", ["to_list", "to_pandas", "to_polars", "to_arrow"])
def test_domains_come_out_as_what_they_are_made_of_and_go_in_again(db, execute, form):
    bases = {"i": "integer", "u": "uuid", "j": "jsonb", "iv": "interval", "r": "int4range"}
    values = [7, uuid.UUID(int=1), {"a": 1}, dt.timedelta(1), Range(1, 3)]
    for name, base in bases.items():
        execute(f"CREATE DOMAIN of_{name} AS {base}")
    listed = ", ".join(f"{name} of_{name}" for name in bases)
    execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), {listed})")
    docs = db.attach("docs")
    docs.add([1], vectors(1))
    docs.update(1, **dict(zip(bases, values, strict=True)))

    docs.upsert(getattr(docs.get([1]), form)())

    want = {name: [value] for name, value in zip(bases, values, strict=True)}
    assert docs.get([1]).columns == want
    assert docs.scan().to_arrow().schema.field("i").type == pa.int32()
    hits = docs.search(vectors(1)[0], k=1, columns=["i", "j"])
    assert hits.to_arrow().schema.field("i").type == pa.int32()
