-- Collections, and what the catalogue keeps of them: plans, promises, adaptors, classifiers,
-- indexes.

-- name: collections_list
SELECT c.name FROM mrl.collection AS c ORDER BY c.name

-- name: collection_describe
SELECT mrl.describe(%s)

-- name: collection_create
SELECT mrl.create_collection(
    name => %(name)s,
    dims => %(dims)s,
    shortlist_dims => %(shortlist_dims)s,
    nesting_dims => %(nesting_dims)s,
    metric => %(metric)s,
    key_type => %(key_type)s,
    columns => %(columns)s,
    schema => coalesce(%(schema)s, current_schema()),
    vectors_required => %(vectors_required)s
)

-- name: collection_attach
SELECT mrl.attach(
    %(relation)s::oid::regclass,
    name => %(name)s,
    vector => %(vector)s,
    key => %(key)s,
    dims => %(dims)s,
    shortlist_dims => %(shortlist_dims)s,
    nesting_dims => %(nesting_dims)s,
    metric => %(metric)s,
    low_dim => %(low_dim)s,
    key_unique => %(key_unique)s
)

-- name: collection_drop
SELECT mrl.drop_collection(%s)

-- A table by its name as SQL writes it ("public.articles", quoted where need be), with its size.
-- name: table_find
SELECT
    r.oid,
    (
        SELECT sum(pg_catalog.pg_total_relation_size(p.part))
        FROM mrl.partitions(r.oid) AS p
    )::bigint
FROM pg_catalog.pg_class AS r
WHERE r.oid = pg_catalog.to_regclass(%s)

-- Types by any of their names, in order; a name that is none comes back as it is.
-- name: type_names
SELECT coalesce(pg_catalog.format_type(pg_catalog.to_regtype(t.name), NULL), t.name)
FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, position)
ORDER BY t.position

-- Indexes of a collection that were being built, by the names that ours have, and are by nobody.
-- name: index_halves
SELECT n.nspname, x.relname
FROM mrl.collection AS c
JOIN pg_catalog.pg_index AS i ON i.indrelid = c.relation
JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = x.relnamespace
WHERE c.name = %s AND NOT i.indisvalid AND x.relname ~ '_(mrl|low_dim)_[0-9a-f]{8}$'
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_stat_progress_create_index AS p
        WHERE p.index_relid = x.oid OR (
            x.relkind = 'I' AND p.relid IN (SELECT t.part FROM mrl.partitions(c.relation) AS t)
        )
    )

-- name: index_in_progress
SELECT x.relname
FROM mrl.collection AS c
JOIN mrl.partitions(c.relation) AS t ON true
JOIN pg_catalog.pg_stat_progress_create_index AS p ON p.relid = t.part
JOIN pg_catalog.pg_class AS x ON x.oid = p.index_relid
WHERE c.name = %s AND x.relname ~ '_(mrl|low_dim)_[0-9a-f]{8}$'

-- name: index_drop
DROP INDEX IF EXISTS {index}

-- name: index_drop_concurrently
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- name: index_statement
SELECT s.create_statement, s.comment_statement
FROM mrl.index_statement(
    %(name)s, %(kind)s, m => %(m)s, ef_construction => %(ef_construction)s, online => %(concurrently)s
) AS s

-- name: partition_index_steps
SELECT s.step, s.alone
FROM mrl.partition_index_steps(
    %(name)s, %(kind)s, m => %(m)s, ef_construction => %(ef_construction)s
) AS s

-- name: wait_briefly
SELECT mrl.wait_briefly()

-- name: collection_turn
SELECT mrl.wait_for_turn(%s)

-- The search function takes the index that was built.
-- name: define_search
SELECT mrl.define_search_if_allowed(t.name)
FROM (SELECT %s::text AS name OFFSET 0) AS t, LATERAL mrl.wait_for_turn(t.name)

-- HNSW counts the table's blocks, not its rows (pgvector, README, "Index Build Time").
-- name: index_progress
SELECT p.phase, p.blocks_done, p.blocks_total
FROM pg_catalog.pg_stat_progress_create_index AS p
WHERE p.pid = %s

-- name: plan_set
SELECT mrl.set_plan(%s, %s, %s)

-- name: promise_keep
SELECT mrl.keep_promise(%s, %s, %s, %s)

-- name: promise_anchor
SELECT mrl.anchor_promise(%s, %s)

-- The stored plans of a collection, each with the promise that it keeps, if any. Where a dump was
-- restored, the row of the promise bears another transaction than the promise says.
-- name: promises
SELECT
    p.engine, p.plan,
    CASE
        WHEN k.xmin::text::bigint = (k.promise ->> 'as_of')::bigint %% 4294967296 THEN k.promise
        ELSE k.promise || '{"as_of": null}'
    END,
    k.created_at
FROM mrl.plan AS p
LEFT JOIN mrl.promise AS k USING (collection, engine)
WHERE p.collection = %s

-- name: adaptor_get
SELECT adaptor FROM mrl.adaptor WHERE collection = %s

-- name: adaptor_set
SELECT mrl.set_adaptor(%s, %s)

-- name: classifier_save
INSERT INTO mrl.classifier AS c (collection, name, dims, about, cascade_)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (collection, name) DO UPDATE
SET dims = excluded.dims, about = excluded.about, cascade_ = excluded.cascade_, created_at = now()

-- name: classifier_load
SELECT cascade_ FROM mrl.classifier WHERE collection = %s AND name = %s
