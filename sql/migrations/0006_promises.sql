-- Promises of recall, with the plans that keep them; recall as it is; and what became of an answer.

SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(mrl.vector_schema()), true);
SELECT '[1]'::vector;  -- loads pgvector, so that its settings may be named below without superuser

CREATE TABLE mrl.promise (
    collection text NOT NULL,
    engine     text NOT NULL,
    promise    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, engine),
    FOREIGN KEY (collection, engine) REFERENCES mrl.plan ON DELETE CASCADE ON UPDATE CASCADE
);
COMMENT ON TABLE mrl.promise IS
    'What the stored plan of a collection was measured to keep: recall, its statistic and k, and the evidence. Goes when the plan goes.';

-- One home for the subqueries of a funnel: in search functions, and where these are explained.
CREATE FUNCTION mrl.funnel_sql(c mrl.collection, plan jsonb, stages integer, target text, k text, keep text, walk boolean DEFAULT true)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v text := mrl.vector_schema();
    funnel text := format(E'        SELECT row_.*\n        FROM %s AS row_\n        WHERE row_.%I IS NOT NULL', c.relation, c.vector_column);
    stage jsonb;
    number integer := 0;
BEGIN
    FOR stage IN SELECT value FROM jsonb_array_elements(plan -> 'stages') WITH ORDINALITY AS s (value, place) WHERE place <= stages ORDER BY place LOOP
        number := number + 1;
        funnel := format(
            E'        SELECT row_.*\n        FROM %s AS row_\n%s        ORDER BY %s(%s)\n        LIMIT greatest(%s, %s)',
            CASE number WHEN 1 THEN c.relation::text ELSE format(E'(\n%s\n        )', funnel) END,
            CASE number WHEN 1 THEN format(E'        WHERE row_.%I IS NOT NULL\n', c.vector_column) ELSE '' END,
            -- No index is ordered by a sum.
            CASE WHEN walk AND plan ->> 'route' IS DISTINCT FROM 'seqscan' THEN '' ELSE '0.0 + ' END,
            mrl.stage_distance_sql(c, stage, number, target), coalesce(stage ->> 'keep', keep), k);
    END LOOP;
    RETURN funnel;
END
$$;
COMMENT ON FUNCTION mrl.funnel_sql(mrl.collection, jsonb, integer, text, text, text, boolean) IS
    'The SQL of the first stages of a plan, each a subquery of the next; target, k and keep are SQL texts. walk: whether an index may be used.';

CREATE FUNCTION mrl.stage_distance_sql(c mrl.collection, stage jsonb, number integer, target text)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN format(
        '%s OPERATOR(%I.%s) %s',
        CASE WHEN number = 1 AND (stage ->> 'dims')::integer = c.low_dims THEN mrl.low_dim_sql(c)
             ELSE mrl.prefix_expression(format('row_.%I', c.vector_column), (stage ->> 'dims')::integer, c.metric) END,
        mrl.vector_schema(), mrl.metric_operator(c.metric, true),
        mrl.prefix_expression(target, (stage ->> 'dims')::integer, c.metric));
END
$$;
COMMENT ON FUNCTION mrl.stage_distance_sql(mrl.collection, jsonb, integer, text) IS 'The SQL of the distance that a stage, but the last, orders by.';

CREATE FUNCTION mrl.plan_of(c mrl.collection)
    RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN coalesce(
        (SELECT p.plan FROM mrl.plan AS p WHERE p.collection = (c).name AND p.engine = 'sql'),
        jsonb_build_object('route', 'hnsw', 'stages', jsonb_build_array(
            jsonb_build_object('dims', (c).low_dims, 'precision', 'float16', 'keep', NULL),
            jsonb_build_object('dims', (c).dims, 'precision', 'float32'))));
COMMENT ON FUNCTION mrl.plan_of(mrl.collection) IS 'The stored plan of the SQL engine, or the default one, whose first keep and effort are left open.';

CREATE OR REPLACE FUNCTION mrl.define_search(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    v text := mrl.vector_schema();
    plan jsonb := mrl.plan_of(c);
    shortlists integer := jsonb_array_length(plan -> 'stages') - 1;
    key_type text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attname = c.key_column);
    vector_type text := (SELECT t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                         WHERE a.attrelid = c.relation AND a.attname = c.vector_column);
    full_distance text := format('row_.%I OPERATOR(%I.%s) target', c.vector_column, v, mrl.metric_operator(c.metric, false));
BEGIN
    EXECUTE format('SELECT %L::%I.vector', '[1]', v);  -- loads pgvector, so that its settings may be named below without superuser
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
        SELECT row_.%7$I AS id, 0.0 + (%8$s) AS distance
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
        'search_' || c.name, v, key_type, vector_type, c.dims, c.metric, c.key_column, full_distance,
        mrl.funnel_sql(c, plan, shortlists, 'target', 'k', 'keep'), c.name,
        coalesce(plan ->> 'effort', 'keep'), c.relation, c.vector_column);
    EXECUTE format('COMMENT ON FUNCTION mrl.%I IS %L', 'search_' || c.name,
        format('The k rows of collection "%s" nearest to query by %s distance, the nearest first, ties by id: a shortlist of the '
               'given length on %s dims, reranked on all %s.', c.name, c.metric, c.low_dims, c.dims));
END
$$;

DROP FUNCTION mrl.set_plan(text, jsonb);
CREATE FUNCTION mrl.set_plan(collection text, plan jsonb, engine text DEFAULT 'sql')
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    last jsonb := plan -> 'stages' -> -1;
    most integer := CASE engine WHEN 'sql' THEN 1000 ELSE 100000 END;
BEGIN
    DELETE FROM mrl.plan AS p WHERE p.collection = set_plan.collection AND p.engine = set_plan.engine;  -- and its promise
    IF plan IS NOT NULL THEN
        IF jsonb_typeof(plan -> 'stages') IS DISTINCT FROM 'array' OR (last ->> 'dims')::integer IS DISTINCT FROM c.dims
            OR (plan ->> 'effort')::integer NOT BETWEEN 1 AND most
            OR EXISTS (SELECT FROM jsonb_array_elements(plan -> 'stages') AS s
                       WHERE (s ->> 'dims')::integer NOT BETWEEN 1 AND c.dims OR (s ->> 'keep')::integer < 1)
        THEN
            RAISE EXCEPTION 'the plan does not fit collection "%": stages must end with its % dims, keeps and efforts be at least 1', collection, c.dims
                USING ERRCODE = 'MR003';
        END IF;
        INSERT INTO mrl.plan AS p (collection, engine, plan) VALUES (set_plan.collection, set_plan.engine, set_plan.plan);
    END IF;
    IF engine = 'sql' THEN
        PERFORM mrl.define_search(collection);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.set_plan(text, jsonb, text) IS
    'Stores the plan of an engine (sql or native), or removes it (NULL), and its promise with it; makes mrl.search_<collection> anew.';

CREATE FUNCTION mrl.keep_promise(collection text, engine text, plan jsonb, promise jsonb)
    RETURNS timestamptz
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.set_plan(collection, plan, engine);
    INSERT INTO mrl.promise (collection, engine, promise) VALUES (keep_promise.collection, keep_promise.engine, keep_promise.promise);
    RETURN now();
END
$$;
COMMENT ON FUNCTION mrl.keep_promise(text, text, jsonb, jsonb) IS 'Stores a plan with the promise that it was measured to keep.';

CREATE FUNCTION mrl.recall(collection text, k integer DEFAULT 10, queries integer DEFAULT 100, given vector[] DEFAULT NULL)
    RETURNS TABLE (asked integer, mean double precision, p05 double precision, minimum double precision, low double precision, high double precision)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    v text := mrl.vector_schema();
    plan jsonb := mrl.plan_of(c);
    first jsonb := plan -> 'stages' -> 0;
    keep integer := greatest(coalesce((first ->> 'keep')::integer, mrl.default_keep(k)), k);
    walks boolean := given IS NULL AND plan ->> 'route' IS DISTINCT FROM 'seqscan' AND jsonb_array_length(plan -> 'stages') > 1;
    key_type text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attname = c.key_column);
    distance text := format('0.0 + (row_.%I OPERATOR(%I.%s) $1)', c.vector_column, v, mrl.metric_operator(c.metric, false));
    prefix text := mrl.stage_distance_sql(c, first, 1, '$1');
    asked_for record;
    missed integer;
    lost integer;
    of_rows integer;
    recalls double precision[] := '{}';
BEGIN
    IF k IS NULL OR k < 1 OR queries < 1 THEN
        RAISE EXCEPTION 'k is % and queries is %, wanted at least 1', k, queries USING ERRCODE = 'MR003';
    END IF;
    FOR asked_for IN EXECUTE CASE WHEN given IS NULL
        THEN format('SELECT row_.%I::text AS id, row_.%I::%I.vector AS target FROM %s AS row_ WHERE row_.%2$I IS NOT NULL
                     AND %3$I.vector_norm(row_.%2$I::%3$I.vector) > 0 ORDER BY random() LIMIT $1', c.key_column, c.vector_column, v, c.relation)
        ELSE 'SELECT NULL::text AS id, target FROM unnest($2) AS target LIMIT $1' END USING queries, given
    LOOP
        -- A row is left out of its own answers: it takes the first place of both lists.
        EXECUTE format(
            $query$
            WITH exact AS MATERIALIZED (
                SELECT row_.%1$I AS id, %2$s AS distance FROM %3$s AS row_
                WHERE row_.%4$I IS NOT NULL AND row_.%1$I::text IS DISTINCT FROM $3
                ORDER BY 2, 1 LIMIT $2
            ), found AS (
                SELECT s.id, s.distance FROM mrl.%5$I($4, $2 + CASE WHEN $3 IS NULL THEN 0 ELSE 1 END) AS s
                WHERE s.id::text IS DISTINCT FROM $3 ORDER BY 2, 1 LIMIT $2
            ), missed AS (
                SELECT e.id FROM exact AS e WHERE NOT EXISTS (SELECT FROM found AS f WHERE f.id = e.id)
                LIMIT greatest((SELECT count(*) FROM exact) - (SELECT count(*) FROM found AS f WHERE f.distance <= (SELECT max(e.distance) FROM exact AS e) + 1e-6), 0)
            )
            SELECT (SELECT count(*) FROM exact), (SELECT count(*) FROM missed),
                -- pgvector walks through a row's own node, which leads to its neighbours: what that walk misses, though the shortlist would have
                -- had room for it, counts double (mrl_db.tuning.sample).
                CASE WHEN $5 THEN (
                    SELECT count(*) FROM missed AS m JOIN %3$s AS own ON own.%1$I = m.id
                    WHERE (SELECT count(*) FROM %3$s AS row_ WHERE (%6$s) < (%7$s)) < $6
                ) ELSE 0 END
            $query$, c.key_column, distance, c.relation, c.vector_column, 'search_' || c.name, prefix, replace(prefix, 'row_.', 'own.'))
        INTO of_rows, missed, lost
        USING asked_for.target, k, asked_for.id, asked_for.target, walks, keep;
        IF of_rows > 0 THEN
            recalls := recalls || greatest(0.0, 1.0 - (missed + lost)::double precision / of_rows);
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT count(*)::integer, avg(r), percentile_disc(0.05) WITHIN GROUP (ORDER BY r), min(r),
        greatest(0.0, avg(r) - 1.96 * coalesce(stddev_samp(r), 0) / sqrt(greatest(count(*), 1))),
        least(1.0, avg(r) + 1.96 * coalesce(stddev_samp(r), 0) / sqrt(greatest(count(*), 1)))
    FROM unnest(recalls) AS r;
END
$$;
COMMENT ON FUNCTION mrl.recall(text, integer, integer, vector[]) IS
    'The recall of mrl.search_<collection> as it is now: mean, 5th percentile, minimum, and the mean''s 95 % interval (normal approximation), '
    'over rows drawn at random, each left out of its own answers, or over given queries.';

CREATE FUNCTION mrl.explain(collection text, query vector, k integer DEFAULT 10)
    RETURNS TABLE (stage integer, looks_at text, rows_in bigint, rows_out bigint, bytes_per_row integer, milliseconds double precision)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET hnsw.ef_search = 40
    SET hnsw.iterative_scan = 'relaxed_order'
    SET hnsw.max_scan_tuples = 20000
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    last integer := jsonb_array_length(plan -> 'stages');
    keep integer := greatest(mrl.default_keep(k), k);
    before double precision := 0;
    total double precision;
    began timestamptz;
    statement text;
BEGIN
    PERFORM set_config('hnsw.ef_search', least(1000, greatest(40, coalesce((plan ->> 'effort')::integer, keep)))::text, true);
    PERFORM set_config('hnsw.max_scan_tuples', greatest(20000, 4 * keep)::text, true);
    EXECUTE format('SELECT count(*) FROM %s AS row_ WHERE row_.%I IS NOT NULL', c.relation, c.vector_column) INTO rows_in;
    FOR number IN 1 .. last LOOP
        stage := number;
        statement := mrl.funnel_sql(c, plan, least(stage, last - 1), '$1', '$2', '$3');
        IF stage = last THEN
            statement := format('SELECT row_.* FROM (%s) AS row_ ORDER BY 0.0 + (row_.%I OPERATOR(%I.%s) $1) LIMIT $2', statement,
                                c.vector_column, mrl.vector_schema(), mrl.metric_operator(c.metric, false));
        END IF;
        FOR turn IN 1 .. 2 LOOP  -- the first warms what it reads
            began := clock_timestamp();
            EXECUTE format('SELECT count(*) FROM (%s) AS counted', statement) INTO rows_out USING query, k, keep;
            milliseconds := 1000 * extract(epoch FROM clock_timestamp() - began);
        END LOOP;
        looks_at := format('%s %s%s', (plan -> 'stages' -> stage - 1 ->> 'dims'), (plan -> 'stages' -> stage - 1 ->> 'precision'),
                           CASE WHEN stage = 1 AND last > 1 THEN format(', by %s', plan ->> 'route') ELSE '' END);
        bytes_per_row := (plan -> 'stages' -> stage - 1 ->> 'dims')::integer * CASE plan -> 'stages' -> stage - 1 ->> 'precision' WHEN 'float16' THEN 2 ELSE 4 END;
        -- A statement runs all stages up to its last: this one's time is what it adds.
        total := milliseconds;
        milliseconds := greatest(total - before, 0);
        before := total;
        RETURN NEXT;
        rows_in := rows_out;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.explain(text, vector, integer) IS 'A search of a collection, stage by stage: rows in and out, bytes a row, milliseconds.';

CREATE FUNCTION mrl.lost(collection text, query vector, want text[], k integer DEFAULT 10)
    RETURNS TABLE (id text, stage integer, reason text, rank bigint, keep integer)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    last integer := jsonb_array_length(plan -> 'stages');
    open_keep integer := greatest(mrl.default_keep(k), k);
    key_type text := (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a WHERE a.attrelid = c.relation AND a.attname = c.key_column);
    wanted text;
    number integer;
    there boolean;
    found boolean;
    ahead bigint;
    distance text;
BEGIN
    FOREACH wanted IN ARRAY want LOOP
        id := wanted; stage := NULL; rank := NULL; keep := NULL; reason := NULL;
        EXECUTE format('SELECT count(*) > 0 FROM %s AS row_ WHERE row_.%I = $1::%s AND row_.%I IS NOT NULL', c.relation, c.key_column, key_type, c.vector_column)
            INTO there USING wanted;
        EXECUTE format('SELECT count(*) > 0 FROM mrl.%I($1, $2) AS s WHERE s.id = $3::%s', 'search_' || c.name, key_type) INTO found USING query, k, wanted;
        IF NOT there THEN
            reason := 'not in the collection';
        ELSIF found THEN
            reason := 'found';
        ELSE
            -- Its true rank first: who is not among the k nearest is not lost. Then stage by stage.
            FOREACH number IN ARRAY array_prepend(0, ARRAY(SELECT generate_series(1, last - 1))) LOOP
                distance := CASE number WHEN 0
                    THEN format('row_.%I OPERATOR(%I.%s) $1', c.vector_column, mrl.vector_schema(), mrl.metric_operator(c.metric, false))
                    ELSE mrl.stage_distance_sql(c, plan -> 'stages' -> number - 1, number, '$1') END;
                EXECUTE format(
                    'SELECT count(*) FROM (%1$s) AS row_, (SELECT %2$s AS distance FROM %3$s AS row_ WHERE row_.%4$I = $4::%5$s) AS own
                     WHERE (%2$s, row_.%4$I) < (own.distance, $4::%5$s)',
                    mrl.funnel_sql(c, plan, greatest(number - 1, 0), '$1', '$2', '$3', false), distance, c.relation, c.key_column, key_type)
                    INTO ahead USING query, k, open_keep, wanted;
                stage := nullif(number, 0);
                rank := ahead + 1;
                keep := CASE number WHEN 0 THEN k ELSE greatest(coalesce((plan -> 'stages' -> number - 1 ->> 'keep')::integer, open_keep), k) END;
                IF rank > keep THEN
                    reason := CASE number WHEN 0 THEN format('not among the %s nearest', k) ELSE format('a keep of %s would have saved it', rank) END;
                    EXIT;
                END IF;
            END LOOP;
            IF reason IS NULL THEN
                stage := 1; rank := NULL; keep := NULL;
                reason := 'the walk over the index did not meet it: more effort would';
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.lost(text, vector, text[], integer) IS
    'For each wanted id the stage that lost it, its rank there, and the keep that the plan has; keys are given as text.';

-- Search functions that stand are made again: a stored plan that scans is now run as one.
DO $$
BEGIN
    PERFORM mrl.define_search(c.name) FROM mrl.collection AS c;
EXCEPTION WHEN insufficient_privilege OR undefined_table OR undefined_object THEN
    RAISE NOTICE 'search functions keep their form until mrl.define_search() is called by their owners';
END
$$;
