-- Standbys: how far WAL was written or replayed, and whether a connection may write.

-- name: wal_position
SELECT mrl.wal_position()::text

-- name: has_replayed
SELECT mrl.has_replayed(%s, %s)

-- name: is_read_only
SELECT pg_catalog.current_setting('transaction_read_only') = 'on', pg_catalog.pg_is_in_recovery()
