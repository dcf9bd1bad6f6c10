-- Prefixes and distances.

-- name: cut
{vector_schema}.subvector({vector}, 1, {dims})
-- name: normalised
{vector_schema}.l2_normalize({vector})
-- name: half
({vector})::{vector_schema}.halfvec({dims})
-- name: full
{parameter}::{vector_schema}.{type}({dims})
-- name: nearest
{prefix} OPERATOR({vector_schema}.{operator}) {target}
-- name: unindexed
0.0 + ({distance})
-- name: after_settings
({condition} AND settings.applied)
