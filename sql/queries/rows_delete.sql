DELETE FROM {source} AS row_
WHERE {condition}
