-- Collections in parts on several servers, searched by psql on one more, the coordinator:
--
--     psql -d DATABASE -f sql/install.sql -f sql/parts.sql
--
-- Needs the extensions vector and dblink in DATABASE. docs/servers.md tells how to use it.
-- connect() does not install this, and a part needs none of it.
--
-- A search sends one statement to every part at once, by dblink_send_query. Each part runs its own
-- mrl.search_<collection>; the answers are merged by distance, then key. As many results are read
-- as were asked for, then the end: an empty answer cannot be taken for it.
--
-- A session keeps a connection to each part. Whatever ends a search early leaves none of them busy:
-- the handler of mrl.ask_parts cancels what runs and reads what is left. Should that be cut off,
-- too, then the next search cannot send over such a connection, and opens another one.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL client_min_messages = warning;

DO $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('mrl_db migrations'));
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'dblink') THEN
        RAISE EXCEPTION 'this database has no extension "dblink"; CREATE EXTENSION dblink first'
            USING ERRCODE = 'MR004';
    END IF;
    IF pg_catalog.to_regproc('mrl.check_definition') IS NULL THEN
        RAISE EXCEPTION 'this database has no schema mrl of mrl_db 0.1; run sql/install.sql first'
            USING ERRCODE = 'MR004';
    END IF;
END
$$;

\ir parts/connections.sql
\ir parts/asking.sql
\ir parts/attaching.sql

COMMIT;
