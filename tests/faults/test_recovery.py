"""What a server loses in a crash is not found by who read it before: unlogged rows, late commits."""

import itertools
import os
import signal
import time

import followed
import psycopg
import pytest
from followed import DIMS, ROW, N, assert_equal_to_the_database, nearest, text
from psycopg import conninfo

import mrl_db

_number = itertools.count()
UNLOGGED = {
    "table": f"CREATE UNLOGGED TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}))",
    "partition": f"""
        CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS})) PARTITION BY RANGE (id);
        CREATE TABLE kept PARTITION OF docs FOR VALUES FROM (0) TO (100);
        CREATE UNLOGGED TABLE emptied PARTITION OF docs FOR VALUES FROM (100) TO (1000)
    """,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres_version):
    """One whose commits that do not wait are written late."""
    with mrl_db.connect(
        home=tmp_path_factory.mktemp("server"),
        postgres_version=postgres_version,
        settings={"fsync": "off", "wal_writer_delay": "10s", "bgwriter_delay": "10s"},
    ) as db:
        yield db


@pytest.fixture
def db(server, tmp_path, monkeypatch):
    """A database of the test's own."""
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    name = f"test_{next(_number)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with mrl_db.connect(conninfo.make_conninfo(server.dsn, dbname=name)) as db:
        yield db


@pytest.fixture
def vectors(rng):
    return followed.made(rng)


def kill(dsn, connection):
    """Kills a backend: the server ends all others and recovers, without another start of its own."""
    with psycopg.connect(dsn) as other:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
        connection.close()
        with pytest.raises(psycopg.OperationalError):
            other.execute("SELECT pg_sleep(60)")
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(dsn).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("unlogged", UNLOGGED)
def test_unlogged_rows_go_with_a_crash_here_and_out_of_the_file(db, vectors, unlogged):
    with psycopg.connect(db.dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(UNLOGGED[unlogged])
    docs, filed = db.attach("docs", low_dim="index"), db.open("docs")
    docs.add(range(N), vectors[:N])
    docs.load()
    filed.load()
    filed.unload()

    kill(db.dsn, psycopg.connect(db.dsn, autocommit=True))

    assert_equal_to_the_database(docs, vectors[:3])
    assert docs.loaded.rows == docs.count() < N
    filed.load()
    assert_equal_to_the_database(filed, vectors[:3])


def test_a_row_whose_late_commit_a_crash_lost_is_not_found(db, vectors):
    docs = followed.loaded(db, vectors)
    connection = psycopg.connect(db.dsn, autocommit=True)
    connection.execute("SET synchronous_commit = off")
    connection.execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] == N

    kill(db.dsn, connection)

    assert docs.count() == N
    assert nearest(docs, vectors[N])[0] != N
