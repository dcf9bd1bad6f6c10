"""What an installation has, as one text; and the script that makes it with psql alone.

`make schema` writes both into sql/; tests compare them with an installation, and with the files.
"""

from __future__ import annotations

import tempfile
import textwrap
from importlib.metadata import version
from pathlib import Path

import psycopg

import mrl_db
from mrl_db.postgres import migrations, statements

HEADER = """\
-- What sql/tables and sql/functions add up to: written by `make schema` out of an installation, and
-- compared with one by a test. Not for installing: each function's body and comment, which are in
-- sql/functions, are a digest here.
"""

# Each gives one text for each object, in an order of its own. NOT NULL is said with the column:
# PostgreSQL 18 lists it as a constraint as well.
PARTS = {
    "Tables": """
        SELECT format(
            E'CREATE TABLE %s (\\n%s\\n);', r.oid::regclass,
            string_agg(p.part, E',\\n' ORDER BY p.kind, p.number, p.part))
        FROM pg_class AS r
        CROSS JOIN LATERAL (
            SELECT 1 AS kind, a.attnum AS number, format(
                '    %I %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                CASE WHEN a.attstorage <> t.typstorage
                THEN ' STORAGE ' || a.attstorage::text
                END,
                CASE WHEN a.attnotnull THEN ' NOT NULL' END,
                ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)) AS part
            FROM pg_attribute AS a
            JOIN pg_type AS t ON t.oid = a.atttypid
            LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT 2, 0, format('    CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid))
            FROM pg_constraint AS k
            WHERE k.conrelid = r.oid AND k.contype NOT IN ('n', 't')
        ) AS p
        WHERE r.relnamespace = 'mrl'::regnamespace AND r.relkind = 'r'
        GROUP BY r.oid
        ORDER BY r.oid::regclass::text""",
    "Indexes": """
        SELECT pg_get_indexdef(i.indexrelid) || ';'
        FROM pg_index AS i
        JOIN pg_class AS r ON r.oid = i.indexrelid
        WHERE r.relnamespace = 'mrl'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = r.oid)
        ORDER BY r.relname""",
    "Functions": """
        SELECT format(
            'CREATE FUNCTION %s(%s) RETURNS %s LANGUAGE %s %s%s%s%s AS ''%s'';', p.oid::regproc,
            pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), l.lanname,
            CASE p.provolatile
                WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE'
            END,
            CASE WHEN p.proisstrict THEN ' STRICT' ELSE '' END,
            CASE p.proparallel WHEN 's' THEN ' PARALLEL SAFE' ELSE '' END,
            CASE WHEN p.prosecdef THEN ' SECURITY DEFINER' ELSE '' END
            || coalesce((SELECT string_agg(' SET ' || s, '') FROM unnest(p.proconfig) AS s), ''),
            md5(concat(
                pg_get_function_sqlbody(p.oid), p.prosrc, obj_description(p.oid, 'pg_proc'))))
        FROM pg_proc AS p
        JOIN pg_language AS l ON l.oid = p.prolang
        WHERE p.pronamespace = 'mrl'::regnamespace
        ORDER BY p.proname, pg_get_function_identity_arguments(p.oid)""",
    "Triggers": """
        SELECT pg_get_triggerdef(t.oid)
            || CASE t.tgenabled WHEN 'O' THEN ';' ELSE '; -- enabled: ' || t.tgenabled::text END
        FROM pg_trigger AS t
        JOIN pg_class AS r ON r.oid = t.tgrelid
        WHERE r.relnamespace = 'mrl'::regnamespace AND NOT t.tgisinternal
        ORDER BY r.relname, t.tgname""",
    "Rights beside the owner's": """
        SELECT format(
            'GRANT %s ON %s TO %s;', string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type),
            o.what, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END)
        FROM (
            SELECT 'SCHEMA mrl' AS what, n.nspacl AS acl, n.nspowner AS owner
            FROM pg_namespace AS n
            WHERE n.nspname = 'mrl'
            UNION ALL
            SELECT r.oid::regclass::text, r.relacl, r.relowner
            FROM pg_class AS r
            WHERE r.relnamespace = 'mrl'::regnamespace
            UNION ALL
            SELECT format('%s (%I)', r.oid::regclass, a.attname), a.attacl, r.relowner
            FROM pg_attribute AS a
            JOIN pg_class AS r ON r.oid = a.attrelid
            WHERE r.relnamespace = 'mrl'::regnamespace
            UNION ALL
            SELECT p.oid::regprocedure::text, p.proacl, p.proowner
            FROM pg_proc AS p
            WHERE p.pronamespace = 'mrl'::regnamespace
        ) AS o
        CROSS JOIN LATERAL aclexplode(o.acl) AS x
        WHERE x.grantee <> o.owner
        GROUP BY o.what, x.grantee
        ORDER BY o.what, x.grantee""",
    "Comments": """
        SELECT format('COMMENT ON %s IS %L;', o.what, o.comment)
        FROM (
            SELECT 0 AS kind, 'SCHEMA mrl' AS what,
                obj_description('mrl'::regnamespace, 'pg_namespace') AS comment
            UNION ALL
            SELECT 1, format('TABLE %s', r.oid::regclass), obj_description(r.oid, 'pg_class')
            FROM pg_class AS r
            WHERE r.relnamespace = 'mrl'::regnamespace AND r.relkind = 'r'
            UNION ALL
            SELECT 2, format('COLUMN %s.%I', r.oid::regclass, a.attname),
                col_description(r.oid, a.attnum)
            FROM pg_class AS r
            JOIN pg_attribute AS a ON a.attrelid = r.oid
            WHERE r.relnamespace = 'mrl'::regnamespace
        ) AS o
        WHERE o.comment IS NOT NULL
        ORDER BY o.kind, o.what""",
}

SCRIPT = """\
-- Installs the schema mrl with psql alone, or brings it up to date:
--
--     psql -d DATABASE -f sql/install.sql
--
-- Needs CREATE EXTENSION vector before. connect() of the Python package does the same, and takes
-- over what this left. Written by `make schema`; a test holds it to the files.
\\set ON_ERROR_STOP on
BEGIN;
\\ir prepare.sql
{files}
SELECT mrl.define_searches();
COMMIT;
"""
FILE = """
SELECT NOT EXISTS ({there}) AS missing \\gset
\\if :missing
\\ir {name}.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    '{name}',
    '{checksum}',
    '{version}'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\\endif
"""
LEDGER = """
    SELECT FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'mrl' AND r.relname = 'migration'
"""
GUARD = """
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM mrl.migration AS m
        WHERE (regexp_match(m.version, '(\\d+)\\.(\\d+)\\.(\\d+)'))::integer[] > '{{{numbers}}}'
    ) THEN
        RAISE EXCEPTION 'schema mrl is of a later version of mrl_db than {version}'
            USING ERRCODE = 'MR005', HINT = 'use the sql/install.sql of that version';
    END IF;
END
$$;
"""


def install_script() -> str:
    """Returns sql/install.sql as the files want it."""
    ours = version("mrl_db")
    parts = []
    for migration in migrations.migrations():
        there = f"SELECT FROM mrl.migration WHERE name = '{migration.name}'"
        if not parts:
            there = LEDGER
        elif migration.repeated:
            there = f"\n    {there}\n        AND checksum = '{migration.checksum}'\n"
        parts.append(
            FILE.format(there=there, name=migration.name, checksum=migration.checksum, version=ours)
        )
    guard = GUARD.format(numbers=ours.replace(".", ","), version=ours)
    return SCRIPT.format(files="".join([parts[0], guard, *parts[1:]]))


def schema(dsn: str) -> str:
    """Returns what the schema mrl of a database has: all of it, in an order that never changes."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET search_path = pg_catalog")
        parts = [
            [f"-- {title}", *(row[0] for row in connection.execute(query).fetchall())]
            for title, query in PARTS.items()
        ]
    return HEADER + "".join("\n" + "".join(map(_wrapped, part)) for part in parts)


def _wrapped(statement: str) -> str:
    lines = [
        textwrap.fill(
            line,
            100,
            subsequent_indent="    " + " " * (len(line) - len(line.lstrip())),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in statement.splitlines()
    ]
    return "\n".join(lines) + "\n"


def write() -> None:
    """Writes sql/install.sql and sql/schema.sql."""
    folder = statements.sql_folder()
    (folder / "install.sql").write_text(install_script())
    with tempfile.TemporaryDirectory() as home, mrl_db.connect(home=Path(home) / "home") as db:
        (folder / "schema.sql").write_text(schema(db.dsn))


if __name__ == "__main__":
    write()
