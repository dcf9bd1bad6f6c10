-- The change log kept short: changes that no reader needs, triggers that no reader wants.

CREATE OR REPLACE FUNCTION mrl.unlog_unread()
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
AS $$
DECLARE
    unread oid;
    count bigint := 0;
BEGIN
    UPDATE mrl.logged AS l
    SET needed_until = r.lease + interval '7 days'
    FROM (SELECT e.relation, max(e.lease) AS lease FROM mrl.reader AS e GROUP BY e.relation) AS r
    WHERE r.relation = l.relation AND l.needed_until < r.lease + interval '6 days';
    FOR unread IN
        SELECT l.relation FROM mrl.logged AS l WHERE l.needed_until < clock_timestamp() AND l.retain IS NULL
    LOOP
        BEGIN
            IF EXISTS (SELECT FROM pg_class AS c WHERE c.oid = unread) THEN
                PERFORM mrl.unlog_changes(unread);
            ELSE
                DELETE FROM mrl.change AS c WHERE c.relation = unread;
                DELETE FROM mrl.logged AS l WHERE l.relation = unread;
            END IF;
            count := count + 1;
        EXCEPTION WHEN insufficient_privilege OR lock_not_available OR object_in_use THEN
            CONTINUE;  -- another time, or another role
        END;
    END LOOP;
    -- Partitions that were detached with partitions of their own still log, and nobody reads it.
    DELETE FROM mrl.change AS c
    WHERE c.relation IN (
        WITH RECURSIVE held AS (  -- by the index, whose every relation is looked at once
            SELECT min(f.relation) AS relation FROM mrl.change AS f
            UNION ALL
            SELECT (SELECT min(f.relation) FROM mrl.change AS f WHERE f.relation > h.relation)
            FROM held AS h
            WHERE h.relation IS NOT NULL
        )
        SELECT h.relation
        FROM held AS h
        WHERE NOT EXISTS (SELECT FROM mrl.logged AS l WHERE l.relation = h.relation)
    );
    RETURN count;
END
$$;
COMMENT ON FUNCTION mrl.unlog_unread() IS
    'Takes the triggers of tables away that nobody has read in a process for a week, where this '
    'role may and nobody is in the way, but for those of mrl.log_for_standbys(); returns of how '
    'many. The next reader makes them again.';

CREATE OR REPLACE FUNCTION mrl.trim_changes()
    RETURNS bigint
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
    DELETE FROM mrl.reader AS r WHERE r.lease < clock_timestamp();
    SELECT mrl.note_moment();
    -- One at a time: who writes trims by chance, and its transaction may last. Whatever began after
    -- the oldest snapshot of a reader is needed: by the index, no change that stays is looked at.
    WITH turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(hashtext('mrl_db trim')) AS mine
    ),
    gone AS (
        DELETE FROM mrl.change AS c
        USING (
            SELECT
                l.relation::oid AS relation,
                least(  -- of those that are not NULL
                    (
                        SELECT pg_snapshot_xmax(r.seen)
                        FROM mrl.reader AS r
                        WHERE r.relation = l.relation
                        ORDER BY 1
                        LIMIT 1
                    ),
                    CASE
                        WHEN coalesce(l.retain, u.retention) IS NOT NULL THEN coalesce(
                            (
                                SELECT m.oldest
                                FROM mrl.moment AS m
                                WHERE m.at < clock_timestamp() - coalesce(l.retain, u.retention)
                                ORDER BY m.at DESC
                                LIMIT 1
                            ),
                            '0'
                        )
                    END,
                    pg_snapshot_xmax(pg_current_snapshot())
                ) AS needed
            FROM mrl.logged AS l
            CROSS JOIN (SELECT mrl.usual_retention() AS retention OFFSET 0) AS u
            WHERE l.relation > 0::oid  -- all: so that 16 has an index for it, and a cost to compare
            OFFSET 0
        ) AS l
        WHERE (SELECT t.mine FROM turn AS t)
            AND c.relation = l.relation
            AND c.xid < l.needed
            AND pg_visible_in_snapshot(c.xid, pg_current_snapshot())
            AND NOT EXISTS (
                SELECT
                FROM mrl.reader AS r
                WHERE r.relation = c.relation AND NOT pg_visible_in_snapshot(c.xid, r.seen)
            )
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION mrl.trim_changes() IS
    'Removes readers whose lease has ended, and changes that no reader needs; returns how many '
    'changes.';

CREATE OR REPLACE FUNCTION mrl.trim_by_chance()
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.trim_changes();
EXCEPTION WHEN OTHERS THEN
    RETURN;  -- somebody else trims, or this transaction may not: another one will
END
$$;
COMMENT ON FUNCTION mrl.trim_by_chance() IS
    'mrl.trim_changes(), called by one statement of a thousand that is logged: the log of a table '
    'that nobody reads any more stays short where its writers may trim it.';
