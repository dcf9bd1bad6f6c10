-- The change log as its readers use it.
--
-- A reader remembers a snapshot of the database; whatever is not visible in that snapshot it has not
-- seen, in whatever order transactions began and committed. Rows that no reader needs are removed
-- by mrl.trim_changes(); a reader holds them for no longer than its lease.

CREATE OR REPLACE FUNCTION mrl.server_start()
    RETURNS text
    LANGUAGE sql STABLE
    RETURN extract(epoch FROM pg_postmaster_start_time()) || '/' || CASE
        -- Before version 15 to ask takes a file that is written for whoever asks.
        WHEN current_setting('server_version_num')::integer >= 150000
        THEN coalesce(extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()), 0)
        ELSE 0
    END;
COMMENT ON FUNCTION mrl.server_start() IS
    'When the server started, and when its statistics began: that, too, is another time once it '
    'has recovered from a crash of one of its processes, which is no other start.';

CREATE OR REPLACE FUNCTION mrl.enums_fingerprint(relation oid)
    RETURNS text
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        WITH RECURSIVE types AS (
            SELECT a.atttypid AS id
            FROM pg_attribute AS a
            WHERE a.attrelid = relation AND a.attnum > 0
            UNION
            SELECT o.id
            FROM types AS t
            JOIN pg_type AS y ON y.oid = t.id
            CROSS JOIN LATERAL (VALUES (y.typelem), (y.typbasetype)) AS o (id)
        )
        SELECT ' enums ' || md5(string_agg(format('%s %s', e.oid, e.xmin), ',' ORDER BY e.oid))
        FROM types AS t
        JOIN pg_enum AS e ON e.enumtypid = t.id
    );
END
$$;
COMMENT ON FUNCTION mrl.enums_fingerprint(oid) IS
    'The values of the enums in a table''s columns, arrays and domains of them included, each with '
    'the transaction that last named it; a part of mrl.log_fingerprint(). NULL without any.';

CREATE OR REPLACE FUNCTION mrl.log_fingerprint(relation oid)
    RETURNS text
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT format(
            '%s %s %s %s %s %s %s%s%s%s%s%s', c.xmin, c.relfilenode, m.xmin,
            (
                SELECT string_agg(format('%s %s', a.attnum, a.xmin), ',' ORDER BY a.attnum)
                FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0
            ),
            (
                SELECT string_agg(
                    format('%s %s %s', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid)
                FROM pg_trigger AS t
                WHERE t.tgrelid = c.oid AND t.tgname ^@ 'mrl_log_'
            ),
            (
                SELECT string_agg(i.indkey::text, ',' ORDER BY i.indkey::text)
                FROM pg_index AS i
                WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
                    AND i.indpred IS NULL
            ),
            -- The entry in pg_class only says that a table had children once.
            (
                SELECT string_agg(
                    format('%s %s %s', i.inhparent, i.inhrelid, i.xmin), ',' ORDER BY i.inhrelid)
                FROM pg_inherits AS i
                WHERE c.relkind <> 'p' AND c.oid IN (i.inhparent, i.inhrelid)
            ),
            (
                SELECT string_agg(s.srsubid::text, ',' ORDER BY s.srsubid)
                FROM pg_subscription_rel AS s
                WHERE s.srrelid = c.oid
            ),
            CASE
                WHEN c.relrowsecurity
                THEN ' policies ' || row_security_active(c.oid) || (
                    SELECT coalesce(
                        string_agg(format(' %s %s', p.oid, p.xmin), ',' ORDER BY p.oid), '')
                    FROM pg_policy AS p
                    WHERE p.polrelid = c.oid
                )
            END,
            CASE c.relpersistence WHEN 'u' THEN ' unlogged ' || mrl.server_start() END,
            CASE WHEN EXISTS (SELECT FROM pg_enum) THEN mrl.enums_fingerprint(c.oid) END,
            CASE c.relkind WHEN 'p' THEN ' ' || mrl.partitions_fingerprint(c.oid) END)
        FROM pg_class AS c
        JOIN mrl.collection AS m ON m.relation = c.oid
        WHERE c.oid = log_fingerprint.relation
    );
END
$$;
COMMENT ON FUNCTION mrl.log_fingerprint(oid) IS
    'What must stay as it is for the log to tell all: the table and its rights, the catalogue row, '
    'its columns, the triggers; each with the transaction that last changed it; which columns are '
    'unique; who writes without the triggers: tables above and below by INHERITS, subscriptions; '
    'the policies, and whether they bind this role; since when an unlogged table was not emptied by '
    'a crash; the values of its enums; and the partitions. NULL when the table or the collection '
    'is gone.';

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
            'partition', r.relispartition,
            'children', r.relkind <> 'p'
                AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = r.oid),
            'parents', NOT r.relispartition
                AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = r.oid),
            'foreign', EXISTS (SELECT FROM mrl.partitions(r.oid) AS p WHERE p.kind = 'f'),
            'subscribed', EXISTS (
                SELECT
                FROM mrl.partitions(r.oid) AS p
                JOIN pg_subscription_rel AS s ON s.srrelid = p.part
            ),
            'row_security', r.relrowsecurity,
            'bound', row_security_active(r.oid),
            'read_only', current_setting('transaction_read_only') = 'on',
            'recovery', pg_is_in_recovery(),
            'gone', t.gone,
            'triggers', t.triggers)
        FROM pg_class AS r
        CROSS JOIN LATERAL (
            SELECT
                bool_or(t.present = 0) AND bool_and(t.present = 0 OR t.right_ >= 4) AS gone,
                min(t.right_) AS triggers
            FROM mrl.log_triggers(c) AS t
        ) AS t
        WHERE r.oid = c.relation
    );
END
$$;
COMMENT ON FUNCTION mrl.check_log(text) IS
    'Whether the log of a collection sees every write: what stands in its way, as flags; its '
    'triggers, of that partition which has the fewest; gone: none there, or none of some '
    'partitions. NULL when the table is gone.';

CREATE OR REPLACE FUNCTION mrl.began_in_recovery()
    RETURNS boolean
    LANGUAGE sql STABLE
    RETURN current_setting('transaction_read_only') = 'on';
COMMENT ON FUNCTION mrl.began_in_recovery() IS
    'Whether this transaction may have begun on a standby, which makes it read-only for good: so '
    'its snapshots may be of the recovery, though that has ended since.';

CREATE OR REPLACE FUNCTION mrl.seen_now()
    RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE
        WHEN mrl.began_in_recovery()
        THEN replace('x:x:', 'x', pg_snapshot_xmin(pg_current_snapshot())::text)
        ELSE pg_current_snapshot()::text
    END;
COMMENT ON FUNCTION mrl.seen_now() IS
    'The snapshot to remember. One that is taken during recovery does not name the transactions '
    'that run: then only what is before its xmin was seen for certain.';

CREATE OR REPLACE FUNCTION mrl.note_cut(relation oid, xid xid8)
    RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO mrl.cut AS c (relation, xid)
    VALUES (note_cut.relation, note_cut.xid)
    ON CONFLICT (relation) DO UPDATE
    SET xid = CASE
        -- What is in the future is of the server that a dump was taken of.
        WHEN c.xid < pg_snapshot_xmax(pg_current_snapshot()) THEN greatest(c.xid, excluded.xid)
        ELSE excluded.xid
    END
$$;
COMMENT ON FUNCTION mrl.note_cut(oid, xid8) IS
    'Notes that changes up to a transaction''s were removed from the log of a table.';

CREATE OR REPLACE FUNCTION mrl.on_log_cut()
    RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM mrl.reader;
        PERFORM mrl.note_cut(l.relation, pg_snapshot_xmax(pg_current_snapshot()))
        FROM mrl.logged AS l;
    ELSE
        PERFORM mrl.note_cut(c.relation, max(c.xid)) FROM old_rows AS c GROUP BY c.relation;
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
    'Who needed what was removed from the log loses its registration, and compares rows instead; '
    'for readers on standbys it is noted what was removed.';

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
        'snapshot', mrl.seen_now(),
        'recovery', mrl.began_in_recovery(),
        'started', mrl.server_start(),
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
        WHEN pg_current_snapshot()::text = seen AND mrl.server_start() = started
        THEN NULL
        ELSE mrl.changes_since(relation, seen::pg_snapshot, reader, token)
    END;
COMMENT ON FUNCTION mrl.news(oid, text, text, uuid, uuid) IS
    'mrl.changes_since(), or NULL without a look at the log when no transaction has begun or ended '
    'in the whole server since then.';

CREATE OR REPLACE FUNCTION mrl.few_keys(news json, most integer)
    RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changes json := news -> 'changes';
    change json;
    keys text[] := '{}';
BEGIN
    IF json_typeof(changes) IS DISTINCT FROM 'array' OR octet_length(changes::text) > 100000 THEN
        RETURN NULL;
    END IF;
    FOR change IN SELECT json_array_elements(changes) LOOP
        IF json_typeof(change) <> 'array' THEN
            RETURN NULL;
        END IF;
        keys := keys || ARRAY(SELECT json_array_elements_text(change));
        IF cardinality(keys) > most THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN keys;
END
$$;
COMMENT ON FUNCTION mrl.few_keys(json, integer) IS
    'The keys in what mrl.news() says; NULL when there are none, too many, or when any row may '
    'have changed.';

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
