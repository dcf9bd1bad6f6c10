"""Fixtures: one embedded server for the run, a database for each test, made from a template."""

from __future__ import annotations

import itertools
import os

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import conninfo
from psycopg import sql as psql

import mrl_db
from mrl_db.postgres import statements
from mrl_db.postgres.server import building, embedded, extension, programs

settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)
settings.register_profile("soak", parent=settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("MRL_DB_TEST_PROFILE", "ci"))

_number = itertools.count()
AS_ROLE = bool(
    os.environ.get("MRL_DB_TEST_ROLE")
)  # as a role with the rights of sql/grants.sql, and no superuser
ROLE = "mrl_tester"
PG_CONFIG = os.environ.get("MRL_DB_TEST_PG_CONFIG")
"""Of a server that is tested in place of those that the package carries; the extension is installed
there."""


def pytest_collection_modifyitems(config, items):
    """Leaves out what cannot be where a run is, as a role or on your server; faults, which take the
    longest, come first, so that no worker is left with them at the end.
    """
    names = [name for name, there in (("superuser", AS_ROLE), ("carried", PG_CONFIG)) if there]
    left_out = [item for item in items if any(map(item.get_closest_marker, names))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.path.parent.name != "faults")


@pytest.fixture(scope="session")
def postgres_version():
    """The version to test: MRL_DB_TEST_PG_CONFIG's, or MRL_DB_TEST_POSTGRES, 18 by default."""
    if PG_CONFIG is None:
        return int(os.environ.get("MRL_DB_TEST_POSTGRES", "18"))
    server = building.find_installation(PG_CONFIG)
    assert server.has_extension, "mrl-db extension install --pg-config … comes first"
    binaries = programs.Binaries(server.major, server.programs)
    embedded.find_binaries = lambda _: binaries
    extension.library_folder = lambda _: None  # it is where the server looks by itself
    if server.major < 16:
        embedded.make_cluster = _older_cluster
    return server.major


def _older_cluster(binaries, folder):
    """Before version 16 a map of users cannot say `all`; the folder is private all the same."""
    programs.make_cluster(binaries, folder)
    (folder / "pg_hba.conf").write_text("local all all trust\nlocal replication all trust\n")


@pytest.fixture(scope="session")
def server(tmp_path_factory, postgres_version):
    """An embedded server for the whole run, in a folder with a space in its name."""
    home = tmp_path_factory.mktemp("embedded server")
    with mrl_db.connect(
        home=home,
        postgres_version=postgres_version,
        settings={"fsync": "off", "shared_buffers": "128MB"},
    ) as db:
        with psycopg.connect(db.dsn, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_mrl")
        template = conninfo.make_conninfo(db.dsn, dbname="template_mrl")
        mrl_db.connect(template).close()
        if AS_ROLE:
            grants = (statements.sql_folder() / "grants.sql").read_text().replace(':"role"', ROLE)
            with psycopg.connect(template, autocommit=True) as connection:
                connection.execute(
                    f"CREATE ROLE {ROLE} LOGIN; GRANT CREATE ON SCHEMA public TO {ROLE}; {grants}"
                )
        yield db


@pytest.fixture
def dsn(server):
    """The connection string of a fresh database with the schema mrl."""
    name = f"test_{next(_number)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            psql.SQL("CREATE DATABASE {} TEMPLATE template_mrl STRATEGY file_copy").format(
                psql.Identifier(name)
            )
        )
        if AS_ROLE:
            connection.execute(
                psql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
                    psql.Identifier(name), psql.Identifier(ROLE)
                )
            )
    yield conninfo.make_conninfo(server.dsn, dbname=name, **({"user": ROLE} if AS_ROLE else {}))
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(psql.SQL("DROP DATABASE {} WITH (FORCE)").format(psql.Identifier(name)))


@pytest.fixture
def db(dsn):
    """A fresh database, open."""
    with mrl_db.connect(dsn) as database:
        yield database


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Where loaded collections are kept during the run."""
    folder = tmp_path_factory.mktemp("cached indexes")
    os.environ["MRL_DB_CACHE"] = str(folder)
    return folder


@pytest.fixture
def rng():
    """A generator with a fixed seed."""
    return np.random.default_rng(20261121)


@pytest.fixture
def execute(dsn):
    """Runs SQL as psql would: a client of its own, outside mrl_db."""

    def run(statement, parameters=None):
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else None

    return run


@pytest.fixture
def as_superuser(server, dsn):
    """Runs SQL in the test's database as its superuser."""

    def run(statement):
        database = conninfo.conninfo_to_dict(dsn)["dbname"]
        target = conninfo.make_conninfo(server.dsn, dbname=database)
        with psycopg.connect(target, autocommit=True) as session:
            session.execute(statement)

    return run


@pytest.fixture(params=["compiled", "of the table"])
def log_kind(request, as_superuser):
    """With the extension its function logs; without it one of the table's own."""
    if request.param != "compiled":
        as_superuser("DROP EXTENSION mrl_db")
    return request.param


@pytest.fixture
def sent(monkeypatch):
    """The statements that psycopg sends."""
    sent = []
    for name in ("execute", "copy"):
        plain = getattr(psycopg.Cursor, name)

        def noted(cursor, statement, *args, plain=plain, **options):
            sent.append(statement)
            return plain(cursor, statement, *args, **options)

        monkeypatch.setattr(psycopg.Cursor, name, noted)
    return sent
