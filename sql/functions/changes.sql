-- The change log: what was written to a collection's table, by any client, so that a copy of its
-- rows elsewhere can follow.
--
-- A statement that writes leaves one row: the table, its transaction and the keys. A reader
-- remembers a snapshot of the database; whatever is not visible in that snapshot it has not seen,
-- in whatever order transactions began and committed. Rows that no reader needs are removed by
-- mrl.trim_changes(); a reader holds them for no longer than its lease.

CREATE OR REPLACE FUNCTION mrl.column_of_keys(key_type text)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN key_type IN ('bigint', 'integer', 'smallint') THEN 'integers'
        WHEN key_type = 'uuid' THEN 'uuids'
        WHEN key_type IN ('text', 'character varying') THEN 'texts'
    END;
COMMENT ON FUNCTION mrl.column_of_keys(text) IS 'The column of mrl.change for keys of a type.';

CREATE OR REPLACE FUNCTION mrl.log_change()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    most CONSTANT integer := 100000;  -- keys of a statement
    keys pg_catalog.text[];
    keys_before pg_catalog.text[];
BEGIN
    -- Without a search path of its own, which would have every statement here planned anew: all
    -- names are qualified. The key is known by its name, as a restored table has other numbers.
    -- Where it was renamed, or became of another type, any row may have changed; so it is said of a
    -- statement that wrote to very many, whose keys would take memory here and with every reader.
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%I FROM new_rows AS r LIMIT %s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%I FROM old_rows AS r LIMIT %s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%1$I FROM old_rows AS r LIMIT %2$s),
                    ARRAY(SELECT r.%1$I FROM new_rows AS r LIMIT %2$s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys_before, keys;
            IF keys_before OPERATOR(pg_catalog.<>) keys THEN
                keys := pg_catalog.array_cat(keys_before, keys);
            END IF;
        END IF;
        IF pg_catalog.cardinality(keys) OPERATOR(pg_catalog.=) 0 THEN
            RETURN NULL;  -- the statement wrote no row
        END IF;
        IF pg_catalog.cardinality(keys) OPERATOR(pg_catalog.>) most THEN
            keys := NULL;
        END IF;
        IF TG_ARGV[1] OPERATOR(pg_catalog.=) 'integers' THEN
            PERFORM keys::bigint[];
        ELSIF TG_ARGV[1] OPERATOR(pg_catalog.=) 'uuids' THEN
            PERFORM keys::pg_catalog.uuid[];
        END IF;
    EXCEPTION WHEN OTHERS THEN
        keys := NULL;
    END;
    INSERT INTO mrl.change (relation, integers, uuids, texts)
    VALUES (
        TG_RELID,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'integers' THEN keys::bigint[] END,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'uuids' THEN keys::pg_catalog.uuid[] END,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'texts' THEN keys END
    );
    IF pg_catalog.random() OPERATOR(pg_catalog.<) 0.001 THEN
        PERFORM mrl.trim_by_chance();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.log_change() IS
    'Writes a statement''s keys into mrl.change. Arguments: the key''s column, and the column of '
    'mrl.change for its type.';

CREATE OR REPLACE FUNCTION mrl.log_changes(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    events CONSTANT text[] := ARRAY[
        'INSERT', 'REFERENCING NEW TABLE AS new_rows',
        'UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
        'DELETE', 'REFERENCING OLD TABLE AS old_rows',
        'TRUNCATE', ''];
    kind text := mrl.column_of_keys(mrl.type_of(c.relation, c.key_column));
    name text;
BEGIN
    IF current_setting('lock_timeout') = '0' THEN
        -- Whoever waits for the table has everybody behind wait, too.
        PERFORM set_config('lock_timeout', '10s', true);
    END IF;
    FOR event IN 1 .. cardinality(events) BY 2 LOOP
        name := 'mrl_log_' || lower(events[event]);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s
             FOR EACH STATEMENT EXECUTE FUNCTION mrl.log_change(%L, %L)',
            name, events[event], c.relation, events[event + 1], c.key_column, kind);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', c.relation, name);
    END LOOP;
    INSERT INTO mrl.logged AS l (relation, needed_until)
    VALUES (c.relation, clock_timestamp() + interval '7 days')
    ON CONFLICT (relation) DO UPDATE SET needed_until = excluded.needed_until;
END
$$;
COMMENT ON FUNCTION mrl.log_changes(text) IS
    'Makes the triggers that log what is written to a collection; whoever reads it in a process '
    'does. They fire under session_replication_role = replica too. For the owner of the table.';

CREATE OR REPLACE FUNCTION mrl.unlog_changes(relation regclass)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT t.tgname
        FROM pg_trigger AS t
        WHERE t.tgrelid = relation AND t.tgfoid = 'mrl.log_change'::regproc
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, relation);
    END LOOP;
    DELETE FROM mrl.change AS c WHERE c.relation = unlog_changes.relation;
    DELETE FROM mrl.reader AS r WHERE r.relation = unlog_changes.relation;
    DELETE FROM mrl.logged AS l WHERE l.relation = unlog_changes.relation;
END
$$;
COMMENT ON FUNCTION mrl.unlog_changes(regclass) IS
    'Takes the triggers of mrl.log_changes() away, and what they logged.';

CREATE OR REPLACE FUNCTION mrl.on_collection()
    RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.unlog_changes(OLD.relation);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.on_collection() IS
    'A table that is no collection any more is not logged.';

CREATE OR REPLACE TRIGGER log_changes
    AFTER DELETE ON mrl.collection
    FOR EACH ROW EXECUTE FUNCTION mrl.on_collection();

CREATE OR REPLACE FUNCTION mrl.log_fingerprint(relation oid)
    RETURNS text
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT format(
            '%s %s %s %s %s', c.xmin, c.relfilenode, m.xmin,
            (
                SELECT string_agg(format('%s %s', a.attnum, a.xmin), ',' ORDER BY a.attnum)
                FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attname IN (m.key_column, m.vector_column)
            ),
            (
                SELECT string_agg(
                    format('%s %s %s', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid)
                FROM pg_trigger AS t
                WHERE t.tgrelid = c.oid AND t.tgfoid = 'mrl.log_change'::regproc
            ))
        FROM pg_class AS c
        JOIN mrl.collection AS m ON m.relation = c.oid
        WHERE c.oid = log_fingerprint.relation
    );
END
$$;
COMMENT ON FUNCTION mrl.log_fingerprint(oid) IS
    'What must stay as it is for the log to tell all: the table and its rights, the catalogue row, '
    'key and vector column, the triggers; each with the transaction that last changed it. NULL '
    'when the table or the collection is gone.';

CREATE OR REPLACE FUNCTION mrl.check_log(collection text)
    RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
BEGIN
    RETURN (
        SELECT json_build_object(
            'relation', r.oid::bigint,
            'partitioned', r.relkind = 'p' OR r.relispartition
                OR EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = r.oid),
            'subscribed', EXISTS (SELECT FROM pg_subscription_rel AS s WHERE s.srrelid = r.oid),
            'row_security', r.relrowsecurity,
            'triggers', (
                SELECT count(*)
                FROM pg_trigger AS t
                WHERE t.tgrelid = r.oid AND t.tgfoid = 'mrl.log_change'::regproc
                    AND t.tgenabled = 'A'
            ))
        FROM pg_class AS r
        WHERE r.oid = c.relation
    );
END
$$;
COMMENT ON FUNCTION mrl.check_log(text) IS
    'Whether the log of a collection sees every write: what stands in its way, as flags; NULL when '
    'the table is gone.';

CREATE OR REPLACE FUNCTION mrl.on_log_cut()
    RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM mrl.reader;
    ELSE
        DELETE FROM mrl.reader AS r
        WHERE EXISTS (
            SELECT
            FROM old_rows AS c
            WHERE c.relation = r.relation AND NOT pg_visible_in_snapshot(c.xid, r.seen)
        );
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.on_log_cut() IS
    'Who needed what was removed from the log loses its registration, and compares rows instead.';

CREATE OR REPLACE TRIGGER log_cut
    AFTER DELETE ON mrl.change REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION mrl.on_log_cut();
CREATE OR REPLACE TRIGGER log_emptied
    AFTER TRUNCATE ON mrl.change
    FOR EACH STATEMENT EXECUTE FUNCTION mrl.on_log_cut();

CREATE OR REPLACE FUNCTION mrl.changes_since(
    relation oid, seen pg_snapshot, reader uuid, token uuid
)
    RETURNS json
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN json_build_object(
        'snapshot', pg_current_snapshot()::text,
        'started', pg_postmaster_start_time()::text,
        'fingerprint', mrl.log_fingerprint(relation),
        'held', EXISTS (
            SELECT
            FROM mrl.reader AS r
            WHERE r.id = changes_since.reader AND r.token = changes_since.token
        ),
        'changes', (
            SELECT CASE
                WHEN sum(cardinality(c.integers)) > 1000000 OR sum(cardinality(c.uuids)) > 1000000
                    OR sum(cardinality(c.texts)) > 1000000
                THEN '[null]'
                ELSE json_agg(coalesce(to_json(c.integers), to_json(c.uuids), to_json(c.texts)))
            END
            FROM mrl.change AS c
            WHERE c.relation = changes_since.relation AND c.xid >= pg_snapshot_xmin(seen)
                AND NOT pg_visible_in_snapshot(c.xid, seen)
        ));
END
$$;
COMMENT ON FUNCTION mrl.changes_since(oid, pg_snapshot, uuid, uuid) IS
    'What a reader that has seen a snapshot has not: arrays of keys (null: any row), with the '
    'snapshot, the server''s start and the fingerprint to remember, and whether the log held all '
    'of it for this reader. All as of the calling statement''s snapshot.';

CREATE OR REPLACE FUNCTION mrl.news(
    relation oid, seen text, started text, reader uuid, token uuid
)
    RETURNS json
    LANGUAGE sql STABLE
    RETURN CASE
        WHEN pg_current_snapshot()::text = seen AND pg_postmaster_start_time()::text = started
        THEN NULL
        ELSE mrl.changes_since(relation, seen::pg_snapshot, reader, token)
    END;
COMMENT ON FUNCTION mrl.news(oid, text, text, uuid, uuid) IS
    'mrl.changes_since(), or NULL without a look at the log when no transaction has begun or ended '
    'in the whole server since then.';

CREATE OR REPLACE FUNCTION mrl.follow(relation oid, lease interval)
    RETURNS TABLE (id uuid, token uuid, seen text)
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO mrl.reader AS r (relation, lease)
    VALUES (follow.relation, clock_timestamp() + follow.lease)
    RETURNING r.id, r.token, r.seen::text
$$;
COMMENT ON FUNCTION mrl.follow(oid, interval) IS
    'Registers a reader of the log: what is not visible to it now stays until it acknowledges, or '
    'its lease ends.';

CREATE OR REPLACE FUNCTION mrl.follow_from(id uuid, token uuid, lease interval)
    RETURNS TABLE (id uuid, token uuid, seen text)
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO mrl.reader AS r (relation, seen, lease)
    SELECT o.relation, o.seen, clock_timestamp() + follow_from.lease
    FROM mrl.reader AS o
    WHERE o.id = follow_from.id AND o.token = follow_from.token
    FOR SHARE
    RETURNING r.id, r.token, r.seen::text
$$;
COMMENT ON FUNCTION mrl.follow_from(uuid, uuid, interval) IS
    'Registers a reader that begins where another one stands; no row when that one is not '
    'registered under this token.';

CREATE OR REPLACE FUNCTION mrl.acknowledge(id uuid, token uuid, seen text, lease interval)
    RETURNS uuid
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE mrl.reader AS r
    SET
        seen = acknowledge.seen::pg_snapshot,
        token = gen_random_uuid(),
        lease = clock_timestamp() + acknowledge.lease
    WHERE r.id = acknowledge.id AND r.token = acknowledge.token
    RETURNING r.token
$$;
COMMENT ON FUNCTION mrl.acknowledge(uuid, uuid, text, interval) IS
    'Moves a reader on, and renews its lease; returns its new token. NULL when it is not '
    'registered under this token: its lease ended, or the database is another one than it '
    'followed.';
