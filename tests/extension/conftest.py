"""A server of its own, with databases that have the extension."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from mrl_db.postgres.server import embedded

_number = itertools.count()


class Server:
    """The server, and how to get at its process."""

    def __init__(self, home: Path, version: int, **settings: str):
        settings = {
            "shared_buffers": "64MB",
            "autovacuum": "off",
            "max_wal_size": "1GB",
            "fsync": "off",  # the servers here are killed, the machine never is
            **settings,
        }
        self.home = home
        self.embedded = embedded.EmbeddedServer(home / "server", version=version, settings=settings)
        self.dsn = self.embedded.dsn

    def kill(self):
        """Ends all of its processes as a power cut would, and starts it again."""
        pid = int((self.home / "server" / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children")  # they work on until they look for it
        for each in (str(pid), *(children.read_text().split() if children.exists() else ())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(each), 9)
        self.embedded.revive()


@pytest.fixture(scope="session")
def extension_server(tmp_path_factory, postgres_version):
    """A server for the extension's tests."""
    server = Server(tmp_path_factory.mktemp("extension"), postgres_version)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_extension")
    template = conninfo.make_conninfo(server.dsn, dbname="template_extension")
    with psycopg.connect(template, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION mrl_db CASCADE")
    yield server
    server.embedded.release()


def check_indexes(session):
    """Raises an error when an index of kind mrl is damaged or lacks a row."""
    if session.execute("SELECT to_regproc('mrl_check_index')").fetchone()[0]:
        session.execute(
            "SELECT mrl_check_index(i.indexrelid, heap => true) FROM pg_index AS i "
            "JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam "
            "WHERE m.amname = 'mrl' AND c.relkind = 'i' AND i.indisvalid "
            "AND c.relpersistence <> 't'"  # another session's, which may just be ending
        )


@pytest.fixture
def new_database(extension_server):
    """A fresh database with both extensions: its connection string. What it has in the end is checked."""
    name = f"extension_{next(_number)}"
    with psycopg.connect(extension_server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_extension STRATEGY file_copy")
    dsn = conninfo.make_conninfo(extension_server.dsn, dbname=name)
    yield dsn
    with psycopg.connect(dsn, autocommit=True) as session:
        check_indexes(session)
    with psycopg.connect(extension_server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connection(new_database):
    """A session in it whose planner takes an index when it can."""
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        yield session
