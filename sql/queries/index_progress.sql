SELECT p.phase, p.tuples_done, p.tuples_total
FROM pg_catalog.pg_stat_progress_create_index AS p
WHERE p.pid = %s
