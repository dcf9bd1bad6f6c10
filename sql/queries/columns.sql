-- name: update
{column} = excluded.{column}
-- name: further
, row_.{column}
