"""Filters into jsonb and arrays: PostgreSQL's answer equals a Python evaluator's.

MRL_DB_FILTER_EXAMPLES sets how many filters are made.
"""

import datetime
import os

import evaluator
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

import mrl_db
from mrl_db.model import filters
from mrl_db.postgres import conditions

EXAMPLES = int(os.environ.get("MRL_DB_FILTER_EXAMPLES", "400"))
TYPES = {"meta": "jsonb", "year": "integer", "dotted.name": "integer", "tags": "text[]"}
SCALARS = [0, 1, 1.0, 1.5, 10**20, -2, True, False, "", "1", "a", "B", "a%", "\\", "'; --", "ü"]
CONTAINERS = [
    [],
    {},
    [1, "a"],
    ["a", [1]],
    {"b": 1},
    {"b": {"c": True}},
    [{"b": 1}],
    [None],
    {"b": None},
]
PATHS = ["a", "a.b", "a.b.c", "a.0", "a.-1", "a.0.b", "0", 'odd %s " {x}', "a b", "nothing"]
PATTERN = st.lists(st.sampled_from(["a", "B", "%", "_", "1", "'", "ü"]), max_size=3).map("".join)
SCALAR = st.sampled_from(SCALARS)
VALUE = SCALAR | st.sampled_from(CONTAINERS)
ORDERED = st.sampled_from([each for each in SCALARS if not isinstance(each, bool)])
ON_JSON = st.one_of(
    SCALAR,
    st.none(),
    st.fixed_dictionaries({"$eq": VALUE | st.none()}),
    st.fixed_dictionaries({"$ne": VALUE | st.none()}),
    st.fixed_dictionaries({"$in": st.lists(VALUE | st.none(), max_size=3)}),
    st.fixed_dictionaries({"$nin": st.lists(VALUE | st.none(), max_size=3)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.dictionaries(
        st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), ORDERED, min_size=1, max_size=2
    ),
    st.fixed_dictionaries({"$like": PATTERN}),
    st.fixed_dictionaries({"$ilike": PATTERN}),
    st.fixed_dictionaries({"$contains": VALUE}),
    st.fixed_dictionaries({"$not": st.fixed_dictionaries({"$contains": VALUE})}),
)
LEAF = st.one_of(
    st.sampled_from(PATHS).flatmap(lambda path: st.fixed_dictionaries({f"meta.{path}": ON_JSON})),
    st.fixed_dictionaries({"meta": st.fixed_dictionaries({"$contains": VALUE})}),
    st.fixed_dictionaries(
        {"tags": st.fixed_dictionaries({"$contains": st.lists(st.sampled_from("abc"), max_size=2)})}
    ),
    st.fixed_dictionaries({"dotted.name": st.integers(0, 2)}),
)
FILTER = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    values = [*SCALARS, *CONTAINERS, None]

    def some():
        return values[rng.integers(len(values))]

    made = [{"a": some(), "0": some(), 'odd %s " {x}': some(), "a b": some()} for _ in range(80)]
    made += [{"a": {"b": some()}} for _ in range(30)] + [[some(), some()] for _ in range(10)]
    made += [{"a": [some(), {"b": some()}]} for _ in range(30)] + [None, *values]
    tags = [None, [], ["a"], ["a", "b"], ["c", "a"]]
    return [
        {"meta": meta, "year": 1, "dotted.name": place % 3, "tags": tags[place % 5]}
        for place, meta in enumerate(made)
    ]


@pytest.fixture(scope="module")
def connection(server, rows):
    if "json_filtered" in server:
        server.drop("json_filtered")
    server.create_collection("json_filtered", dims=2, columns=TYPES)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        insert = "INSERT INTO json_filtered VALUES (%s, '[1,1]', DEFAULT, %s, %s, %s, %s)"
        names = [
            column.name for column in connection.execute("SELECT * FROM json_filtered").description
        ]
        assert names[3:] == list(TYPES)
        for key, row in enumerate(rows):
            meta = None if row["meta"] is None else Jsonb(row["meta"])
            connection.execute(insert, (key, meta, 1, row["dotted.name"], row["tags"]))
        yield connection


def keys(connection, where):
    condition, parameters = conditions.compile_condition(filters.parse(where, TYPES), TYPES)
    assert condition.as_string(connection).replace("%%", "").count("%s") == len(parameters)
    statement = sql.SQL("SELECT id FROM json_filtered AS row_ WHERE {} ORDER BY id").format(
        condition
    )
    return [row[0] for row in connection.execute(statement, parameters).fetchall()]


def expected(rows, where):
    return [key for key, row in enumerate(rows) if evaluator.holds(where, row)]


def test_every_filter_means_in_sql_what_it_means_in_python(connection, rows):
    @given(where=FILTER)
    @settings(max_examples=EXAMPLES)
    def check(where):
        assert keys(connection, where) == expected(rows, where)

    check()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"meta.a": float("nan")}, "finite numbers"),
        ({"meta.a": datetime.date(2026, 1, 1)}, "dates as the strings"),
        ({"meta.a": {"$gt": True}}, "wanted a number or a string"),
        ({"meta.a": {"$lt": None}}, "no order"),
        ({"meta.a": {"$like": 5}}, "pattern"),
        ({"meta.a": "nul\0"}, "NUL"),
        ({"meta.nul\0": 1}, "NUL"),
        ({"meta.a": {"$eq": {1: 2}}}, "wanted what JSON has"),
        ({"meta.a": {"$regex": 1}}, "not known"),
        ({"year.a": 1}, "no column 'year.a'"),
        ({"year": {"$contains": 1}}, "jsonb or an array"),
        ({"tags": {"$contains": [None]}}, "holds None"),
        ({"tags": {"$contains": 5}}, "wanted a string"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(where, said):
    with pytest.raises(mrl_db.FilterError, match=said):
        filters.parse(where, TYPES)


def test_collections_are_searched_by_what_is_in_json(db):
    docs = db.create_collection("docs", dims=2, metadata=True)
    docs.add(
        range(4),
        np.eye(2)[[0, 1, 0, 1]].astype(np.float32),
        meta=[
            {"year": 2019, "tags": ["a"]},
            {"year": 2021},
            {"year": "2021"},
            None,
        ],
    )
    docs.load(route="flat")

    for engine in ("sql", "native"):
        hits = docs.search([1.0, 0.5], k=4, where={"meta.year": {"$gte": 2020}}, engine=engine)
        assert hits.ids.tolist() == [1]
    assert docs.count({"meta.tags": {"$contains": "a"}}) == 1
    assert docs.update(where={"meta.year": "2021"}, meta={"year": 2021}) == 1
    assert docs.delete(where={"meta.year": 2021}) == 2
    assert docs.scan({"meta": {"$exists": False}}).records().ids.tolist() == [3]


def test_json_comes_out_of_frames_as_it_went_in(db):
    docs = db.create_collection("docs", dims=2, metadata=True)
    values = [{"a": [1, None]}, [1, "x"], 5, "text", '{"a": 1}', True, None]
    docs.add(range(7), np.ones((7, 2), np.float32), meta=values)

    docs.upsert(docs.scan(vectors=True).to_arrow())

    assert docs.get(range(7)).columns["meta"] == values
    with pytest.raises(mrl_db.DtypeError, match="which is none"):
        docs.add(pa.table({"id": [9], "embedding": [[1.0, 2.0]], "meta": ["no JSON"]}))
    assert docs.count() == 7
