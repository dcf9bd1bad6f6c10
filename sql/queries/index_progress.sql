-- HNSW counts the table's blocks, not its rows (pgvector, README, "Index Build Time").
SELECT p.phase, p.blocks_done, p.blocks_total
FROM pg_catalog.pg_stat_progress_create_index AS p
WHERE p.pid = %s
