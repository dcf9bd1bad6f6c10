-- What every installation begins with: one installer at a time, pgvector, and no older schema mrl.
--
-- Needs only pgvector 0.8 or later, in any schema, and the right to create a schema. Errors of our
-- own carry SQLSTATEs of class MR (docs/schema.md).

SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('mrl_db migrations'));

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector') THEN
        RAISE EXCEPTION 'this database has no extension "vector"; CREATE EXTENSION vector first'
            USING ERRCODE = 'MR004';
    END IF;
    -- Before 0.1 the ledger was numbered by a column of its own.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a
        JOIN pg_catalog.pg_class AS r ON r.oid = a.attrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
        WHERE n.nspname = 'mrl' AND r.relname = 'migration'
            AND a.attname = 'version' AND a.atttypid = 'integer'::pg_catalog.regtype
    ) THEN
        RAISE EXCEPTION 'schema mrl is of a development version of mrl_db, from before 0.1'
            USING ERRCODE = 'MR005',
                HINT = 'DROP SCHEMA mrl CASCADE leaves the tables of collections in place; drop '
                    'their low-dim columns (embedding_128, …), connect, and attach them again';
    END IF;
END
$$;

-- pgvector's types are named bare in sql/functions, wherever the extension lives; the functions
-- keep what they were resolved to.
SELECT pg_catalog.set_config(
    'search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname), true
)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- Functions call each other, whichever comes first in its file: their bodies are checked when run.
SELECT pg_catalog.set_config('check_function_bodies', 'off', true);
