-- dblink's functions, by names of ours. Their bodies are parsed when they are made, with dblink's
-- schema in the search path, and keep what they were resolved to wherever dblink moves.

DO $$
BEGIN
    PERFORM pg_catalog.set_config(
        'search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname) || ', pg_temp', true)
    FROM pg_catalog.pg_extension AS e
    JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
    WHERE e.extname = 'dblink';
END
$$;

CREATE OR REPLACE FUNCTION mrl.part_connections()
    RETURNS text[]
    LANGUAGE sql
    RETURN dblink_get_connections();
COMMENT ON FUNCTION mrl.part_connections() IS 'The names of this session''s connections.';

CREATE OR REPLACE FUNCTION mrl.part_connect(connection text, server text)
    RETURNS text
    LANGUAGE sql
    RETURN dblink_connect(connection, server);
COMMENT ON FUNCTION mrl.part_connect(text, text) IS
    'Opens a connection to a server, as its options and the user mapping say.';

CREATE OR REPLACE FUNCTION mrl.part_disconnect(connection text)
    RETURNS text
    LANGUAGE sql
    RETURN dblink_disconnect(connection);
COMMENT ON FUNCTION mrl.part_disconnect(text) IS 'Closes a connection.';

CREATE OR REPLACE FUNCTION mrl.part_execute(connection text, statement text)
    RETURNS text
    LANGUAGE sql
    RETURN dblink_exec(connection, statement);
COMMENT ON FUNCTION mrl.part_execute(text, text) IS
    'Runs a statement without rows, and waits for its end.';

CREATE OR REPLACE FUNCTION mrl.part_send(connection text, statement text)
    RETURNS integer
    LANGUAGE sql
    RETURN dblink_send_query(connection, statement);
COMMENT ON FUNCTION mrl.part_send(text, text) IS
    'Sends statements and does not wait; 0 where the connection is lost or has unread results.';

CREATE OR REPLACE FUNCTION mrl.part_cancel(connection text)
    RETURNS text
    LANGUAGE sql
    RETURN dblink_cancel_query(connection);
COMMENT ON FUNCTION mrl.part_cancel(text) IS 'Cancels what a connection runs.';

CREATE OR REPLACE FUNCTION mrl.part_busy(connection text)
    RETURNS integer
    LANGUAGE sql
    RETURN dblink_is_busy(connection);
COMMENT ON FUNCTION mrl.part_busy(text) IS
    '1 where a connection''s next result, or the end of them, has not come; else 0.';

CREATE OR REPLACE FUNCTION mrl.part_result(connection text, fail boolean)
    RETURNS TABLE (key text, distance double precision)
    LANGUAGE sql STABLE  -- else it would not be inlined
BEGIN ATOMIC
    SELECT r.key, r.distance
    FROM dblink_get_result(connection, fail) AS r (key text, distance double precision);
END;
COMMENT ON FUNCTION mrl.part_result(text, boolean) IS
    'The next result of what was sent, which is waited for; no row where all have been read. fail: '
    'whether an error of the part is one here, or no row.';

SET LOCAL search_path = pg_catalog, pg_temp;
