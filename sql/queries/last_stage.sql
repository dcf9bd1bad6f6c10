-- A whole funnel: the last stage, which computes the exact distance of what the stages before left. rows_in counts these.
--
-- The settings are made by the statement itself, until its end: HNSW returns at most ef_search rows, and the iterative scan goes on beyond them. As
-- the first stage refers to settings.applied, the executor must run them first. So one message does all, and no session state is left.
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
