-- Part of each vector: what a head reads beyond the heads before it.
COPY (
    SELECT row_.{key}, {vector_schema}.subvector(row_.{vector}, {first}, {count})
    FROM {source} AS row_
    WHERE {condition}
) TO STDOUT (FORMAT binary)
