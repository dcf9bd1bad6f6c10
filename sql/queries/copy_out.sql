COPY (
    SELECT row_.{key}, row_.{vector}
    FROM {source} AS row_
    WHERE {condition}
) TO STDOUT (FORMAT binary)
