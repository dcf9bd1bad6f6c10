"""A table that another client writes out anew while a search waits for its lock: no row is lost."""

import threading
import time

import numpy as np
import psycopg
import pytest

ROWS, DIMS = 200, 4
REWRITES = {
    "ALTER TABLE": "ALTER TABLE docs ALTER n TYPE bigint",
    "TRUNCATE": """
        CREATE TEMP TABLE kept AS SELECT * FROM docs;
        TRUNCATE docs;
        INSERT INTO docs (id, embedding) SELECT id, embedding FROM kept
    """,
}


def found(**options):
    return lambda docs: len(docs.search(np.ones(DIMS), k=1000, **options).ids)


def loaded(docs):
    docs.load(cache=False, max_staleness=float("inf"))
    return found()(docs)


CALLS = {  # what is done before, and what waits
    "exact": (None, found(exact=True)),
    "exact, filtered": (None, found(exact=True, where={"id": {"$gte": 0}})),
    "sql": (None, found(engine="sql")),
    "load": (None, loaded),
    "many rows to fetch": ("UPDATE docs SET embedding = embedding WHERE id < 100", found()),
    "few rows to fetch": ("UPDATE docs SET embedding = embedding WHERE id < 10", found()),
    "all rows to compare": ("VACUUM FULL docs", found()),
}


def waits(watching):
    return watching.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] > 0


def called_meanwhile(dsn, rewrite, call, docs):
    """What a call gives that waits for a rewrite, which is committed then."""
    answers = []
    with psycopg.connect(dsn) as writing, psycopg.connect(dsn, autocommit=True) as watching:
        writing.execute(rewrite)
        thread = threading.Thread(target=lambda: answers.append(call(docs)))
        thread.start()
        until = time.monotonic() + 60
        while not waits(watching) and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        writing.commit()
        thread.join()
    return answers


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("call", CALLS)
def test_all_rows_of_a_table_that_was_just_written_anew(db, execute, call, rewrite):
    docs = db.create_collection("docs", dims=DIMS, columns={"n": "integer"})
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMS)).astype(np.float32)
    docs.add(np.arange(ROWS), vectors)
    before, searched = CALLS[call]
    if before is not None:
        docs.load(cache=False)
        docs.search(vectors[0])
        execute(before)

    assert called_meanwhile(db.dsn, REWRITES[rewrite], searched, docs) == [ROWS]
    assert searched(docs) == ROWS


def test_all_rows_of_a_partition_that_was_just_written_anew(db, execute):
    execute("CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector(4)) PARTITION BY HASH (id)")
    for number in range(2):
        execute(
            f"CREATE TABLE docs_{number} PARTITION OF docs "
            f"FOR VALUES WITH (MODULUS 2, REMAINDER {number})"
        )
    docs = db.attach("docs")
    docs.add(np.arange(ROWS), np.random.default_rng(0).standard_normal((ROWS, DIMS)))
    refilled = REWRITES["TRUNCATE"].replace("docs", "docs_1")

    assert called_meanwhile(db.dsn, refilled, found(exact=True), docs) == [ROWS]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_search_in_the_callers_transaction(db, isolation):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(ROWS), np.eye(DIMS)[np.arange(ROWS) % DIMS])
    with psycopg.connect(db.dsn) as theirs:
        theirs.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        theirs.execute("SELECT count(*) FROM docs")  # takes a snapshot

        found = docs.search(np.ones(DIMS), k=1000, exact=True, connection=theirs)

    assert len(found.ids) == ROWS
