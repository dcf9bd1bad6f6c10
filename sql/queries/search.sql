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
