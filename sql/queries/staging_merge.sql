INSERT INTO {target} ({columns})
SELECT {columns}
FROM {staging}
ON CONFLICT ({key}) DO UPDATE
SET {updates}
