-- The last stage: the exact distance of what is left. rows_in counts what the stages before passed on.
SELECT row_.{key}, {full} OPERATOR({vector_schema}.{operator}) {target}, count(*) OVER () AS rows_in{columns}
FROM (
{shortlist}
) AS row_
ORDER BY 2, 1
LIMIT {k}
