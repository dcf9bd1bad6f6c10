"""Arguments of every public method that cannot be meant are refused by an error that names them."""

import re

import numpy as np
import pytest
from psycopg import sql

import mrl_db
from mrl_db.classify import Cascade

F32 = np.float32


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=3, columns={"year": "integer", "title": "text"})


BAD_ARGUMENTS = {
    "no nesting dims": (lambda db: db.attach("t", nesting_dims=()), "nesting_dims is empty"),
    "one nesting dim": (lambda db: db.attach("t", nesting_dims=3), "nesting_dims is 3"),
    "a width": (lambda db: db.create_collection("q", dims=3, nesting_dims=3), "nesting_dims is 3"),
    "a text": (lambda db: db.create_collection("q", dims=3, text=["a"]), "the column of text is"),
    "a model": (lambda db: db.create_collection("q", model=5), "no rule for model 5"),
    "two metas": (
        lambda db: db.create_collection("q", dims=3, columns={"meta": "text"}, metadata=True),
        "column meta",
    ),
    "links": (lambda db: db["docs"].create_index(m="16"), "m is '16'"),
    "half links": (lambda db: db["docs"].create_index(m=16.5, kind="hnsw"), "m is 16.5"),
    "candidates": (lambda db: db["docs"].create_index(ef_construction=None), "ef_construction is"),
    "no group": (lambda db: db["docs"].search([1.0, 2, 3], group_by=[]), "group_by is []"),
    "two groups": (
        lambda db: db["docs"].search([1.0, 2, 3], group_by=["year", "title"]),
        "group_by is",
    ),
    "a far page": (
        lambda db: db["docs"].search([1.0, 2, 3], offset=2**31 - 1, engine="sql"),
        "k + offset is 2147483657",
    ),
    "too many alike": (lambda db: db["docs"].search(like=1, k=2**31 - 1), "k + offset is"),
    "listed columns": (lambda db: db["docs"].get([1], columns=[["a"]]), "no column ['a']"),
    "no classifier": (lambda db: db["docs"].classify(5), "wanted a Cascade"),
    "none to save": (lambda db: db["docs"].save_classifier("a", 5), "wanted a Cascade"),
    "a number": (lambda db: db["docs"].classifier(5), "the classifier's name is 5"),
    "no text": (lambda db: embedded(db).search_text(None), "text is None"),
    "no texts": (lambda db: embedded(db).add_texts([1], None), "texts is None"),
    "a file": (lambda db: db["docs"].report(__file__), "folder is"),
    "no folder": (lambda db: db["docs"].report(5), "folder is 5"),
    "deep filter": (lambda db: db["docs"].count(deep("$not", {})), "100 levels deep"),
    "deep condition": (
        lambda db: db["docs"].count({"year": deep("$not", 5)}),
        "100 levels deep",
    ),
    "deep JSON": (
        lambda db: jsonb(db).count({"meta.a": {"$eq": deep("a", 5)}}),
        "100 levels deep",
    ),
    "deep column": (
        lambda db: jsonb(db).count({"meta": {"$eq": deep("a", 5)}}),
        "wanted",
    ),
    "deep JSON whole": (
        lambda db: jsonb(db).count({"meta": {"$contains": deep("a", 5)}}),
        "100 levels deep",
    ),
    "values": (
        lambda db: db["docs"].count(
            mrl_db.raw(sql.SQL("row_.year IN ({})").format(sql.SQL("%s, " * 69_999 + "%s")), *YEARS)
        ),
        "70000 values",
    ),
    "raising": (lambda db: db["docs"].add([1], Raising()), "no device"),
}
YEARS = range(70_000)


class Raising:
    def __array__(self, *_, **__):
        raise RuntimeError("no device")


def embedded(db):
    return db.open("docs", embed=lambda texts: np.ones((len(texts), 3), F32))


def jsonb(db):
    return db.create_collection("json", dims=3, metadata=True)


def deep(name, value):
    for _ in range(3000):
        value = {name: value}
    return value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cascade(4), "dims is 4"),
        (lambda: Cascade("ab"), "dims is 'ab'"),
        (lambda: fitted(max_loss="a"), "max_loss is 'a'"),
        (lambda: fitted(max_loss=float("nan")), "max_loss is nan"),
    ],
)
def test_an_argument_of_a_cascade_that_cannot_be_meant_is_named(make, said):
    with pytest.raises(mrl_db.ValueRangeError, match=said):
        make()


def fitted(**target):
    return Cascade([2]).fit_rule(np.ones((9, 2), F32), np.zeros(9, int), **target)


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_an_argument_that_cannot_be_meant_is_named(db, docs, execute, case):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))")
    docs.add([1], [[1.0, 2, 3]], year=[2020], title=["a"])
    call, said = BAD_ARGUMENTS[case]

    with pytest.raises(mrl_db.MrlDbError, match=re.escape(said)):
        call(db)

    assert docs.count() == 1


def test_long_junctions_are_taken(docs):
    docs.add([1, 2], [[1.0, 2, 3]] * 2, year=[2020, 7000], title=["a", "b"])

    assert docs.count({"$or": [{"year": year} for year in range(3000)]}) == 1
    assert docs.count({"$and": [{"year": {"$ne": year}} for year in range(3000)]}) == 1
    assert docs.count(deep_of(90)) == 2


def deep_of(levels):
    return {"$not": deep_of(levels - 1)} if levels else {}


def test_a_buffer_of_two_axes_is_taken(docs):
    docs.add([1], memoryview(np.array([[1, 2, 3]], F32)))

    assert docs.get([1]).vectors.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("metric", ["l2", "inner_product"])
def test_rows_that_no_distance_tells_apart_are_refused(db, metric):
    docs = db.create_collection("tiny", dims=4, metric=metric)

    with pytest.raises(mrl_db.ValueRangeError, match="row 2: its length is 1e-25.*scale it"):
        docs.add([1, 2, 3], [[0] * 4, [1, 0, 0, 0], [1e-25, 0, 0, 0]])

    docs.add([1, 2], [[0] * 4, [1e-9, 0, 0, 0]])
    assert docs.search([1e-25, 0, 0, 0], k=2).ids.tolist()[0] in (1, 2)
