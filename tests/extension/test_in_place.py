"""Vectors that are read where the table's pages lie in buffers, without a pin: right whatever has
happened to their rows, and read so at all."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import both_answers, clustered, fill, plan, text

DIMS = 64
ROWS = clustered(2000, DIMS)
QUERIES = clustered(2000, DIMS)[::400] + np.float32(0.05)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"


@pytest.fixture
def docs(connection):
    """A table with room in its pages, an index, and a session that finds all."""
    connection.execute(
        f"CREATE TABLE docs (id integer, kind integer, embedding vector({DIMS}))"
        " WITH (fillfactor = 60)"
    )
    fill(connection, ROWS)
    connection.execute(f"ALTER TABLE docs SET (fillfactor = 100); {CREATE}")
    connection.execute("SET mrl.effort = 4000; SET enable_seqscan = off")
    return connection


def agrees(session, queries=QUERIES, k=40):
    """Whether searches give what a sequential scan gives, the second time from remembered places."""
    for query in [*queries, *queries]:
        by_index, by_scan = both_answers(session, query, k)
        if by_index != by_scan:
            return False
    return True


def pages_asked_for(session, query):
    """How many pages a search asked the buffer manager for."""
    (said,) = session.execute(
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)"
        f" SELECT id FROM docs ORDER BY embedding <=> '{query.tolist()}' LIMIT 10"
    ).fetchone()
    return said[0]["Plan"]["Shared Hit Blocks"] + said[0]["Plan"]["Shared Read Blocks"]


def test_only_the_rows_that_are_returned_are_asked_for(docs):
    docs.execute("SET mrl.effort = 64")
    pages_asked_for(docs, QUERIES[0])

    in_place = pages_asked_for(docs, QUERIES[0])
    docs.execute("SET mrl.page_access = pinned")
    pinned = pages_asked_for(docs, QUERIES[0])
    docs.execute("RESET mrl.page_access; ALTER TABLE docs SET UNLOGGED")
    pages_asked_for(docs, QUERIES[0])
    unlogged = pages_asked_for(docs, QUERIES[0])

    # Ten rows, the index's first page, some that show the clock sweep what is in use; without WAL
    # the candidates too, and their tails.
    assert in_place + 2 * 8 <= unlogged < pinned


@pytest.mark.parametrize(
    "changes",
    [
        ["UPDATE docs SET kind = kind + 1"],
        ["UPDATE docs SET kind = kind + 1 WHERE id % 3 = 0", "VACUUM docs"],
        ["UPDATE docs SET kind = kind + 1 WHERE id % 3 = 0"] * 3,
        ["DELETE FROM docs WHERE id % 3 <> 0"],
        ["DELETE FROM docs WHERE id % 3 <> 0", "VACUUM docs"],
        [
            "DELETE FROM docs WHERE id % 3 <> 0",
            "VACUUM docs",
            "INSERT INTO docs SELECT id + 5000, kind, embedding FROM docs",
        ],
        ["UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 7) WHERE id % 9 = 0"],
        ["UPDATE docs SET embedding = NULL WHERE id % 4 = 0"],
        ["ALTER TABLE docs DROP COLUMN kind", "ALTER TABLE docs ADD COLUMN kind text DEFAULT 'x'"],
        ["ALTER TABLE docs ADD COLUMN first text", "UPDATE docs SET first = 'x' WHERE id % 3 = 0"],
        [
            "DO $$ BEGIN DELETE FROM docs WHERE id % 2 = 0; RAISE 'no'; EXCEPTION WHEN OTHERS THEN END $$",
            "VACUUM docs",
        ],
        ["TRUNCATE docs", "INSERT INTO docs SELECT 1, 1, ARRAY(SELECT random() FROM generate_series(1, 64))::vector FROM generate_series(1, 500)"],
        ["VACUUM FULL docs"],
        ["CLUSTER docs USING by_id"],
    ],
    ids=lambda changes: changes[-1][:30],
)  # fmt: skip
def test_answers_stay_right_whatever_becomes_of_the_rows(docs, changes):
    docs.execute("CREATE INDEX by_id ON docs (id)")
    assert agrees(docs)

    for change in changes:
        docs.execute(change)
        assert agrees(docs), change


def test_a_chain_whose_first_row_had_another_vector_is_followed(docs):
    """Rows were updated in place while no index was on the column: the first of a chain is old."""
    docs.execute("DROP INDEX docs_mrl")
    with psycopg.connect(docs.info.dsn) as older:
        older.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        older.execute("SELECT count(*) FROM docs")
        docs.execute(
            "UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 3) WHERE id % 5 = 0"
        )
        docs.execute(CREATE)
    docs.execute("SELECT pg_current_xact_id()")  # the index may be used by later snapshots

    assert "docs_mrl" in plan(
        docs, f"SELECT id FROM docs ORDER BY embedding <=> '{text(ROWS[3])}' LIMIT 10"
    )
    assert agrees(docs, [ROWS[3], ROWS[0], ROWS[5], *QUERIES])


@pytest.mark.parametrize(
    ("dims", "storage", "filled"),
    [(8, "external", 1.0), (700, "extended", 0.2), (600, "external", 1.0), (400, "plain", 1.0)],
    ids=["short header", "compressed", "toasted", "plain"],
)
def test_vectors_are_read_however_they_are_stored(connection, dims, storage, filled):
    rows = clustered(600, dims, seed=2)
    rows[:, int(dims * filled) :] = 0
    connection.execute(f"CREATE TABLE docs (id integer, kind integer, embedding vector({dims}))")
    connection.execute(f"ALTER TABLE docs ALTER embedding SET STORAGE {storage}")
    fill(connection, rows)
    connection.execute(f"{CREATE}; SET mrl.effort = 4000")

    assert agrees(connection, rows[::150] + np.float32(0.01))


def test_a_deleted_row_whose_toasted_vector_is_gone_already_is_passed_over(connection):
    rows = clustered(600, 600, seed=2)
    connection.execute("CREATE TABLE docs (id integer, kind integer, embedding vector(600))")
    connection.execute("ALTER TABLE docs ALTER embedding SET STORAGE external")
    fill(connection, rows)
    connection.execute(f"{CREATE}; SET mrl.effort = 4000")
    assert agrees(connection, rows[::150])

    connection.execute("DELETE FROM docs WHERE id % 3 = 0")
    (toast,) = connection.execute(
        "SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'docs'"
    ).fetchone()
    connection.execute(f"VACUUM {toast}")

    assert agrees(connection, rows[::150])
