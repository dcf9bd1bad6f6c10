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


def pytest_collection_modifyitems(items):
    """A test that does what only a superuser may is left out where tests run as another role."""
    for item in items:
        if AS_ROLE and item.get_closest_marker("superuser"):
            item.add_marker(pytest.mark.skip(reason="needs a superuser"))


@pytest.fixture(scope="session")
def postgres_version():
    """The version to test: MRL_DB_TEST_POSTGRES, 18 by default."""
    return int(os.environ.get("MRL_DB_TEST_POSTGRES", "18"))


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
