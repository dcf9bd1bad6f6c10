-- One stage of a funnel but the last: the rows of the table, or of the stage before, nearest by their prefix.
SELECT row_.*
FROM {source} AS row_
WHERE {condition}
ORDER BY {distance}
LIMIT {keep}
