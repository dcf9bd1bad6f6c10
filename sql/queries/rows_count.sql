SELECT count(*)
FROM {source} AS row_
WHERE {condition}
