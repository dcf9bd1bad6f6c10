"""VACUUM after many rows went: a graph without them, and their slots for rows that come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from extension.conftest import check_indexes
from extension.tables import both_answers, clustered, exact, fill, nearest, recall

DIMS = 48
ROWS = clustered(4000, DIMS)
QUERIES = ROWS[::100] + np.float32(0.03)


@pytest.fixture
def docs(connection):
    """A table of 2,800 rows with an index for cosine."""
    fill(connection, ROWS[:2800], column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    return connection


def size(session):
    return session.execute("SELECT pg_relation_size('docs_mrl')").fetchone()[0]


def test_after_churn_searches_are_as_good_as_a_fresh_builds(docs):
    docs.execute("SET mrl.effort = 16")
    docs.execute("DELETE FROM docs WHERE id % 10 < 3")
    docs.execute("VACUUM docs")
    fill(docs, ROWS[2800:], first=2800)
    docs.execute("VACUUM docs")
    churned = recall(docs, QUERIES)

    docs.execute("REINDEX INDEX docs_mrl")

    assert churned >= recall(docs, QUERIES) - 0.005


def test_slots_are_used_again(docs):
    docs.execute("DELETE FROM docs WHERE id % 10 < 3")
    docs.execute("VACUUM docs")  # the new graph is written beside the old one
    docs.execute("CREATE TABLE other ()")
    docs.execute("VACUUM docs")
    before = size(docs)

    fill(docs, ROWS[2800:3640], first=2800)

    assert size(docs) == before
    assert sorted(nearest(docs, QUERIES[0], 9000)) == sorted(exact(docs, QUERIES[0], 9000))
    assert recall(docs, QUERIES) >= 0.97
    docs.execute("VACUUM docs")  # links them
    assert recall(docs, QUERIES) >= 0.97
    assert sorted(nearest(docs, QUERIES[0], 9000)) == sorted(exact(docs, QUERIES[0], 9000))


def test_churn_again_and_again_does_not_make_it_grow(docs):
    sizes = []
    for turn in range(4):
        docs.execute("DELETE FROM docs WHERE id / 2800 = %s AND id %% 4 <> 0", (turn,))
        docs.execute("VACUUM docs")
        docs.execute(f"CREATE TABLE turn_{turn} ()")
        docs.execute("VACUUM docs")
        fill(docs, ROWS[:2100], first=2800 * (turn + 1))
        docs.execute("DELETE FROM docs WHERE id < 2800 * %s", (turn + 1,))
        sizes.append(size(docs))

    assert sizes[-1] <= 1.6 * sizes[1]
    assert recall(docs, QUERIES[:10]) >= 0.9
    assert sorted(nearest(docs, QUERIES[0], 9000)) == sorted(exact(docs, QUERIES[0], 9000))


def test_a_cursor_sees_its_rows_while_slots_change_hands(docs, new_database):
    with psycopg.connect(new_database) as other:
        other.execute("SET enable_seqscan = off")
        docs.execute("DELETE FROM docs WHERE id % 10 < 3")
        other.execute(
            "DECLARE c CURSOR FOR SELECT id FROM docs ORDER BY embedding <=> "
            "(SELECT embedding FROM docs WHERE id = 3)"
        )
        got = [row[0] for row in other.execute("FETCH 50 FROM c")]
        docs.execute("VACUUM docs")
        fill(docs, ROWS[2800:3600], first=2800)
        got += [row[0] for row in other.execute("FETCH ALL FROM c")]

    assert sorted(got) == [i for i in range(2800) if i % 10 >= 3]


def test_vacuum_beside_writers_and_searches(docs, new_database):
    def write(number):
        with psycopg.connect(new_database, autocommit=True) as session:
            session.execute("SET enable_seqscan = off")
            for step in range(8):
                first = 100_000 * (number + 1) + 1000 * step
                fill(session, clustered(150, DIMS, seed=first), first=first)
                session.execute(
                    "DELETE FROM docs WHERE id BETWEEN %s AND %s OR id %% 97 = %s",
                    (first, first + 100, number * 8 + step),
                )
                answer = nearest(session, QUERIES[step], 20)
                assert len(answer) == len(set(answer)) == 20

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, number) for number in range(3)]
        while not all(writer.done() for writer in writers):
            docs.execute("VACUUM docs")
        for writer in writers:
            writer.result()

    for _ in range(2):
        assert sorted(nearest(docs, QUERIES[0], 9000)) == sorted(exact(docs, QUERIES[0], 9000))
        assert recall(docs, QUERIES[:10]) >= 0.97
        docs.execute("VACUUM docs")


def test_a_crash_after_slots_were_used_again(extension_server, new_database):
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        fill(session, ROWS[:2000], column=f"vector({DIMS})")
        session.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)")
        session.execute("DELETE FROM docs WHERE id % 3 = 0")
        session.execute("VACUUM docs")
        fill(session, ROWS[2000:2500], first=2000)
        before = [nearest(session, query, 20, "<->") for query in QUERIES]

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        assert [nearest(session, query, 20, "<->") for query in QUERIES] == before
        fill(session, ROWS[2500:3000], first=2500)
        assert sorted(nearest(session, QUERIES[0], 9000, "<->")) == sorted(
            exact(session, QUERIES[0], 9000, "<->")
        )


def test_an_index_whose_rows_have_all_gone_takes_new_ones(connection):
    fill(connection, clustered(2000, 16, seed=1), column="vector(16)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    later, made = clustered(2600, 16, seed=2), 0

    connection.execute("DELETE FROM docs")
    connection.execute("VACUUM docs")
    check_indexes(connection)
    for n in (0, 3, 700, 1300, 2600):
        fill(connection, later[made:n], first=5000 + made)
        made = n
        for again in range(2):
            check_indexes(connection)
            for query in later[::400]:
                by_index, by_scan = both_answers(connection, query, 10)
                assert by_index == by_scan, (n, again)
            connection.execute("VACUUM docs")
            connection.execute("VACUUM docs")
