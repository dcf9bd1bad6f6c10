SELECT row_.{key}
FROM {source} AS row_
WHERE {condition}
