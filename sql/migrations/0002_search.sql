-- Plans become search functions: mrl.search_<collection>.

CREATE FUNCTION mrl.define_search(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    v text := mrl.vector_schema();
    stored jsonb := (SELECT p.plan FROM mrl.plan AS p WHERE p.collection = define_search.collection AND p.engine = 'sql');
    key_type text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attname = c.key_column);
    vector_type text := (SELECT t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                         WHERE a.attrelid = c.relation AND a.attname = c.vector_column);
    stages jsonb := stored -> 'stages';
    full_distance text := format('row_.%I OPERATOR(%I.%s) target', c.vector_column, v, mrl.metric_operator(c.metric, false));
    funnel text;
    stage jsonb;
    number integer := 0;
BEGIN
    EXECUTE format('SELECT %L::%I.vector', '[1]', v);  -- loads pgvector, so that its settings may be named below without superuser
    IF stages IS NULL THEN
        stages := jsonb_build_array(
            jsonb_build_object('dims', c.low_dims, 'precision', 'float16', 'keep', NULL),
            jsonb_build_object('dims', c.dims, 'precision', 'float32'));
    END IF;
    -- Every stage but the last becomes a subquery: rows of the table, or of the stage before it, in the order of its prefix.
    FOR stage IN SELECT value FROM jsonb_array_elements(stages) WITH ORDINALITY AS s (value, place) WHERE place < jsonb_array_length(stages) ORDER BY place LOOP
        number := number + 1;
        funnel := format(
            E'        SELECT row_.*\n        FROM %s AS row_\n%s        ORDER BY %s OPERATOR(%I.%s) %s\n        LIMIT greatest(%s, k)',
            CASE number WHEN 1 THEN c.relation::text ELSE format(E'(\n%s\n        )', funnel) END,
            CASE number WHEN 1 THEN format(E'        WHERE row_.%I IS NOT NULL\n', c.vector_column) ELSE '' END,
            CASE WHEN number = 1 AND (stage ->> 'dims')::integer = c.low_dims THEN mrl.low_dim_sql(c)
                 ELSE mrl.prefix_expression(format('row_.%I', c.vector_column), (stage ->> 'dims')::integer, c.metric) END,
            v, mrl.metric_operator(c.metric, true),
            mrl.prefix_expression('target', (stage ->> 'dims')::integer, c.metric),
            coalesce(stage ->> 'keep', 'keep'));
    END LOOP;
    IF funnel IS NULL THEN  -- a plan of one stage: nothing to shortlist
        funnel := format(E'        SELECT row_.*\n        FROM %s AS row_\n        WHERE row_.%I IS NOT NULL', c.relation, c.vector_column);
    END IF;

    EXECUTE format(
        $function$
CREATE OR REPLACE FUNCTION mrl.%1$I(query %2$I.vector, k integer DEFAULT 10, shortlist integer DEFAULT NULL)
    RETURNS TABLE (id %3$s, distance double precision)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET hnsw.ef_search = 40
    SET hnsw.iterative_scan = 'relaxed_order'
    SET hnsw.max_scan_tuples = 20000
    SET plan_cache_mode = force_custom_plan
    SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_variable
DECLARE
    keep integer;
    target %2$I.%4$I;
    ids %3$s[];
    distances double precision[];
BEGIN
    IF query IS NULL OR %2$I.vector_dims(query) <> %5$s THEN
        RAISE EXCEPTION 'query has %% dims, collection "%%" has %5$s; embed with the same model',
            coalesce(%2$I.vector_dims(query), 0), %10$L USING ERRCODE = 'MR003';
    END IF;
    IF k IS NULL OR k < 1 OR shortlist < 1 THEN
        RAISE EXCEPTION 'k is %% and shortlist is %%, wanted at least 1', k, shortlist USING ERRCODE = 'MR003';
    END IF;
    IF %6$L = 'cosine' AND %2$I.vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'query is the zero vector, which has no direction; cosine needs one' USING ERRCODE = 'MR003';
    END IF;
    target := query;
    keep := greatest(coalesce(shortlist, mrl.default_keep(k)), k);
    -- Undone when the function returns, as each of these stands in its SET clause.
    PERFORM pg_catalog.set_config('hnsw.ef_search', least(1000, greatest(40, %11$s))::text, true);
    PERFORM pg_catalog.set_config('hnsw.max_scan_tuples', greatest(20000, 4 * least(keep, 500000000))::text, true);
    SELECT array_agg(found.id ORDER BY found.distance, found.id), array_agg(found.distance ORDER BY found.distance, found.id)
    INTO ids, distances
    FROM (
        SELECT row_.%7$I AS id, %8$s AS distance
        FROM (
%9$s
        ) AS row_
        ORDER BY 2, 1
        LIMIT k
    ) AS found;
    IF coalesce(cardinality(ids), 0) < k THEN
        -- The index gave less than k. Adding to the distance keeps this one exact: no index is ordered by such a sum.
        SELECT array_agg(found.id ORDER BY found.distance, found.id), array_agg(found.distance ORDER BY found.distance, found.id)
        INTO ids, distances
        FROM (
            SELECT row_.%7$I AS id, 0.0 + (%8$s) AS distance
            FROM %12$s AS row_
            WHERE row_.%13$I IS NOT NULL
            ORDER BY 2, 1
            LIMIT k
        ) AS found;
    END IF;
    RETURN QUERY SELECT unnest(ids), unnest(distances);
END
$body$
        $function$,
        'search_' || c.name, v, key_type, vector_type, c.dims, c.metric, c.key_column, full_distance, funnel, c.name,
        coalesce(stored ->> 'effort', 'keep'), c.relation, c.vector_column);
    EXECUTE format('COMMENT ON FUNCTION mrl.%I IS %L', 'search_' || c.name,
        format('The k rows of collection "%s" nearest to query by %s distance, the nearest first, ties by id: a shortlist of the '
               'given length on %s dims, reranked on all %s.', c.name, c.metric, c.low_dims, c.dims));
END
$$;
COMMENT ON FUNCTION mrl.define_search(text) IS 'Makes mrl.search_<collection> from the collection''s plan, so that its key keeps its type.';

CREATE FUNCTION mrl.set_plan(collection text, plan jsonb)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    last jsonb := plan -> 'stages' -> -1;
BEGIN
    IF plan IS NULL THEN
        DELETE FROM mrl.plan AS p WHERE p.collection = set_plan.collection AND p.engine = 'sql';
    ELSE
        IF jsonb_typeof(plan -> 'stages') IS DISTINCT FROM 'array' OR (last ->> 'dims')::integer IS DISTINCT FROM c.dims
            OR (plan ->> 'effort')::integer NOT BETWEEN 1 AND 1000
            OR EXISTS (SELECT FROM jsonb_array_elements(plan -> 'stages') AS s
                       WHERE (s ->> 'dims')::integer NOT BETWEEN 1 AND c.dims OR (s ->> 'keep')::integer < 1)
        THEN
            RAISE EXCEPTION 'the plan does not fit collection "%": stages must end with its % dims, keeps and efforts be at least 1', collection, c.dims
                USING ERRCODE = 'MR003';
        END IF;
        INSERT INTO mrl.plan AS p (collection, engine, plan) VALUES (set_plan.collection, 'sql', set_plan.plan)
        ON CONFLICT ON CONSTRAINT plan_pkey DO UPDATE SET plan = excluded.plan, created_at = now();
    END IF;
    PERFORM mrl.define_search(collection);
END
$$;
COMMENT ON FUNCTION mrl.set_plan(text, jsonb) IS 'Stores the plan of the SQL engine, or removes it (NULL), and makes mrl.search_<collection> anew.';
