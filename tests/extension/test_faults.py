"""Servers killed in mid-write, buffers taken away in mid-search, and many connections with few buffers."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from extension.conftest import Server, check_indexes
from extension.tables import clustered, exact, fill, nearest, plan, text
from psycopg import conninfo

from mrl_db.postgres.server import extension, programs

DIMS = 32
ROWS = clustered(1500, DIMS)
QUERIES = ROWS[::50] + np.float32(0.03)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"
CYCLES = int(os.environ.get("MRL_DB_CRASHES", "3"))
EVICTED_QUERIES = int(os.environ.get("MRL_DB_EVICTED_QUERIES", "300"))


@contextlib.contextmanager
def session_on(dsn):
    """A session whose planner takes an index when it can."""
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        yield session


class Client(threading.Thread):
    """Does one thing again and again until its server is gone, and keeps what was acknowledged."""

    def __init__(self, dsn, work):
        super().__init__(daemon=True)
        self.dsn, self.work = dsn, work
        self.acknowledged, self.error = [], None

    def run(self):
        try:
            with session_on(self.dsn) as session:
                for step in range(1_000_000):
                    self.acknowledged.append(self.work(session, step))
        except psycopg.OperationalError:
            pass  # the server was killed
        except Exception as error:
            self.error = error


def reconnected(dsn):
    """A session on the server that is back; it may still be recovering."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


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

    acknowledged = set()
    for _ in range(CYCLES):
        works = [insert, insert, {"insert": insert, "vacuum": vacuum, "build": build}[beside]]
        clients = [Client(new_database, work) for work in works]
        for client in clients:
            client.start()
        while len(clients[0].acknowledged) < 20:
            assert [client.error for client in clients] == [None] * 3
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.3)))

        extension_server.kill()

        for client in clients:
            client.join(60)
            assert client.error is None
            acknowledged |= set(client.acknowledged) - {None}
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
    """A server with far fewer buffers than an index has pages."""
    server = Server(tmp_path_factory.mktemp("small"), postgres_version, shared_buffers="2MB")
    with session_on(server.dsn) as session:
        session.execute("CREATE EXTENSION mrl_db CASCADE")
        fill(session, clustered(6000, 64), column="vector(64)")
        session.execute(CREATE)
    yield server
    server.embedded.release()


def test_pages_that_are_evicted_in_mid_search_change_no_answer(small_server):
    queries = clustered(6000, 64)[:: 6000 // 50] + np.float32(0.05)
    done = threading.Event()

    def noise():
        with psycopg.connect(small_server.dsn, autocommit=True) as session:
            while not done.is_set():
                session.execute("SELECT count(embedding) FROM docs")

    with session_on(small_server.dsn) as session, ThreadPoolExecutor(2) as pool:
        session.execute("SET mrl.page_access = pinned")
        pinned = [nearest(session, query) for query in queries]
        session.execute("SET mrl.page_access = unpinned")
        noises = [pool.submit(noise) for _ in range(2)]
        try:
            for number in range(EVICTED_QUERIES):
                which = number % len(queries)
                assert nearest(session, queries[which]) == pinned[which]
        finally:
            done.set()
        for each in noises:
            each.result()


def test_many_connections_find_buffers_to_pin(small_server):
    queries = clustered(6000, 64)[::100] + np.float32(0.05)

    def ask(number):
        with session_on(small_server.dsn) as session:
            session.execute("SET mrl.page_access = pinned" if number % 2 else "SELECT 1")
            return [len(nearest(session, query, 50)) for query in queries[number::10]]

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(80)))

    assert {n for answer in answers for n in answer} == {50}


@contextlib.contextmanager
def standby_of(server, home):
    """A streaming standby of a server: its connection string."""
    binaries, data = server.embedded.binaries, server.home / "server" / "data"
    standby = home / "standby"
    users = {pwd.getpwuid(os.geteuid()).pw_name, pwd.getpwuid(data.stat().st_uid).pw_name}
    programs.let_in(data, *users)
    with (data / "pg_hba.conf").open("a") as hba:
        hba.write("local replication all peer map=mrl_db\n")
    with session_on(server.dsn) as session:
        session.execute("SELECT pg_reload_conf()")
    copy = [binaries.program("pg_basebackup"), "-D", str(standby), "-R", "-c", "fast"]
    subprocess.run([*copy, "-d", server.dsn], check=True, env=programs.environment())
    for path in [standby, *standby.rglob("*")]:
        os.chown(path, data.stat().st_uid, data.stat().st_gid)
    program = extension.program(binaries.version, binaries.folder, server.embedded.home)
    log = standby / "log"
    options = ("-l", str(log), "-p", str(program), "-o", "-p 5433")
    assert programs.pg_ctl(binaries, standby, "start", "-w", *options).returncode == 0
    try:
        yield conninfo.make_conninfo(server.dsn, port=5433)
    finally:
        programs.pg_ctl(binaries, standby, "stop", "-m", "immediate")


def wait_for(condition):
    """Waits until a condition holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_standby_answers_as_its_primary_and_goes_on_when_promoted(new_server):
    with session_on(new_server.dsn) as primary:
        primary.execute("CREATE EXTENSION mrl_db CASCADE")
        fill(primary, ROWS[:1000], column=f"vector({DIMS})")
        primary.execute(CREATE)
        with standby_of(new_server, new_server.home) as dsn, session_on(dsn) as standby:
            fill(primary, ROWS[1000:], first=1000)
            primary.execute("DELETE FROM docs WHERE id % 7 = 0")
            primary.execute("VACUUM docs")
            primary.execute("REINDEX INDEX docs_mrl")
            fill(primary, ROWS[:50] + np.float32(0.01), first=2000)
            sent = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
            wait_for(
                lambda: standby.execute(
                    "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", sent
                ).fetchone()[0]
            )

            answers = [nearest(primary, query) for query in QUERIES]
            assert [nearest(standby, query) for query in QUERIES] == answers

            standby.execute("SELECT pg_promote()")
            wait_for(lambda: not standby.execute("SELECT pg_is_in_recovery()").fetchone()[0])
            fill(standby, ROWS[:300] + np.float32(0.02), first=5000)
            standby.execute("VACUUM docs")
            assert set(nearest(standby, QUERIES[3], 100_000)) == set(
                exact(standby, QUERIES[3], 100_000)
            )


@pytest.fixture
def new_server(tmp_path_factory, postgres_version):
    """A server whose WAL others may follow."""
    server = Server(
        tmp_path_factory.mktemp("primary"),
        postgres_version,
        wal_level="replica",
        max_wal_senders="4",
    )
    yield server
    server.embedded.release()
