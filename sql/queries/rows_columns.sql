SELECT row_.{key}{columns}
FROM {source} AS row_
WHERE row_.{key} = ANY(%s)
