"""An index that was made on a few rows or none, and fits itself to those that come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from extension.tables import OPERATORS, clustered, exact, fill, nearest, recall

DIMS = 300  # more than a line has coordinates
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_{metric}_ops)"


def create(session, rows=(), metric="cosine", kind=""):
    session.execute(
        f"CREATE {kind} TABLE docs (id integer, kind integer, embedding vector({DIMS}))"
    )
    fill(session, rows)
    session.execute(CREATE.format(metric=metric))


@pytest.mark.parametrize("before", [0, 1, 40])
def test_few_rows_are_answered_exactly(connection, before):
    rows = clustered(900, DIMS)
    create(connection, rows[:before])
    fill(connection, rows[before:], first=before)
    queries = rows[::90] + np.float32(0.05)

    assert recall(connection, queries) == 1
    assert len(nearest(connection, queries[0], 5000)) == 900


@pytest.mark.parametrize("metric", OPERATORS)
def test_the_insert_that_makes_them_many_fits_a_projection(connection, metric):
    rows = clustered(2500, DIMS)
    create(connection, metric=metric)
    fill(connection, rows)
    queries = rows[::100] + np.float32(0.05)

    assert recall(connection, queries, operator=OPERATORS[metric]) >= 0.97
    assert sorted(nearest(connection, queries[0], 5000, OPERATORS[metric])) == list(range(2500))


def fitted(session):
    """The graph's generation, and the rows that its projection was fitted to."""
    statement = "SELECT generation, fitted FROM mrl_index_info('docs_mrl')"
    return session.execute(statement).fetchone()


def test_vacuum_fits_another_when_there_are_many_more(connection):
    rows = clustered(3200, DIMS)
    other = clustered(1100, DIMS, seed=9)  # what came first is not like the rest
    create(connection)
    fill(connection, other, first=10_000)
    fill(connection, rows)
    connection.execute("SET mrl.effort = 16")
    queries = rows[::16] + np.float32(0.05)
    before, fitted_before = recall(connection, queries), fitted(connection)

    connection.execute("VACUUM docs")

    after, fitted_after = recall(connection, queries), fitted(connection)
    connection.execute("REINDEX INDEX docs_mrl")
    assert fitted_before[1] < 4300 == fitted_after[1]
    assert fitted_after[0] > fitted_before[0]
    assert before >= 0.95
    assert after >= max(before, recall(connection, queries)) - 0.01


def test_a_cursor_goes_on_in_another_generation(connection, new_database):
    rows = clustered(4500, DIMS)
    create(connection, rows[:1100])
    fill(connection, rows[1100:], first=1100)
    with psycopg.connect(new_database) as other:
        other.execute("SET enable_seqscan = off")
        ids = nearest(other, rows[3], 600)
        other.execute(
            "DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding <=> "
            "(SELECT embedding FROM docs WHERE id = 3)"
        )
        got = [row[0] for row in other.execute("FETCH 100 FROM c")]

        connection.execute("VACUUM docs")
        got += [row[0] for row in other.execute("FETCH ALL FROM c")]

    assert sorted(got) == list(range(4500))
    assert got[:10] == ids[:10]  # without a LIMIT the first walk is narrow
    assert len({*got[:100]} & {*ids[:100]}) >= 95


def test_it_is_fitted_while_others_write_and_search(connection, new_database):
    rows = clustered(6000, 48)
    connection.execute("CREATE TABLE docs (id integer, kind integer, embedding vector(48))")
    connection.execute(CREATE.format(metric="cosine"))

    def write(number):
        with psycopg.connect(new_database, autocommit=True) as session:
            session.execute("SET enable_seqscan = off")
            for first in range(number * 2000, number * 2000 + 2000, 100):
                fill(session, rows[first : first + 100], first=first)
                assert first in nearest(session, rows[first], 3)

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        for _ in range(8):
            connection.execute("VACUUM docs")
        for writer in writers:
            writer.result()

    queries = rows[::200] + np.float32(0.03)
    assert sorted(nearest(connection, queries[0], 10_000)) == list(range(6000))
    assert recall(connection, queries) >= 0.97


def test_too_little_memory_is_said_and_nothing_is_lost(connection):
    rows = clustered(4500, DIMS)
    create(connection, rows[:1100])
    fill(connection, rows[1100:], first=1100)
    said = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary))

    connection.execute("SET maintenance_work_mem = '2MB'; ")
    connection.execute("VACUUM docs")

    assert said == [
        'index "docs_mrl" of 4500 rows was fitted to 1100, and 0 are dead; '
        "to fit it again maintenance_work_mem is too small"
    ]
    assert sorted(nearest(connection, rows[0], 10_000)) == list(range(4500))


def test_pages_of_the_last_generation_are_used_again(connection):
    def pages():
        return connection.execute("SELECT pg_relation_size('docs_mrl') / 8192").fetchone()[0]

    rows = clustered(4500, DIMS)
    create(connection, rows[:1100])
    fill(connection, rows[1100:], first=1100)
    connection.execute("VACUUM docs")  # fits
    fill(connection, rows[:1], first=4500)
    connection.execute("VACUUM docs")  # nobody reads the old ones now
    before = pages()

    fill(connection, rows[1:600], first=4501)

    assert pages() == before
    assert sorted(nearest(connection, rows[0], 10_000)) == list(range(5100))


def test_a_crash_after_fitting_keeps_all(extension_server, new_database):
    rows = clustered(5000, 32)
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        session.execute("CREATE TABLE docs (id integer, kind integer, embedding vector(32))")
        session.execute(CREATE.format(metric="l2"))
        fill(session, rows)
        session.execute("VACUUM docs")
        fill(session, rows[:300] + 0.01, first=5000)
        before = [nearest(session, query, 20, "<->") for query in rows[::500]]

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        assert [nearest(session, query, 20, "<->") for query in rows[::500]] == before
        assert sorted(nearest(session, rows[0], 10_000)) == sorted(exact(session, rows[0], 10_000))


def test_a_directory_of_more_than_a_page(connection):
    """A page lists 2,032 others; of vectors so wide each row has a page of its own."""
    connection.execute("CREATE TABLE docs (id integer, embedding vector(8000))")
    connection.execute(
        "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops) WITH (dims = 8)"
    )
    row = "'[' || i || repeat(',' || i % 7, 7) || repeat(',0', 7992) || ']'"

    connection.execute(
        f"INSERT INTO docs SELECT i, ({row})::vector FROM generate_series(0, 2049) AS i"
    )

    assert connection.execute("SELECT mrl_check_index('docs_mrl')").fetchone() == (2050,)
    near = "(SELECT embedding FROM docs WHERE id = 2041)"
    query = f"SELECT id FROM docs ORDER BY embedding <-> {near} LIMIT 1"
    assert connection.execute(query).fetchone() == (2041,)
