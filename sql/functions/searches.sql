-- mrl.search_<collection>: a function for each collection, made out of its plan (search.sql).

CREATE OR REPLACE FUNCTION mrl.define_search(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    exact jsonb := jsonb_build_object('stages', jsonb_build_array(plan -> 'stages' -> -1));
BEGIN
    EXECUTE format(
        $function$
CREATE OR REPLACE FUNCTION mrl.%1$I(
    query %2$I.vector, k integer DEFAULT 10, shortlist integer DEFAULT NULL
)
    RETURNS TABLE (id %3$s, distance double precision)
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    SET plan_cache_mode = force_custom_plan
AS $body$
#variable_conflict use_variable
DECLARE
    keep integer := %9$s;
    before text[];
    ids %3$s[];
    distances double precision[];
BEGIN
    IF query IS NULL OR %2$I.vector_dims(query) <> %4$s THEN
        RAISE EXCEPTION 'query has %% dims, collection "%%" has %4$s; embed with the same model',
            coalesce(%2$I.vector_dims(query), 0), %5$L USING ERRCODE = 'MR003';
    END IF;
    IF k IS NULL OR k < 1 OR shortlist < 1 THEN
        RAISE EXCEPTION 'k is %% and shortlist is %%, wanted at least 1', k, shortlist
            USING ERRCODE = 'MR003';
    END IF;
    IF %6$L = 'cosine' AND %2$I.vector_norm(query) = 0 THEN
        RAISE EXCEPTION 'query is the zero vector, which has no direction; cosine needs one'
            USING ERRCODE = 'MR003';
    END IF;
    before := mrl.settings();
    SELECT array_agg(hit.id), array_agg(hit.distance)  -- in the order of what they are of
    INTO ids, distances
    FROM (
%7$s
    ) AS hit;
    PERFORM mrl.set_back(before);
    IF coalesce(cardinality(ids), 0) < k THEN
        -- The index gave less than k.
        SELECT array_agg(hit.id), array_agg(hit.distance)
        INTO ids, distances
        FROM (
%8$s
        ) AS hit;
    END IF;
    RETURN QUERY SELECT unnest(ids), unnest(distances);
EXCEPTION WHEN undefined_table THEN  -- it has another name by now
    RETURN QUERY EXECUTE mrl.search_by_name(%5$L) USING query, k, keep;
END
$body$
        $function$,
        'search_' || c.name, mrl.vector_schema(), mrl.type_of(c.relation, c.key_column), c.dims,
        c.name, c.metric,
        mrl.filled(mrl.search_statement(collection, plan), plan, 'query', 'k', 'keep'),
        mrl.filled(mrl.search_statement(collection, exact), exact, 'query', 'k', 'keep'),
        CASE plan ->> 'route'
            WHEN 'mrl' THEN 'coalesce(shortlist, 0)'
            ELSE 'greatest(coalesce(shortlist, mrl.default_keep(k)), k)'
        END);
    EXECUTE format('COMMENT ON FUNCTION mrl.%I IS %L', 'search_' || c.name,
        format('The k rows of collection "%s" nearest to query by %s distance, the nearest first, '
               'ties by id: %s.',
               c.name, c.metric,
               CASE plan ->> 'route'
                   WHEN 'mrl' THEN 'by an index of kind mrl'
                   ELSE format('a shortlist of the given length on %s dims, reranked on all %s',
                               c.low_dims, c.dims)
               END));
END
$$;
COMMENT ON FUNCTION mrl.define_search(text) IS
    'Makes mrl.search_<collection> from the collection''s plan, so that its key keeps its type.';

CREATE OR REPLACE FUNCTION mrl.define_search_if_allowed(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.define_search(collection);
EXCEPTION WHEN insufficient_privilege OR SQLSTATE 'MR002' THEN
    RAISE NOTICE 'mrl.search_% keeps its form until its owner calls mrl.define_search(%)',
        collection, quote_literal(collection);
END
$$;
COMMENT ON FUNCTION mrl.define_search_if_allowed(text) IS
    'The same, where this role may; otherwise it says who must.';

CREATE OR REPLACE FUNCTION mrl.define_searches()
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.name
        FROM mrl.collection AS c
        WHERE EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation)
        ORDER BY c.name
    LOOP
        PERFORM mrl.define_search_if_allowed(name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.define_searches() IS
    'Makes every search function anew: an installation does that when the functions have changed.';
