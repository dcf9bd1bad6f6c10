SELECT row_.{key}, row_.{vector}{columns}
FROM {source} AS row_
WHERE {condition}
