"""Clients that make, attach, drop, load or index one collection at the same moment."""

import threading

import numpy as np
import psycopg
import pytest

import mrl_db

DIMS, CLIENTS, ROUNDS = 8, 5, 3
DONE = "done"
EVER = float("inf")


@pytest.fixture
def at_once(dsn):
    """Has clients do something at once; returns how each fared: done, or its error."""

    def run(work):
        fates, start = [], threading.Barrier(CLIENTS)

        def client(number):
            with mrl_db.connect(dsn, pool_size=2) as db:
                docs = db.open("docs") if "docs" in db else None
                start.wait()
                try:
                    work(db, docs, number)
                    fates.append(DONE)
                except Exception as error:
                    fates.append(error)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return fates

    return run


@pytest.fixture
def docs(db):
    return filled(db)


def filled(db):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(100), np.random.default_rng(0).standard_normal((100, DIMS)))
    return docs


def one_did(fates, error_class):
    others = [fate for fate in fates if fate is not DONE]
    assert len(others) == CLIENTS - 1
    assert {type(fate) for fate in others} == {error_class}, others


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_those_who_create_one_name_one_does(at_once, _):
    fates = at_once(lambda db, _docs, _n: db.create_collection("docs", dims=DIMS))

    one_did(fates, mrl_db.CollectionExistsError)


@pytest.mark.parametrize("names", [["docs"] * CLIENTS, [f"docs_{n}" for n in range(CLIENTS)]])
@pytest.mark.parametrize("low_dim", ["column", "index"])
def test_of_those_who_attach_one_table_one_does(at_once, execute, names, low_dim):
    execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}))")

    fates = at_once(lambda db, _docs, n: db.attach("docs", name=names[n], low_dim=low_dim))

    one_did(fates, mrl_db.CollectionExistsError)


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_those_who_drop_a_collection_one_does(docs, at_once, _):
    fates = at_once(lambda db, _docs, _n: db.drop("docs"))

    one_did(fates, mrl_db.CollectionNotFoundError)


@pytest.mark.parametrize("_", range(ROUNDS))
def test_all_who_load_a_collection_first_follow_it(docs, at_once, _):
    def work(_db, mine, number):
        mine.load(cache=False)
        mine.upsert([number], np.full((1, DIMS), number + 1.0))
        assert mine.search(np.ones(DIMS), k=CLIENTS).ids.size == CLIENTS

    assert at_once(work) == [DONE] * CLIENTS


@pytest.mark.parametrize("concurrently", [[False] * CLIENTS, [True] * CLIENTS, [True, False] * 3])
def test_all_who_build_an_index_have_it(docs, at_once, dsn, concurrently):
    fates = at_once(
        lambda _db, mine, n: mine.create_index(kind="hnsw", concurrently=concurrently[n])
    )

    assert fates == [DONE] * CLIENTS
    with psycopg.connect(dsn) as connection:
        assert connection.execute(
            "SELECT count(*), bool_and(indisvalid) FROM pg_index"
            " WHERE indrelid = 'docs'::regclass AND NOT indisprimary"
        ).fetchone() == (1, True)


def test_all_who_build_an_index_by_sql_have_it(docs, at_once, dsn):
    def work(_db, _docs, _number):
        with psycopg.connect(dsn) as connection:
            connection.execute("SELECT mrl.create_index('docs', kind => 'hnsw')")

    assert at_once(work) == [DONE] * CLIENTS


def test_of_those_who_add_a_text_by_sql_one_does(db, at_once, dsn):
    db.create_collection("docs", dims=DIMS, columns={"body": "text"})

    def work(_db, _docs, _number):
        with psycopg.connect(dsn) as connection:
            connection.execute("SELECT mrl.add_text('docs', 'body')")

    fates = at_once(work)
    assert sorted(getattr(fate, "sqlstate", "") for fate in fates if fate is not DONE) == (
        ["MR001"] * (CLIENTS - 1)
    )


@pytest.mark.parametrize("_", range(ROUNDS))
def test_who_meets_a_drop_learns_that_the_collection_is_gone(docs, at_once, _):
    works = [
        lambda db, _docs: db.drop("docs"),
        lambda _db, docs: docs.create_index(),
        lambda _db, docs: docs.load(cache=False),
        lambda _db, docs: docs.add([1000], np.ones((1, DIMS))),
        lambda _db, docs: docs.search(np.ones(DIMS)),
    ]
    fates = at_once(lambda db, mine, n: works[n](db, mine))

    assert DONE in fates
    others = [fate for fate in fates if fate is not DONE]
    assert {type(fate) for fate in others} <= {mrl_db.CollectionNotFoundError}, others


@pytest.mark.superuser
def test_all_who_first_come_to_a_database_find_it_ready(execute, at_once):
    execute("DROP SCHEMA mrl CASCADE")
    execute("DROP EXTENSION IF EXISTS mrl_db, vector CASCADE")

    assert at_once(lambda db, _docs, n: db.create_collection(f"docs_{n}", dims=DIMS)) == (
        [DONE] * CLIENTS
    )
