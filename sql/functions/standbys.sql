-- The change log on a hot standby, which its readers cannot write to.
--
-- A reader there registers nothing, and remembers less: a snapshot that is taken during recovery
-- does not say which transactions run, so that only what is before its xmin is known to be seen.
-- What is at or after it is fetched again, which does no harm; from the second question on, which
-- transactions run is asked of each that was not known to have ended. Whether there is anything new is said
-- by how far WAL was replayed, asked in a statement before the one whose snapshot is read, and by which transactions
-- have ended: of one that dropped tables all rows are seen, and then files are removed, before it counts as replayed.
-- The primary keeps changes for a while, and notes in mrl.cut what it removed.

CREATE OR REPLACE FUNCTION mrl.ended_since(seen pg_snapshot)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT bigint := 100000;  -- transactions that are asked for; the next call goes on
    oldest bigint := pg_snapshot_xmin(pg_current_snapshot())::text;
    first bigint := greatest(oldest, pg_snapshot_xmax(seen)::text::bigint);
    until bigint := least(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, first + most);
    running text[];
BEGIN
    running := ARRAY(
        SELECT x.id
        FROM (
            SELECT r.xip::text::bigint AS id
            FROM pg_snapshot_xip(seen) AS r (xip)
            WHERE r.xip::text::bigint >= oldest
            UNION ALL
            SELECT s.id FROM generate_series(first, until - 1) AS s (id)
        ) AS x
        WHERE pg_xact_status(x.id::text::xid8) = 'in progress'
        ORDER BY x.id
    );
    RETURN format(
        '%s:%s:%s', coalesce(running[1]::bigint, until), until, array_to_string(running, ','));
END
$$;
COMMENT ON FUNCTION mrl.ended_since(pg_snapshot) IS
    'What a standby''s snapshots do not say: which transactions run, as a snapshot, of those that '
    'did in another one and those that began since. A snapshot that is taken later sees all that '
    'is visible in it.';

CREATE OR REPLACE FUNCTION mrl.none_ended_since(seen pg_snapshot)
    RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN pg_snapshot_xmax(pg_current_snapshot()) = pg_snapshot_xmax(seen)  -- else it may be ahead
        THEN NOT EXISTS (
            SELECT
            FROM pg_snapshot_xip(seen) AS r (xip)
            WHERE pg_xact_status(r.xip) IS DISTINCT FROM 'in progress'
        )
        ELSE false
    END
$$;
COMMENT ON FUNCTION mrl.none_ended_since(pg_snapshot) IS
    'Whether a snapshot of mrl.ended_since() is what it would be now.';

CREATE OR REPLACE FUNCTION mrl.standby_news(relation oid, seen pg_snapshot)
    RETURNS json
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- Asked before the statement below takes its snapshot; otherwise the statement has the same.
    ended text := CASE
        WHEN current_setting('transaction_isolation') = 'read committed' THEN mrl.ended_since(seen)
    END;
BEGIN
    RETURN (
        SELECT json_build_object(
            'ended', ended,
            'held', NOT EXISTS (
                SELECT
                FROM mrl.cut AS c
                WHERE c.relation = standby_news.relation
                    AND c.xid >= pg_snapshot_xmin(seen)
                    -- Else it is of the server that a dump was taken of.
                    AND c.xid < pg_snapshot_xmax(pg_current_snapshot())
            ),
            'since', mrl.changes_since(
                relation, seen,
                '00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000'
            ))
    );
END
$$;
COMMENT ON FUNCTION mrl.standby_news(oid, pg_snapshot) IS
    'mrl.changes_since() for a reader on a standby, whether the log still had all of it, and the '
    'snapshot to remember; NULL: that of changes_since().';

CREATE OR REPLACE FUNCTION mrl.has_standbys()
    RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT
        EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.slot_type = 'physical')
        OR EXISTS (
            SELECT
            FROM pg_stat_replication AS r
            WHERE NOT EXISTS (
                SELECT
                FROM pg_replication_slots AS s
                WHERE s.slot_type = 'logical' AND s.active_pid = r.pid
            )
        )
$$;
COMMENT ON FUNCTION mrl.has_standbys() IS
    'Whether a physical standby receives WAL from this server now, or has a slot here.';

CREATE OR REPLACE FUNCTION mrl.usual_retention()
    RETURNS interval
    LANGUAGE sql STABLE
    RETURN CASE WHEN mrl.has_standbys() THEN interval '15 minutes' END;
COMMENT ON FUNCTION mrl.usual_retention() IS
    'How long changes are kept, whoever has seen them, of tables of which mrl.logged does not say '
    'it; NULL: they need not be.';

CREATE OR REPLACE FUNCTION mrl.note_moment()
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    longest interval := greatest(
        (SELECT max(l.retain) FROM mrl.logged AS l), mrl.usual_retention());
BEGIN
    -- By whoever trims: its transaction may last, and others must not wait for its rows.
    IF longest IS NULL OR NOT pg_try_advisory_xact_lock(hashtext('mrl_db trim')) THEN
        RETURN;
    END IF;
    INSERT INTO mrl.moment
    SELECT
    WHERE NOT EXISTS (
        SELECT
        FROM mrl.moment AS m
        WHERE m.at > clock_timestamp() - least(longest / 15, interval '1 minute')
    )
    ON CONFLICT DO NOTHING;
    DELETE FROM mrl.moment AS m
    WHERE m.at < (
        SELECT max(o.at) FROM mrl.moment AS o WHERE o.at < clock_timestamp() - longest
    );
END
$$;
COMMENT ON FUNCTION mrl.note_moment() IS
    'Notes as of now which transactions have ended, at most once a minute, where changes are kept '
    'for standbys; forgets what is older than it need be.';

CREATE OR REPLACE FUNCTION mrl.log_for_standbys(
    collection text, retain interval DEFAULT interval '15 minutes'
)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.log_changes(collection);
    UPDATE mrl.logged AS l
    SET retain = log_for_standbys.retain
    FROM mrl.collection AS c
    WHERE c.name = log_for_standbys.collection AND l.relation = c.relation;
END
$$;
COMMENT ON FUNCTION mrl.log_for_standbys(text, interval) IS
    'mrl.log_changes() for readers on standbys: the triggers stay though nobody reads the table '
    'here, and changes are kept for `retain`. NULL ends both. For the owner of the table.';

CREATE OR REPLACE FUNCTION mrl.wal_position()
    RETURNS pg_lsn
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    "position" pg_lsn;
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN pg_last_wal_replay_lsn();
    END IF;
    "position" := pg_current_wal_insert_lsn();
    IF pg_current_wal_flush_lsn() < "position" THEN
        -- Nobody is sent what is not flushed, and what a transaction has written that goes on may
        -- wait for that for seconds: the commit of this message flushes all before it.
        PERFORM pg_logical_emit_message(true, 'mrl_db', '');
    END IF;
    RETURN "position";
END
$$;
COMMENT ON FUNCTION mrl.wal_position() IS
    'A position in WAL that is not before what was committed until now, and is sent to standbys '
    'once this statement has ended; on a standby, replayed.';

CREATE OR REPLACE FUNCTION mrl.has_replayed(wanted pg_lsn, seconds double precision)
    RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The next record begins behind the header of a page, the last one ended before it.
    on_page integer := (wanted - pg_lsn '0/0') % current_setting('wal_block_size')::integer;
    ended pg_lsn := CASE WHEN on_page <= 40 THEN wanted - on_page ELSE wanted END;
BEGIN
    IF NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= ended THEN
        RETURN true;
    END IF;
    PERFORM pg_sleep(seconds);
    RETURN NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= ended;
END
$$;
COMMENT ON FUNCTION mrl.has_replayed(pg_lsn, double precision) IS
    'Whether a standby has replayed a position of mrl.wal_position(), or is none; waits so many '
    'seconds before it says no. Few: a statement that waits may hold replay up.';

CREATE OR REPLACE FUNCTION mrl.database_marks()
    RETURNS TABLE (mark text, sure boolean)
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT m.mark || ' ' || d.oid, m.sure
    FROM pg_database AS d
    CROSS JOIN LATERAL (
        SELECT 'started ' || extract(epoch FROM pg_postmaster_start_time()), true
        UNION ALL
        SELECT
            format('cluster %s %s', s.system_identifier, CASE
                WHEN pg_is_in_recovery()
                THEN greatest(k.timeline_id, r.min_recovery_end_timeline)
                ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
            END),
            pg_is_in_recovery()
        FROM pg_control_system() AS s, pg_control_checkpoint() AS k, pg_control_recovery() AS r
    ) AS m (mark, sure)
    WHERE d.datname = current_database()
$$;
COMMENT ON FUNCTION mrl.database_marks() IS
    'Of two servers'' databases with an equal mark the rows are the same, where either is sure of '
    'it: one database of one server, or a standby and its primary, or two standbys. A copy that '
    'was promoted, or started as it was, is another one.';
