DELETE FROM {source} AS row_
WHERE {condition}
RETURNING row_.{key}
