-- The change log, as its readers use it (mrl.change, mrl.reader).

-- name: log_check
SELECT mrl.check_log(%s)

-- name: log_follow
INSERT INTO mrl.reader (id, relation, lease)
VALUES (%s, %s, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s))
RETURNING id, token, seen::text

-- name: log_follow_from
SELECT id, token, seen FROM mrl.follow_from(%s, %s, pg_catalog.make_interval(secs => %s))

-- name: log_renew
UPDATE mrl.reader
SET lease = greatest(lease, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s))
WHERE id = %s AND token = %s

-- name: log_leave
DELETE FROM mrl.reader WHERE id = %s

-- name: log_acknowledge
SELECT mrl.acknowledge(%s, %s, %s, pg_catalog.make_interval(secs => %s))

-- name: log_holds
SELECT EXISTS (SELECT FROM mrl.reader WHERE id = %s AND token = %s)

-- Where a reader stands that sees what this transaction sees.
-- name: log_position
SELECT
    mrl.seen_now(),
    mrl.server_start(),
    mrl.log_fingerprint(%s),
    CASE WHEN mrl.began_in_recovery() THEN '0/0' ELSE '' END

-- name: log_partitions_wait
SELECT mrl.wait_for_partitions(%s)

-- Of some partitions those that have rows of their own.
-- name: partitions_named
SELECT n.nspname, r.relname
FROM pg_catalog.pg_class AS r
JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
WHERE r.oid = ANY(%s::oid[]) AND r.relkind = 'r'

-- name: partition_keys
SELECT row_.{key}
FROM {partition} AS row_
LIMIT %s

-- Of how many partitions policies of their own choose which rows this role reads by their names.
-- name: partitions_bound
SELECT count(*)
FROM unnest(%s::oid[]) AS p (part)
WHERE pg_catalog.row_security_active(p.part)

-- name: log_changes_since
SELECT mrl.changes_since(%s, %s::pg_catalog.pg_snapshot, %s, %s)

-- name: log_news
SELECT mrl.news(%s, %s, %s, %s, %s)

-- The same with the rows that were written to, where they are few: the entry, whether rows come
-- along, whether this is one; its key, its vector, and whether it passes a filter. OFFSET 0: the
-- entry is made once, and before rows are looked for.
-- name: log_news_with_rows
SELECT n.entry, n.keys IS NOT NULL, found.passes IS NOT NULL, found.*
FROM (
    SELECT e.entry, mrl.few_keys(e.entry, %s)::{type}[] AS keys
    FROM (
        SELECT mrl.news(%s, %s, %s, %s, %s) AS entry
        OFFSET 0
    ) AS e
    OFFSET 0
) AS n
LEFT JOIN LATERAL (
    SELECT row_.{key}, row_.{vector}, ({judged}) IS TRUE AS passes
    FROM {source} AS row_
    WHERE n.keys IS NOT NULL AND row_.{key} = ANY(n.keys) AND {condition}
) AS found ON TRUE

-- How far a standby has replayed; a statement that begins later sees all of it, and of what is being
-- replayed what mrl.none_ended_since() says.
-- name: log_replayed
SELECT
    coalesce(pg_catalog.pg_last_wal_replay_lsn()::text, '0/0'),
    mrl.server_start(),
    pg_catalog.pg_is_in_recovery(),
    mrl.none_ended_since(%s::pg_catalog.pg_snapshot)

-- The same for a position at which nothing was running: it is another one only where the id is that
-- the next transaction gets, which costs less to ask.
-- name: log_replayed_all
SELECT
    coalesce(pg_catalog.pg_last_wal_replay_lsn()::text, '0/0'),
    mrl.server_start(),
    pg_catalog.pg_is_in_recovery(),
    pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text

-- name: log_standby_news
SELECT mrl.standby_news(%s, %s::pg_catalog.pg_snapshot)

-- Until when the triggers stay though nobody reads the table; NULL: for good.
-- name: log_needed_until
SELECT l.needed_until FROM mrl.logged AS l WHERE l.relation = %s AND l.retain IS NULL

-- Changes held, readers whose lease runs, triggers that fire.
-- name: log_health
SELECT
    (SELECT count(*) FROM mrl.change AS c WHERE c.relation = m.relation),
    (
        SELECT count(*) FROM mrl.reader AS r
        WHERE r.relation = m.relation AND r.lease > pg_catalog.clock_timestamp()
    ),
    (mrl.check_log(m.name) ->> 'triggers')::integer
FROM mrl.collection AS m
WHERE m.name = %s

-- name: log_trim
SELECT mrl.trim_changes()

-- name: log_unlog
SELECT mrl.unlog_unread()

-- name: log_make
SELECT mrl.log_changes(%s)
