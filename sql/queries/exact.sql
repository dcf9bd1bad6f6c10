-- Brute force. Adding to the distance keeps it so: no index is ordered by such a sum.
SELECT row_.{key}, 0.0 + ({full} OPERATOR({vector_schema}.{operator}) {target}), count(*) OVER () AS rows_in{columns}
FROM {source} AS row_
WHERE {condition}
ORDER BY 2, 1
LIMIT {k}
