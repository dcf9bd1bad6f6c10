-- Plans: the default ones, those that are stored, and the promises that they keep.

CREATE OR REPLACE FUNCTION mrl.default_keep(k integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN least(greatest(200, least(20::bigint * k, k::bigint + 1000), k), 2147483647)::integer;
COMMENT ON FUNCTION mrl.default_keep(integer) IS
    'Length of the shortlist for k answers where nothing was measured: at least 200 (the MRL '
    'paper''s), twenty times k, at most 1,000 more than k. A guess: on 62,666 real rows, 128 of '
    '384 dims, it gives recall@10 .987 where the vectors are Matryoshka-ordered, .979 where they '
    'are cut as they come.';

CREATE OR REPLACE FUNCTION mrl.default_effort(keep integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN least(1000, greatest(40, keep));
COMMENT ON FUNCTION mrl.default_effort(integer) IS
    'hnsw.ef_search for a shortlist of this length where nothing was measured: pgvector''s HNSW '
    'returns no more rows than that, and takes 1,000 at most.';

DO $$
BEGIN
    IF to_regprocedure('mrl.default_walk(integer, integer)') IS NOT NULL THEN
        DROP FUNCTION mrl.default_walk(integer, integer);  -- from before indexes saw a LIMIT
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION mrl.default_walk(candidates integer DEFAULT 0)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    -- A walk of the index has 10 + effort / 8 candidates, at least 20, and walks farther by itself
    -- for many answers (csrc/postgres/engine.h).
    RETURN least(100000, greatest(64, 8 * candidates::bigint - 80))::integer;
COMMENT ON FUNCTION mrl.default_walk(integer) IS
    'mrl.effort where nothing was measured, with at least so many candidates that are ordered by '
    'their full vectors.';

CREATE OR REPLACE FUNCTION mrl.index_effort(c mrl.collection)
    RETURNS integer
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- Of a partitioned table the greatest of any partition's index.
    SELECT max((mrl.index_info(r.oid) ->> 'effort')::integer)
    FROM mrl.indexes(c) AS i
    CROSS JOIN LATERAL (
        SELECT i.index UNION SELECT t.relid FROM pg_partition_tree(i.index) AS t
    ) AS own (index)
    JOIN pg_class AS r ON r.oid = own.index
    WHERE i.kind = 'mrl' AND r.relkind = 'i'
$$;
COMMENT ON FUNCTION mrl.index_effort(mrl.collection) IS
    'How far an index of kind mrl walks by itself: what was measured when its graph was made, or '
    'mrl.effort where it is set; NULL where there is none.';

CREATE OR REPLACE FUNCTION mrl.open_keep(plan jsonb, k integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE plan ->> 'route' WHEN 'mrl' THEN 0 ELSE greatest(mrl.default_keep(k), k) END;
COMMENT ON FUNCTION mrl.open_keep(jsonb, integer) IS
    'Length of the shortlist where a plan leaves it open; 0 where an index of kind mrl decides it.';

CREATE OR REPLACE FUNCTION mrl.plan_of(c mrl.collection)
    RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        (SELECT p.plan FROM mrl.plan AS p WHERE p.collection = (c).name AND p.engine = 'sql'),
        CASE WHEN EXISTS (SELECT FROM mrl.indexes(c) AS i WHERE i.kind = 'mrl')
        THEN jsonb_build_object('route', 'mrl', 'stages', jsonb_build_array(
            jsonb_build_object('space', 'prefix', 'dims', (c).dims, 'precision', 'float32')))
        ELSE jsonb_build_object('route', 'hnsw', 'stages', jsonb_build_array(
            jsonb_build_object('space', 'prefix', 'dims', (c).low_dims, 'precision', 'float16'),
            jsonb_build_object('space', 'prefix', 'dims', (c).dims, 'precision', 'float32')))
        END)
$$;
COMMENT ON FUNCTION mrl.plan_of(mrl.collection) IS
    'The stored plan of the SQL engine, or the default one, whose keeps and effort are left open.';

CREATE OR REPLACE FUNCTION mrl.default_plan(
    collection text, k integer, shortlist integer DEFAULT NULL
)
    RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    keep integer := greatest(coalesce(shortlist, mrl.default_keep(k)), k);
BEGIN
    IF EXISTS (SELECT FROM mrl.indexes(c) AS i WHERE i.kind = 'mrl') THEN
        RETURN jsonb_build_object(
            'route', 'mrl',
            'effort', greatest(mrl.index_effort(c), mrl.default_walk(coalesce(shortlist, 0))),
            'stages', jsonb_build_array(
                jsonb_build_object(
                    'space', 'prefix', 'dims', c.dims, 'precision', 'float32', 'keep', k)));
    END IF;
    RETURN jsonb_build_object(
        'route', 'hnsw',
        'effort', mrl.default_effort(keep),
        'stages', jsonb_build_array(
            jsonb_build_object(
                'space', 'prefix', 'dims', c.low_dims, 'precision', 'float16', 'keep', keep),
            jsonb_build_object(
                'space', 'prefix', 'dims', c.dims, 'precision', 'float32', 'keep', k)));
END
$$;
COMMENT ON FUNCTION mrl.default_plan(text, integer, integer) IS
    'The plan of a search where nothing was measured: a walk of the index of kind mrl where there '
    'is one; else a shortlist from the low-dim vectors, then the full ones.';

CREATE OR REPLACE FUNCTION mrl.set_plan(collection text, plan jsonb, engine text DEFAULT 'sql')
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    last jsonb := plan -> 'stages' -> -1;
    most integer := CASE WHEN engine = 'sql' AND plan ->> 'route' IS DISTINCT FROM 'mrl'
        THEN 1000 ELSE 100000
    END;
BEGIN
    -- Its promise goes with it.
    DELETE FROM mrl.plan AS p
    WHERE p.collection = set_plan.collection AND p.engine = set_plan.engine;
    IF plan IS NOT NULL THEN
        IF jsonb_typeof(plan -> 'stages') IS DISTINCT FROM 'array'
            OR (last ->> 'dims')::integer IS DISTINCT FROM c.dims
            OR (plan ->> 'effort')::integer NOT BETWEEN 1 AND most
            OR EXISTS (
                SELECT
                FROM jsonb_array_elements(plan -> 'stages') AS s
                WHERE (s ->> 'dims')::integer NOT BETWEEN 1 AND c.dims
                    OR (s ->> 'keep')::integer < 1
            )
        THEN
            RAISE EXCEPTION
                'the plan does not fit collection "%": stages must end with its % dims, keeps and '
                'efforts be at least 1', collection, c.dims
                USING ERRCODE = 'MR003';
        END IF;
        INSERT INTO mrl.plan AS p (collection, engine, plan)
        VALUES (set_plan.collection, set_plan.engine, set_plan.plan);
    END IF;
    IF engine = 'sql' THEN
        PERFORM mrl.define_search(collection);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.set_plan(text, jsonb, text) IS
    'Stores the plan of an engine (sql or native), or removes it (NULL), and its promise with it; '
    'makes mrl.search_<collection> anew.';

CREATE OR REPLACE FUNCTION mrl.as_of_now(promise jsonb)
    RETURNS jsonb
    LANGUAGE sql STRICT
    RETURN promise || jsonb_build_object('as_of', pg_current_xact_id()::text::bigint);
COMMENT ON FUNCTION mrl.as_of_now(jsonb) IS
    'A promise with the id of this transaction, which must be the one that writes its row: where '
    'the two differ, rows and promise were restored from a dump, and their ids tell nothing.';

CREATE OR REPLACE FUNCTION mrl.anchor_promise(collection text, engine text)
    RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE mrl.promise AS p
    SET promise = mrl.as_of_now(p.promise)
    WHERE p.collection = anchor_promise.collection AND p.engine = anchor_promise.engine
$$;
COMMENT ON FUNCTION mrl.anchor_promise(text, text) IS
    'Takes the rows that are there now for those that a restored promise speaks of; what is '
    'written from here on counts as newer.';

CREATE OR REPLACE FUNCTION mrl.keep_promise(
    collection text, engine text, plan jsonb, promise jsonb
)
    RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.set_plan(collection, plan, engine);
    INSERT INTO mrl.promise (collection, engine, promise)
    VALUES (
        keep_promise.collection, keep_promise.engine, mrl.as_of_now(keep_promise.promise)
    );
    RETURN now();
END
$$;
COMMENT ON FUNCTION mrl.keep_promise(text, text, jsonb, jsonb) IS
    'Stores a plan with the promise that it was measured to keep.';

CREATE OR REPLACE FUNCTION mrl.search_by_name(collection text)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
    plan jsonb := mrl.plan_of(c);
    statement text := mrl.filled(mrl.search_statement(collection, plan), plan, '$1', '$2', '$3');
BEGIN
    RETURN format('SELECT hit.id, hit.distance FROM (%s) AS hit', statement);
END
$$;
COMMENT ON FUNCTION mrl.search_by_name(text) IS
    'The search of a collection under the name that its table has now, of query, k and keep: '
    'mrl.search_<collection> has the name of when it was made.';
