"""The extension where users are: in embedded servers, made by connect() where a role may."""

import shutil

import psycopg
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.postgres.server import extension


@pytest.fixture
def plain(extension_server):
    """The connection string of a database with nothing in it."""
    with psycopg.connect(extension_server.dsn, autocommit=True) as session:
        session.execute("DROP DATABASE IF EXISTS plain WITH (FORCE)")
        session.execute("CREATE DATABASE plain")
    return conninfo.make_conninfo(extension_server.dsn, dbname="plain")


def test_connect_makes_the_extension_beside_pgvector(plain):
    with psycopg.connect(plain, autocommit=True) as session:
        session.execute("CREATE SCHEMA vectors; CREATE EXTENSION vector SCHEMA vectors")

    with mrl_db.connect(plain) as db:
        assert db.extension_version == "0.1"
    with mrl_db.connect(plain) as again:
        assert again.extension_version == "0.1"

    with psycopg.connect(plain, autocommit=True) as session:
        found = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'mrl_db'"
        assert session.execute(found).fetchone() == ("vectors",)


def test_a_role_that_may_not_make_it_goes_on_without(plain):
    with psycopg.connect(plain, autocommit=True) as session:
        session.execute("DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN")
        session.execute("CREATE EXTENSION vector; GRANT CREATE ON DATABASE plain TO modest")

    with mrl_db.connect(conninfo.make_conninfo(plain, user="modest")) as db:
        assert db.extension_version is None


def test_what_fails_while_it_is_made_is_no_error(plain, caplog):
    with psycopg.connect(plain, autocommit=True) as session:
        session.execute(
            "CREATE EXTENSION vector; CREATE FUNCTION mrl_handler(internal)"
            " RETURNS index_am_handler LANGUAGE internal AS 'bthandler'"
        )

    with caplog.at_level("INFO", "mrl_db"), mrl_db.connect(plain) as db:
        assert db.extension_version is None

    assert "cannot be made" in caplog.text


@pytest.mark.carried
def test_a_server_follows_the_package_when_it_moves(tmp_path, postgres_version, monkeypatch):
    home = tmp_path / "a home"
    first, second = tmp_path / "first", tmp_path / "it's second"
    shutil.copytree(extension.library_folder(postgres_version), first)
    monkeypatch.setattr(extension, "library_folder", lambda _: first)
    with mrl_db.connect(home=home, postgres_version=postgres_version) as db:
        docs = db.create_collection("docs", dims=3)
        docs.add([1, 2], [[1.0, 0, 0], [0, 1, 0]])
        with psycopg.connect(db.dsn) as session:
            session.execute("CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops)")
    first.rename(second)
    monkeypatch.setattr(extension, "library_folder", lambda _: second)

    with mrl_db.connect(home=home) as db:
        db.open("docs").add([3], [[0.0, 0, 1]])

        assert db.extension_version == "0.1"
        assert db.open("docs").count() == 3


@pytest.mark.carried
def test_a_server_without_the_library_does_not_offer_it(tmp_path, postgres_version, monkeypatch):
    monkeypatch.setattr(extension, "library_folder", lambda _: None)

    with mrl_db.connect(home=tmp_path / "home", postgres_version=postgres_version) as db:
        assert db.extension_version is None
