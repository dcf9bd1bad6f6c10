"""An index on every kind of table, and what PostgreSQL does to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from extension.tables import clustered, exact, fill, nearest, plan, recall, text

DIMS = 32
ROWS = clustered(2000, DIMS)
QUERIES = ROWS[::100] + np.float32(0.03)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"


@pytest.fixture
def docs(connection):
    """A table of 2,000 rows with an index for cosine."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(CREATE)
    return connection


def same_as_exact(session, floor=0.97, **options):
    """Whether the index finds what a sequential scan finds."""
    return recall(session, QUERIES, **options) >= floor


def test_rows_that_come_later_are_found_at_once(docs):
    fill(docs, ROWS[:700] + 0.001, first=5000)

    assert same_as_exact(docs)
    docs.execute(f"INSERT INTO docs VALUES (9999, 0, '{text(QUERIES[3])}')")
    assert nearest(docs, QUERIES[3], 1) == [9999]


def test_an_index_of_an_empty_table_takes_rows(connection):
    connection.execute(f"CREATE TABLE docs (id integer, kind integer, embedding vector({DIMS}))")
    connection.execute(CREATE)

    assert nearest(connection, QUERIES[0]) == []
    fill(connection, ROWS)

    assert same_as_exact(connection)


def test_what_was_rolled_back_is_not_found(docs):
    before = [nearest(docs, query) for query in QUERIES]

    with docs.transaction(force_rollback=True):
        docs.execute(f"INSERT INTO docs VALUES (9999, 0, '{text(QUERIES[0])}')")
        assert nearest(docs, QUERIES[0], 1) == [9999]

    assert [nearest(docs, query) for query in QUERIES] == before


def test_deleted_rows_are_not_found_before_vacuum_nor_after(docs):
    docs.execute("DELETE FROM docs WHERE id % 3 = 0")
    assert same_as_exact(docs)

    docs.execute("VACUUM docs")
    assert same_as_exact(docs)

    fill(docs, ROWS[:600], first=3000)
    docs.execute("DELETE FROM docs WHERE id BETWEEN 3000 AND 3300")
    docs.execute("VACUUM docs")
    assert same_as_exact(docs)
    assert sorted(nearest(docs, QUERIES[0], 10_000)) == sorted(exact(docs, QUERIES[0], 10_000))


def test_an_updated_row_is_found_where_it_is(docs):
    docs.execute(f"UPDATE docs SET embedding = '{text(QUERIES[5])}' WHERE id = 17")
    docs.execute("UPDATE docs SET kind = kind + 1")  # heap-only where the page has room

    assert 17 in nearest(docs, QUERIES[5], 3)
    assert same_as_exact(docs)
    docs.execute("VACUUM docs")
    assert same_as_exact(docs)


def test_partial_and_expression_indexes(connection):
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(f"{CREATE} WHERE kind < 500")
    connection.execute("CREATE INDEX ON docs USING mrl ((embedding::halfvec(32)) halfvec_l2_ops)")

    assert "docs_mrl" in plan(
        connection,
        f"SELECT id FROM docs WHERE kind < 500 ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 5",
    )
    assert same_as_exact(connection, where="kind < 500")
    by_expression = (
        f"SELECT id FROM docs ORDER BY embedding::halfvec(32) <-> '{text(QUERIES[0])}' LIMIT 10"
    )
    assert "Index Scan" in plan(connection, by_expression)
    ids = [row[0] for row in connection.execute(by_expression)]
    assert len(set(ids) & set(exact(connection, QUERIES[0], operator="<->"))) >= 9


def test_partitions(connection):
    connection.execute(
        f"CREATE TABLE docs (id integer, kind integer, embedding vector({DIMS})) PARTITION BY RANGE (id)"
    )
    for first in (0, 1000, 2000):
        connection.execute(
            f"CREATE TABLE docs_{first} PARTITION OF docs FOR VALUES FROM ({first}) TO ({first + 1000})"
        )
    connection.execute(CREATE)
    fill(connection, ROWS)

    statement = f"SELECT id FROM docs ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 5"
    assert plan(connection, statement).count("Index Scan") == 3
    assert same_as_exact(connection)


@pytest.mark.parametrize("how", ["CONCURRENTLY", ""])
def test_built_and_built_again(connection, how):
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(CREATE.replace("INDEX", f"INDEX {how}"))
    assert same_as_exact(connection)
    fill(connection, ROWS[:300] + 0.01, first=4000)

    connection.execute(f"REINDEX INDEX {how} docs_mrl")

    assert same_as_exact(connection)
    assert connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'docs_mrl'::regclass"
    ).fetchone() == (True,)


def test_an_index_goes_with_its_table_when_that_is_written_anew(docs):
    for statement in ("VACUUM FULL docs", "CLUSTER docs USING docs_id"):
        if statement.startswith("CLUSTER"):
            docs.execute("CREATE INDEX docs_id ON docs (id)")
        docs.execute(statement)
        assert same_as_exact(docs)
    docs.execute("TRUNCATE docs")
    assert nearest(docs, QUERIES[0]) == []
    fill(docs, ROWS[:50])
    assert len(nearest(docs, QUERIES[0], 100)) == 50


def test_a_temporary_table(connection):
    connection.execute(
        f"CREATE TEMP TABLE docs (id integer, kind integer, embedding vector({DIMS}))"
    )
    fill(connection, ROWS)
    connection.execute(CREATE)
    fill(connection, ROWS[:100] + 0.01, first=4000)

    assert same_as_exact(connection)


def test_row_level_security_hides_rows(docs):
    docs.execute("CREATE ROLE reader; GRANT SELECT ON docs TO reader")
    try:
        docs.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        docs.execute("CREATE POLICY own ON docs TO reader USING (kind < 100)")
        docs.execute("SET ROLE reader")

        assert len(nearest(docs, QUERIES[0], 50)) == 50
        assert same_as_exact(docs, k=5)
        visible = docs.execute("SELECT count(*) FROM docs WHERE kind >= 100").fetchone()
        assert visible == (0,)
    finally:
        docs.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


def test_another_session_sees_a_new_graph_after_reindex(docs, new_database):
    with psycopg.connect(new_database, autocommit=True) as other:
        other.execute("SET enable_seqscan = off")
        before = [nearest(other, query) for query in QUERIES]

        docs.execute("REINDEX INDEX docs_mrl")

        assert [nearest(other, query) for query in QUERIES] == before


def test_a_cancelled_build_leaves_nothing(connection):
    fill(connection, clustered(20_000, DIMS), column=f"vector({DIMS})")
    connection.execute("SET statement_timeout = '150ms'")

    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute(CREATE)

    connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT to_regclass('docs_mrl')").fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM docs").fetchone() == (20_000,)


@pytest.mark.parametrize("kind", ["", "UNLOGGED"])
def test_after_a_crash(extension_server, new_database, kind):
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        session.execute(
            f"CREATE {kind} TABLE docs (id integer, kind integer, embedding vector({DIMS}))"
        )
        fill(session, ROWS)
        session.execute(CREATE)
        fill(session, ROWS[:200] + 0.01, first=5000)
        session.execute("DELETE FROM docs WHERE id % 10 = 0")
        session.execute("VACUUM docs")
        before = [nearest(session, query) for query in QUERIES]

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        if kind:
            assert nearest(session, QUERIES[0]) == []
            fill(session, ROWS)
            assert same_as_exact(session)
        else:
            assert [nearest(session, query) for query in QUERIES] == before


def test_rows_that_waited_are_linked_and_found_by_walks(docs):
    """More than a thousand rows wait at most; VACUUM leaves none."""
    fill(docs, clustered(3000, DIMS, seed=5), first=10_000)
    docs.execute("SET mrl.effort = 24")
    queries = clustered(3000, DIMS, seed=5)[::100] + np.float32(0.03)

    # They are unlike the rows that the index was built on, and more.
    assert recall(docs, queries) >= 0.98
    docs.execute("VACUUM docs")
    linked = recall(docs, queries)
    docs.execute("REINDEX INDEX docs_mrl")
    assert linked >= max(0.98, recall(docs, queries) - 0.01)


def test_no_insert_links_for_all_others(docs, new_database):
    """Rows come faster than one client links them: each goes on with its own all the same."""
    docs.execute("CREATE INDEX ON docs (id)")
    enough, most, step = 2000, 60_000, 100
    written = [0, 0, 0]

    def write(number):
        with psycopg.connect(new_database, autocommit=True) as session:
            while min(written) < enough and written[number] < most:
                first = 1_000_000 * (number + 1) + written[number]
                session.execute(
                    f"DO $$ BEGIN FOR i IN 1 .. {step} LOOP INSERT INTO docs SELECT {first} + i, 0, "
                    "embedding FROM docs WHERE id = i; COMMIT; END LOOP; END $$"
                )
                written[number] += step
            return min(written) >= enough

    with ThreadPoolExecutor(len(written)) as pool:
        went_on = list(pool.map(write, range(len(written))))

    assert all(went_on)
    assert docs.execute("SELECT waiting FROM mrl_index_info('docs_mrl')").fetchone()[0] < 8192


def test_writers_and_readers_side_by_side(docs, new_database):
    def write(number):
        with psycopg.connect(new_database, autocommit=True) as session:
            for step in range(6):
                first = 20_000 + 10_000 * number + 200 * step
                fill(session, clustered(200, DIMS, seed=first), first=first)
                session.execute("DELETE FROM docs WHERE id BETWEEN %s AND %s", (first, first + 40))
                nearest(session, QUERIES[step])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        for _ in range(6):
            docs.execute("VACUUM docs")
        for writer in writers:
            writer.result()

    assert same_as_exact(docs)
    assert sorted(nearest(docs, QUERIES[0], 100_000)) == sorted(exact(docs, QUERIES[0], 100_000))
