"""The schema mrl: what an installation has, by whichever way, from whatever was there before."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
import schema as described

import mrl_db
from mrl_db.postgres import migrations, statements

ROOT = Path(__file__).parents[2]


@pytest.fixture
def psql(server, dsn):
    """Runs sql/install.sql with psql; returns what it said, raises when it failed."""

    def run():
        program = server.server.binaries.program("psql")
        script = str(statements.sql_folder() / "install.sql")
        return subprocess.run(
            [program, "-q", "-f", script, dsn], check=True, capture_output=True, text=True
        ).stderr

    return run


@pytest.mark.superuser
def test_the_files_add_up_to_the_documented_schema(db, dsn):
    """Law 8, in full: columns, types, defaults, constraints, indexes, functions, rights, comments.

    Where it fails after a change that was meant: make schema.
    """
    documented = (statements.sql_folder() / "schema.sql").read_text()

    assert described.schema(dsn) == documented


def test_the_page_of_the_schema_names_every_table_and_function(db, execute):
    page = (ROOT / "docs" / "schema.md").read_text()
    functions = {
        row[0]
        for row in execute("SELECT proname FROM pg_proc WHERE pronamespace = 'mrl'::regnamespace")
    }
    tables = {
        row[0]
        for row in execute(
            "SELECT relname FROM pg_class "
            "WHERE relnamespace = 'mrl'::regnamespace AND relkind = 'r'"
        )
    }

    assert set(re.findall(r"`mrl\.(\w+)\(", page)) == functions
    assert set(re.findall(r"^\| `mrl\.(\w+)` \|", page, re.M)) == tables


def test_everything_has_a_comment_and_nothing_its_definers_rights(db, execute):
    assert (
        execute(
            """
        SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'mrl'::regnamespace
            AND (p.prosecdef OR obj_description(p.oid, 'pg_proc') IS NULL)
        UNION ALL
        SELECT r.relname FROM pg_class AS r WHERE r.relnamespace = 'mrl'::regnamespace
            AND r.relkind = 'r' AND obj_description(r.oid, 'pg_class') IS NULL
        """
        )
        == []
    )


@pytest.mark.superuser
def test_the_bodies_of_functions_are_right(db, dsn):
    """An installation creates them unchecked, as they call each other."""
    with psycopg.connect(dsn) as connection:
        connection.execute((statements.sql_folder() / "prepare.sql").read_text())
        connection.execute("SET LOCAL check_function_bodies = on")
        for migration in migrations.migrations():
            if migration.repeated:
                connection.execute(migration.text)


def test_connecting_twice_changes_nothing(db, dsn, execute):
    before = execute("SELECT * FROM mrl.migration")
    mrl_db.connect(dsn).close()

    assert execute("SELECT * FROM mrl.migration") == before


@pytest.mark.superuser
def test_changed_functions_are_applied_again_and_search_functions_made_anew(dsn, execute):
    with mrl_db.connect(dsn) as db:
        db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])
        db.create_collection("gone", dims=2)
    before = execute("SELECT name, checksum FROM mrl.migration ORDER BY name")
    execute("DROP TABLE gone")
    execute(
        "CREATE OR REPLACE FUNCTION mrl.default_keep(k integer) RETURNS integer LANGUAGE sql "
        "IMMUTABLE STRICT RETURN 1; "
        "DROP FUNCTION mrl.search_docs; "
        "UPDATE mrl.migration SET checksum = 'other' WHERE name = 'functions/plans'"
    )

    mrl_db.connect(dsn).close()

    assert execute("SELECT mrl.default_keep(10)") == [(200,)]
    assert execute("SELECT id FROM mrl.search_docs('[1,0]')") == [(1,)]
    assert execute("SELECT name, checksum FROM mrl.migration ORDER BY name") == before


@pytest.mark.superuser
def test_an_edited_table_file_is_an_error(db, dsn, execute):
    execute("UPDATE mrl.migration SET checksum = 'edited' WHERE name = 'tables/0002_changes'")

    with pytest.raises(mrl_db.MigrationError, match="tables/0002_changes.*never edited"):
        mrl_db.connect(dsn)


@pytest.mark.superuser
@pytest.mark.parametrize(
    "later",
    [
        "INSERT INTO mrl.migration VALUES ('tables/9999_future', 'x', '99.0.0')",
        "UPDATE mrl.migration SET checksum = 'x', version = '99.0.0' "
        "WHERE name = 'functions/plans'",
    ],
)
def test_a_database_from_a_later_version_is_an_error(db, dsn, execute, psql, later):
    execute(later)

    with pytest.raises(mrl_db.MigrationError, match="99.0.0.*newer"):
        mrl_db.connect(dsn)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        psql()
    assert "later version" in failed.value.stderr


@pytest.mark.superuser
def test_a_schema_from_before_the_first_release_is_refused_with_the_way_out(dsn, execute, psql):
    execute(
        "DROP SCHEMA mrl CASCADE; CREATE SCHEMA mrl; "
        "CREATE TABLE mrl.migration (version integer PRIMARY KEY, name text NOT NULL, "
        "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()); "
        "INSERT INTO mrl.migration VALUES (1, '0001_catalog', 'x'), (9, '0009_walk_misses', 'x')"
    )

    with pytest.raises(mrl_db.MigrationError, match="before 0.1.*DROP SCHEMA mrl CASCADE"):
        mrl_db.connect(dsn)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        psql()
    assert "attach them again" in failed.value.stderr
    execute("DROP SCHEMA mrl CASCADE")
    mrl_db.connect(dsn).close()


@pytest.mark.superuser
def test_psql_installs_what_connect_installs(dsn, execute, psql):
    execute("DROP SCHEMA mrl CASCADE")

    assert psql() == ""
    made = execute("SELECT * FROM mrl.migration ORDER BY name")
    assert "ERROR" not in psql()  # the second time finds it there
    mrl_db.connect(dsn).close()

    assert described.schema(dsn) == (statements.sql_folder() / "schema.sql").read_text()
    assert execute("SELECT * FROM mrl.migration ORDER BY name") == made


@pytest.mark.superuser
def test_pgvector_may_live_in_any_schema(dsn, execute, psql):
    execute("DROP SCHEMA mrl CASCADE")
    execute('CREATE SCHEMA "100% odd"; ALTER EXTENSION vector SET SCHEMA "100% odd"')
    psql()

    with mrl_db.connect(dsn) as db:
        docs = db.create_collection("docs", dims=4, nesting_dims=(2, 4))
        docs.add([1], [[1.0, 0.0, 0.0, 0.0]])
        docs.create_index()
        assert docs.search([1.0, 0.0, 0.0, 0.0], k=1).ids.tolist() == [1]
    assert execute("""SELECT id FROM mrl.search_docs('[1,0,0,0]'::"100% odd".vector)""") == [(1,)]


def test_the_install_script_is_that_of_the_files():
    assert (statements.sql_folder() / "install.sql").read_text() == described.install_script()
