-- Searches in PostgreSQL: what the SQL engine asks of the functions that make them.

-- name: search_statement
SELECT mrl.search_statement(%s, %s)

-- name: default_plan
SELECT mrl.default_plan(%s, %s, %s)

-- name: misses_for_rows
SELECT mrl.misses_for_rows(%s, %s)

-- The rows that reached the last stage, as a further column.
-- name: rows_in
, count(*) OVER () AS rows_in

-- Before a statement.
-- name: explain
EXPLAIN (ANALYZE, FORMAT JSON, TIMING ON)

-- name: stage_times
SELECT stage, access, rows_out, milliseconds FROM mrl.stage_times(%s)

-- The nearest row of each group, by the full vectors of all rows.
-- name: nearest_groups
SELECT best.id, best.distance
FROM (
    SELECT DISTINCT ON (row_.{group})
        row_.{key} AS id,
        row_.{vector} OPERATOR({vector_schema}.{operator}) %s::{vector_schema}.{vector_type}
            AS distance
    FROM {source} AS row_
    WHERE {condition}
    ORDER BY row_.{group}, 2, row_.{key}{key_order}
) AS best
ORDER BY best.distance, best.id{key_order}
LIMIT %s
