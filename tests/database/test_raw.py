"""Conditions in SQL as filters: everywhere, beside dicts, with values as parameters only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

import mrl_db
from mrl_db import raw

N = 40
ENGINES = [{"engine": "sql"}, {"engine": "native"}, {"exact": True}]
TITLES = ["", "a'b", "%s", "x -- y", '"']


@pytest.fixture(scope="module")
def loaded(server):
    docs = server.create_collection(
        "rawly", dims=2, metric="l2", columns={"year": "integer", "odd %s": "text"}
    )
    years = [None if number % 9 == 0 else 2000 + number % 8 for number in range(N)]
    titles = [TITLES[number % len(TITLES)] for number in range(N)]
    docs.add(range(N), np.arange(2 * N).reshape(N, 2) + 0.0, year=years, **{"odd %s": titles})
    docs.load()
    yield docs, list(zip(range(N), years, titles, strict=True))
    server.drop("rawly")


LEAVES = st.one_of(
    st.integers(1, 4).map(
        lambda n: (
            raw(sql.SQL("row_.year %% %s = 0 -- every n years"), n),
            lambda row: row[1] is not None and row[1] % n == 0,
        )
    ),
    st.sampled_from(TITLES).map(
        lambda title: (
            raw(sql.SQL("row_.{} = %s").format(sql.Identifier("odd %%s")), title),
            lambda row: row[2] == title,
        )
    ),
    st.integers(2000, 2007).map(
        lambda year: ({"year": {"$gte": year}}, lambda row: row[1] is not None and row[1] >= year)
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.lists(part, min_size=1, max_size=3).map(
            lambda parts: (
                {"$and": [where for where, _ in parts]},
                lambda row: all(holds(row) for _, holds in parts),
            )
        ),
        st.lists(part, min_size=1, max_size=3).map(
            lambda parts: (
                {"$or": [where for where, _ in parts]},
                lambda row: any(holds(row) for _, holds in parts),
            )
        ),
        part.map(lambda each: ({"$not": each[0]}, lambda row: not each[1](row))),
    ),
    max_leaves=4,
)


@given(TREES)
@settings(max_examples=60)
def test_conditions_in_sql_go_wherever_dicts_go(loaded, tree):
    docs, rows = loaded
    where, holds = tree
    want = [row[0] for row in rows if holds(row)]

    assert docs.count(where) == len(want)
    assert docs.scan(where).records().ids.tolist() == want
    for engine in ENGINES:
        assert docs.search([0, 0], k=N, where=where, **engine).ids.tolist() == want


def test_rows_are_changed_and_deleted_by_them(db):
    docs = db.create_collection("docs", dims=2, columns={"year": "integer"})
    docs.add(range(10), np.ones((10, 2)), year=range(10))

    assert docs.update(where=raw(sql.SQL("row_.year > %s"), 7), year=100) == 2
    assert docs.delete(where=raw(sql.SQL("row_.id = ANY(%s)"), [1, 2, 3])) == 3
    assert docs.get(range(10)).columns["year"] == [0, 4, 5, 6, 7, 100, 100]


def test_what_depends_on_other_tables_is_asked_anew(db, execute):
    execute("CREATE TABLE allowed (id bigint)")
    docs = db.create_collection("docs", dims=2)
    docs.add(range(5), np.arange(10).reshape(5, 2) + 1.0)
    docs.load()
    allowed = raw(sql.SQL("EXISTS (SELECT FROM allowed AS a WHERE a.id = row_.id)"))
    assert docs.search([1, 2], where=allowed, engine="native").ids.tolist() == []

    execute("INSERT INTO allowed VALUES (3)")

    assert docs.search([1, 2], where=allowed, engine="native").ids.tolist() == [3]


@pytest.mark.parametrize(
    ("condition", "parameters", "said"),
    [
        ("row_.year > 1", (), "got a str"),
        (sql.SQL("row_.year > %s"), (), "1 marks %s and 0 parameters"),
        (sql.SQL("row_.year > 1"), (2,), "0 marks %s and 1 parameters"),
        (sql.SQL("row_.year > %(year)s"), (2,), r"has %\("),
        (sql.SQL("row_.year % 2 = 1"), (), "for a percent sign"),
    ],
)
def test_what_is_no_condition_is_refused(condition, parameters, said):
    with pytest.raises(mrl_db.FilterError, match=said):
        raw(condition, *parameters)


def test_a_fault_in_the_sql_is_said(loaded):
    docs, _ = loaded

    with pytest.raises(mrl_db.MrlDbError, match="nowhere"):
        docs.count(raw(sql.SQL("row_.nowhere > 1")))
    with pytest.raises(mrl_db.MrlDbError, match="syntax"):
        docs.search([1, 2], where=raw(sql.SQL("row_.year >")))
