-- Parts of lists of columns.

-- name: update
{column} = excluded.{column}
-- name: further
, row_.{column}
