SELECT row_.{key}, row_.{vector}{columns}
FROM {source} AS row_
WHERE row_.{key} = ANY(%s)
