-- Searches in PostgreSQL.

-- Brute force. Adding to the distance keeps it so: no index is ordered by such a sum.
-- name: exact
SELECT row_.{key}, 0.0 + ({full} OPERATOR({vector_schema}.{operator}) {target}), count(*) OVER () AS rows_in{columns}
FROM {source} AS row_
WHERE {condition}
ORDER BY 2, 1
LIMIT {k}

-- A whole funnel: the last stage, which computes the exact distance of what the stages before left.
-- name: last_stage
WITH settings AS MATERIALIZED (
    SELECT
        pg_catalog.set_config('hnsw.ef_search', {effort}, true) IS NOT NULL
        AND pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true) IS NOT NULL
        AND pg_catalog.set_config('hnsw.max_scan_tuples', {max_scan_tuples}, true) IS NOT NULL{memory} AS applied
)
SELECT row_.{key}, {full} OPERATOR({vector_schema}.{operator}) {target}, count(*) OVER () AS rows_in{columns}
FROM settings
CROSS JOIN LATERAL (
{shortlist}
) AS row_
ORDER BY 2, 1
LIMIT {k}

-- name: scan_memory
AND (
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) >= {bytes}
    OR pg_catalog.set_config('work_mem', ({bytes} / 1024)::text || 'kB', true) IS NOT NULL
)

-- name: stage
SELECT row_.*
FROM {source} AS row_
WHERE {condition}
ORDER BY {distance}
LIMIT {keep}

-- name: explain
EXPLAIN (ANALYZE, FORMAT JSON, TIMING ON) {statement}
