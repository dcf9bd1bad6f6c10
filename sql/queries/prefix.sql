-- name: cut
{vector_schema}.subvector({vector}, 1, {dims})
-- name: normalised
{vector_schema}.l2_normalize({vector})
-- name: half
({vector})::{vector_schema}.halfvec({dims})
-- name: full
{parameter}::{vector_schema}.{type}({dims})
