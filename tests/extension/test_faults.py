"""Servers killed in mid-write, buffers taken away in mid-search, many connections."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from extension.clients import reconnected, session_on, wait_for, working
from extension.conftest import Server, check_indexes
from extension.tables import clustered, exact, fill, nearest, plan, text
from psycopg import conninfo

DIMS = 32
ROWS = clustered(1500, DIMS)
QUERIES = ROWS[::50] + np.float32(0.03)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"
CYCLES = int(os.environ.get("MRL_DB_INDEX_CRASHES", "2"))
EVICTED_QUERIES = int(os.environ.get("MRL_DB_EVICTED_QUERIES", "300"))
BUFFERS_MB = int(os.environ.get("MRL_DB_BUFFERS_MB", "2"))
CONNECTIONS = int(os.environ.get("MRL_DB_CONNECTIONS", "40"))
MANY_ROWS = clustered(3000 * BUFFERS_MB, 64)


@pytest.mark.parametrize("beside", ["insert", "vacuum", "build"])
def test_a_killed_server_keeps_every_acknowledged_row(extension_server, new_database, rng, beside):
    with session_on(new_database) as session:
        fill(session, ROWS, column=f"vector({DIMS})")
        session.execute(CREATE)
    number = iter(range(10_000, 10_000_000))

    def insert(session, step):
        first = next(number)
        row = text(ROWS[first % len(ROWS)] + np.float32(first * 1e-5))
        session.execute("INSERT INTO docs VALUES (%s, 0, %s)", (first, row))
        return first

    def vacuum(session, step):
        session.execute("DELETE FROM docs WHERE id < 10000 AND id %% 100 = %s", (step % 100,))
        session.execute("VACUUM docs")

    def build(session, step):
        session.execute(f"DROP INDEX IF EXISTS again_{step}")
        session.execute(
            f"CREATE INDEX CONCURRENTLY again_{step} ON docs USING mrl "
            "(embedding vector_cosine_ops)"
        )
        session.execute(f"REINDEX INDEX again_{step}")
        session.execute(f"DROP INDEX again_{step}")

    acknowledged, database = set(), conninfo.conninfo_to_dict(new_database)["dbname"]
    for cycle in range(CYCLES):
        with reconnected(new_database) as session:
            checked = "generic" if cycle % 2 else ""  # what recovery makes of a page is compared
            session.execute(f"ALTER DATABASE {database} SET wal_consistency_checking = '{checked}'")
        works = [insert, insert, {"insert": insert, "vacuum": vacuum, "build": build}[beside]]
        with working(new_database, *works) as clients:
            wait_for(lambda: len(clients[0].answers) >= 20 or clients[0].done.is_set())
            time.sleep(float(rng.uniform(0, 0.3)))

            extension_server.kill()

        for client in clients:
            acknowledged |= set(client.answers) - {None}
        with reconnected(new_database) as session:
            session.execute("SET enable_seqscan = off; SET mrl.effort = 4000")
            ids = nearest(session, QUERIES[0], 1_000_000)
            assert len(ids) == len(set(ids))
            assert acknowledged <= set(ids)
            assert sorted(ids) == sorted(exact(session, QUERIES[0], 1_000_000))
            invalid = session.execute(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
            ).fetchall()
            assert "docs_mrl" not in [row[0] for row in invalid]
            check_indexes(session)
            query = f"SELECT id FROM docs ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 5"
            for (name,) in invalid:
                assert name not in plan(session, query)
                session.execute(f"DROP INDEX {name}")


@pytest.fixture(scope="module")
def small_server(tmp_path_factory, postgres_version):
    """A server with far fewer buffers than a table and its index have pages."""
    settings = {"shared_buffers": f"{BUFFERS_MB}MB", "max_connections": str(CONNECTIONS + 10)}
    server = Server(tmp_path_factory.mktemp("small"), postgres_version, **settings)
    with session_on(server.dsn) as session:
        session.execute("CREATE EXTENSION mrl_db CASCADE")
        fill(session, MANY_ROWS, column="vector(64)")
        session.execute(CREATE)
    yield server
    server.embedded.release()


def test_pages_that_are_evicted_in_mid_search_change_no_answer(small_server):
    queries = MANY_ROWS[:: len(MANY_ROWS) // 50] + np.float32(0.05)

    def noise(session, step):
        session.execute("SELECT count(embedding) FROM docs")

    with session_on(small_server.dsn) as session:
        session.execute("SET mrl.page_access = pinned")
        pinned = [nearest(session, query) for query in queries]
        session.execute("SET mrl.page_access = unpinned")
        with working(small_server.dsn, noise, noise) as clients:
            for number in range(EVICTED_QUERIES):
                which = number % len(queries)
                assert nearest(session, queries[which]) == pinned[which]
        assert all(client.answers for client in clients)


def test_many_connections_find_buffers_to_pin(small_server):
    queries = MANY_ROWS[::100] + np.float32(0.05)

    def ask(number):
        with session_on(small_server.dsn) as session:
            session.execute("SET mrl.page_access = pinned" if number % 2 else "SELECT 1")
            return [len(nearest(session, query, 50)) for query in queries[number::10]]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(ask, range(2 * CONNECTIONS)))

    assert {n for answer in answers for n in answer} == {50}
