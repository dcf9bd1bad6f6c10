-- A statement goes to all parts, and their answers come back; or none of them is left busy.

CREATE OR REPLACE FUNCTION mrl.ask_parts(
    collection text, servers text[], statement text, partial boolean DEFAULT false
)
    RETURNS TABLE (server text, key text, distance double precision)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    connections text[] := mrl.part_names(servers);
    limited boolean := current_setting('statement_timeout') <> '0';
    step integer := 1;  -- all are asked before the first is heard
    number integer := 1;
    connection text;
    anew boolean := false;
    heard boolean;
    unread text[] := '{}';
    missing text[] := '{}';
    state text;
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    WHILE step <= 2 LOOP
        BEGIN  -- a subtransaction is not free: one does for all parts up to the next that fails
            LOOP
                IF number > cardinality(servers) THEN
                    step := step + 1;
                    number := 1;
                    EXIT WHEN step > 2;
                END IF;
                server := servers[number];
                connection := connections[number];
                heard := false;
                IF step = 1 THEN
                    unread := unread || connection;
                    PERFORM mrl.ask_part(server, connection, statement, anew);
                ELSIF server <> ALL (missing) THEN
                    IF anew THEN
                        PERFORM mrl.ask_part(server, connection, statement, anew);
                    END IF;
                    IF limited THEN
                        PERFORM FROM mrl.part_result(connection, true);
                    END IF;
                    RETURN QUERY
                    SELECT server, r.key, r.distance FROM mrl.part_result(connection, true) AS r;
                    heard := true;
                    PERFORM FROM mrl.part_result(connection, true);  -- the end
                    unread := array_remove(unread, connection);
                END IF;
                number := number + 1;
                anew := false;
            END LOOP;
        EXCEPTION WHEN query_canceled OR OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
                context = PG_EXCEPTION_CONTEXT;
            -- A part's error comes with the name of its connection; a cancellation without it is
            -- that of the statement here.
            message := CASE
                WHEN state = '57014' AND strpos(context, connection) = 0
                THEN format('%s, while part "%s" of collection "%s" was waited for',
                    message, server, collection)
                ELSE format('part "%s" of collection "%s": %s', server, collection,
                    concat_ws('; ', message, nullif(detail, ''), nullif(hint, '')))
            END;
            IF state !~ '^(08|57P)' THEN
                RAISE EXCEPTION '%', message USING ERRCODE = state;
            ELSIF heard THEN  -- lost after its answer
                number := number + 1;
                anew := false;
            ELSIF step = 2 AND NOT anew THEN  -- lost since the search before, or just now
                anew := true;
            ELSIF partial AND cardinality(missing) + 1 < cardinality(servers) THEN
                RAISE WARNING '%', message;
                missing := missing || server;
                number := number + 1;
                anew := false;
            ELSE
                RAISE EXCEPTION '%', message USING ERRCODE = state;
            END IF;
        END;
    END LOOP;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM mrl.hush_parts(unread);
    RAISE;
END
$$;
COMMENT ON FUNCTION mrl.ask_parts(text, text[], text, boolean) IS
    'The rows (key, distance) of all parts'' answers to a statement, in the order of servers. A '
    'part whose connection was lost, by a restart or after a time without use, is asked once more '
    'over a new one. partial: whether parts that cannot be reached are left out, with a warning '
    'for each; one must answer.';

CREATE OR REPLACE FUNCTION mrl.ask_part(
    server text, connection text, statement text, anew boolean
)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    timeout interval := current_setting('statement_timeout');
    old text;
BEGIN
    IF connection IS NULL THEN
        RAISE EXCEPTION 'there is no such foreign server'
            USING ERRCODE = 'MR002', HINT = 'create it, or mrl.attach_parts() others';
    END IF;
    IF timeout > interval '0' THEN
        -- Statements sent together are one transaction, at whose end this ends.
        statement := format(
            $settings$SELECT pg_catalog.set_config('statement_timeout', least(
    %s, nullif(extract(epoch FROM pg_catalog.current_setting('statement_timeout')::interval), 0)
        * 1000)::bigint::text, true), NULL::double precision; $settings$,
            greatest(1, ceil(1000 * extract(
                epoch FROM statement_timestamp() + timeout - clock_timestamp())))) || statement;
    END IF;
    IF connection = ANY (mrl.part_connections()) THEN
        IF NOT anew AND mrl.part_send(connection, statement) = 1 THEN
            RETURN;
        END IF;
        PERFORM mrl.hush_parts(ARRAY[connection]);
        IF connection = ANY (mrl.part_connections()) THEN
            PERFORM mrl.part_disconnect(connection);
        END IF;
    END IF;
    FOR old IN  -- of before ALTER SERVER
        SELECT c
        FROM unnest(mrl.part_connections()) AS c
        WHERE starts_with(c, substring(connection FROM '^mrl \d+ \d+ '))
    LOOP
        PERFORM mrl.part_disconnect(old);
    END LOOP;
    PERFORM mrl.part_connect(connection, server);
    PERFORM mrl.part_execute(connection, 'SET extra_float_digits = 1');  -- distances to the bit
    IF mrl.part_send(connection, statement) <> 1 THEN
        RAISE EXCEPTION 'the connection was lost' USING ERRCODE = 'connection_failure';
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.ask_part(text, text, text, boolean) IS
    'Sends a statement to a part, with what is left of statement_timeout: over this session''s '
    'connection if there is one that can be used, else, or where anew is true, over a new one.';

CREATE OR REPLACE FUNCTION mrl.hush_parts(connections text[])
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning  -- that they were cancelled is no news
AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '10 s';
    connection text;
BEGIN
    FOR step IN 1 .. 2 LOOP  -- all are cancelled before the first is waited for
        FOREACH connection IN ARRAY connections LOOP
            CONTINUE WHEN NOT coalesce(connection = ANY (mrl.part_connections()), false);
            BEGIN
                IF step = 1 THEN
                    PERFORM mrl.part_cancel(connection);
                ELSE
                    FOR number IN 1 .. 3 LOOP  -- a setting, an answer or an error, the end
                        PERFORM mrl.cancel_until(connection, until);
                        PERFORM FROM mrl.part_result(connection, false);
                    END LOOP;
                END IF;
            EXCEPTION WHEN query_canceled OR OTHERS THEN
                PERFORM mrl.part_disconnect(connection);
            END;
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.hush_parts(text[]) IS
    'Cancels what connections run, and reads what they have; one that does not listen is closed.';

CREATE OR REPLACE FUNCTION mrl.cancel_until(connection text, until timestamptz)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pause double precision := 0.001;
BEGIN
    WHILE mrl.part_busy(connection) = 1 LOOP
        IF clock_timestamp() > until THEN
            RAISE EXCEPTION 'the part does not end its statement' USING ERRCODE = 'query_canceled';
        END IF;
        PERFORM pg_sleep(pause);
        pause := least(2 * pause, 0.1);
        PERFORM mrl.part_cancel(connection);
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.cancel_until(text, timestamptz) IS
    'Cancels what a connection runs, until a result can be read: a server that has not begun with '
    'a statement takes no notice of its cancellation.';

CREATE OR REPLACE FUNCTION mrl.part_names(servers text[])
    RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- A role uses no connection of another's, and none of before ALTER SERVER.
    role text := to_regrole(quote_ident(current_user))::oid;
BEGIN
    RETURN (
        SELECT array_agg(
            'mrl ' || role || ' ' || s.oid || ' ' || s.xmin ORDER BY p.number)
        FROM unnest(servers) WITH ORDINALITY AS p (server, number)
        LEFT JOIN pg_foreign_server AS s ON s.srvname = p.server
    );
END
$$;
COMMENT ON FUNCTION mrl.part_names(text[]) IS
    'The names of this role''s connections to servers; NULL where there is no such server.';
