-- Each operator of the filter language. A condition that is NULL counts as false; every negation
-- says so with IS NOT TRUE.
-- name: always
TRUE
-- name: never
FALSE
-- That the collection is the one that was described: each has a search function of its own. The
-- planner knows the answer, so that rows are not asked, nor plans changed.
-- name: same
CASE WHEN {search}::pg_catalog.regproc OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid THEN TRUE ELSE mrl.refuse_another({collection}) END
-- name: present
row_.{column} IS NOT NULL
-- The rows of one part of the table; a part is as many rows as any other, whatever the keys. "C", so
-- that no collation of the key's has a say.
-- name: part
pg_catalog.mod(pg_catalog.hashtextextended(row_.{key}::pg_catalog.text COLLATE "C", 0)
    & 9223372036854775807, {parts}) = {part}
-- name: among
row_.{key} = ANY(%s::{type}[])
-- name: after
row_.{key} > %s::{type}
-- name: other
row_.{key} <> %s::{type}
-- name: $eq
row_.{column} = %s::{type}
-- name: $ne
row_.{column} IS DISTINCT FROM %s::{type}
-- name: $lt
row_.{column} < %s::{type}
-- name: $lte
row_.{column} <= %s::{type}
-- name: $gt
row_.{column} > %s::{type}
-- name: $gte
row_.{column} >= %s::{type}
-- name: $in
row_.{column} = ANY(%s::{type}[])
-- name: $like
row_.{column} LIKE %s
-- name: $ilike
row_.{column} ILIKE %s
-- name: null
row_.{column} IS NULL
-- name: $and
({left} AND {right})
-- name: $or
({left} OR {right})
-- name: $not
(({condition}) IS NOT TRUE)
-- The caller's own, which may end in a comment.
-- name: raw
((
{condition}
) IS TRUE)
-- name: $contains
row_.{column} @> %s::{type}
-- What a path in a jsonb column leads to, as jsonb and as text.
-- name: json
row_.{column} #> %s::text[]
-- name: json_text
row_.{column} #>> %s::text[]
-- name: json_null
(NULLIF({value}, 'null'::jsonb) IS NULL)
-- name: json_of_kind
(pg_catalog.jsonb_typeof({value}) = %s AND {condition})
-- name: json_$eq
({value}) = %s::jsonb
-- name: json_$lt
({value}) < %s::jsonb
-- name: json_$lte
({value}) <= %s::jsonb
-- name: json_$gt
({value}) > %s::jsonb
-- name: json_$gte
({value}) >= %s::jsonb
-- name: json_$in
({value}) = ANY(%s::text[]::jsonb[])
-- name: json_$contains
({value}) @> %s::jsonb
-- name: json_$like
({value}) LIKE %s
-- name: json_$ilike
({value}) ILIKE %s
