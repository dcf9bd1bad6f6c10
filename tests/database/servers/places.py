"""Databases on two servers, and what the tests of both files do with them."""

import subprocess

import psycopg
from psycopg import conninfo

import mrl_db
from mrl_db.postgres import statements
from mrl_db.postgres.server import programs

PASSWORD = "not to be seen"
SLOW = """
    CREATE OR REPLACE FUNCTION mrl.search_docs(
        query vector, k integer DEFAULT 10, shortlist integer DEFAULT NULL
    )
        RETURNS TABLE (id bigint, distance double precision) LANGUAGE sql
        AS 'SELECT 1, 0.0 FROM pg_sleep(60)'"""
SEARCH = "SELECT id, distance FROM mrl.search_docs('[1,0]', 5)"


class Place:
    """A database on one of the servers."""

    def __init__(self, server, name):
        self.server = server
        self.execute(server.dsn, f"CREATE DATABASE {name}")
        self.dsn = conninfo.make_conninfo(server.dsn, dbname=name)
        self.address = {"host": str(server.embedded._run), "dbname": name}

    def install(self):
        """Makes the schema, which `searcher` may use."""
        mrl_db.connect(self.dsn).close()
        grants = (statements.sql_folder() / "grants.sql").read_text()
        self.execute(grants.replace(':"role"', "searcher"))

    def execute(self, *statement):
        *dsn, text = statement
        with psycopg.connect(dsn[0] if dsn else self.dsn, autocommit=True) as session:
            cursor = session.execute(text)
            return cursor.fetchall() if cursor.description else None

    def searching(self):
        """What those who came with the password do here: [(pid, state, query)]."""
        return self.execute(
            "SELECT pid, state, query FROM pg_stat_activity "
            "WHERE usename = 'searcher' AND datname = current_database() ORDER BY pid"
        )


def knowing_passwords(server):
    """Lets the role `searcher` in by its password; no client of the tests comes so."""
    hba = server.home / "server" / "data" / "pg_hba.conf"
    hba.write_text("local all searcher,reader,coordinator scram-sha-256\n" + hba.read_text())
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
        session.execute(f"CREATE ROLE searcher LOGIN PASSWORD '{PASSWORD}'")
        session.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")


def stop(server, how="fast"):
    data = server.home / "server" / "data"
    programs.pg_ctl(server.embedded.binaries, data, "stop", "-m", how, "-w")


def psql(server, place, *files):
    """Runs files of sql/ as the page says; returns what psql said."""
    return subprocess.run(
        [
            server.embedded.binaries.program("psql"),
            "-q",
            *(part for file in files for part in ("-f", str(statements.sql_folder() / file))),
            place.dsn,
        ],
        check=False,
        capture_output=True,
        text=True,
    )


def foreign_server(name, place, role="postgres", **options):
    """The SQL of a server with its user mapping."""
    given = {**place.address, **options}
    listed = ", ".join(f"{key} '{value}'" for key, value in given.items())
    return (
        f"CREATE SERVER {name} FOREIGN DATA WRAPPER dblink_fdw OPTIONS ({listed}); "
        f"CREATE USER MAPPING FOR {role} SERVER {name} "
        f"OPTIONS (user 'searcher', password '{PASSWORD}'); "
    )


def make(place, name="docs", key_type="bigint", rows=(), **further):
    """A collection of two dims and its rows, which `searcher` may read."""
    dims = further.pop("dims", 2)
    arguments = "".join(f", {key} => '{value}'" for key, value in further.items())
    with psycopg.connect(place.dsn, autocommit=True) as session:
        session.execute(
            f"SELECT mrl.create_collection('{name}', {dims}, key_type => '{key_type}'{arguments})"
        )
        session.execute(f'GRANT SELECT ON "{name}" TO searcher')
        insert(session, name, rows)


def insert(session, name, rows):
    if rows:
        into = f'INSERT INTO "{name}" VALUES (%s, %s::real[]::vector)'
        session.cursor().executemany(into, rows)


def both(session):
    """The keys that a search finds."""
    return [row[0] for row in session.execute(SEARCH).fetchall()]
