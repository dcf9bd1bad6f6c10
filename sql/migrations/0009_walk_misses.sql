-- Rows as queries, as mrl_db.tuning.sample.walk_misses counts them: a test holds the two together.

SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(mrl.vector_schema()), true);

CREATE FUNCTION mrl.walk_misses(ef_search integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT 4.0 - 2.0 * least(1.0, greatest(0.0, (ef_search - 40) / 60.0))
$$;
COMMENT ON FUNCTION mrl.walk_misses(integer) IS
    'How many times as much a walk of pgvector''s misses for a query that is no row as for a row, whose node gives away its neighbours.';

CREATE OR REPLACE FUNCTION mrl.recall(collection text, k integer DEFAULT 10, queries integer DEFAULT 100, given vector[] DEFAULT NULL)
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
    effort integer := least(1000, greatest(40, coalesce((plan ->> 'effort')::integer, keep)));
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
                -- had room for it, counts more than once.
                CASE WHEN $5 THEN (
                    SELECT count(*) FROM missed AS m JOIN %3$s AS own ON own.%1$I = m.id
                    WHERE (SELECT count(*) FROM %3$s AS row_ WHERE (%6$s) < (%7$s)) < $6
                ) ELSE 0 END
            $query$, c.key_column, distance, c.relation, c.vector_column, 'search_' || c.name, prefix, replace(prefix, 'row_.', 'own.'))
        INTO of_rows, missed, lost
        USING asked_for.target, k, asked_for.id, asked_for.target, walks, keep;
        IF of_rows > 0 THEN
            recalls := recalls || 1.0 - (missed + (mrl.walk_misses(effort) - 1.0) * lost) / of_rows;  -- below 0 where all was missed
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT count(*)::integer, greatest(0.0, avg(r)), greatest(0.0, percentile_disc(0.05) WITHIN GROUP (ORDER BY r)), greatest(0.0, min(r)),
        greatest(0.0, avg(r) - 1.96 * coalesce(stddev_samp(r), 0) / sqrt(greatest(count(*), 1))),
        least(1.0, avg(r) + 1.96 * coalesce(stddev_samp(r), 0) / sqrt(greatest(count(*), 1)))
    FROM unnest(recalls) AS r;
END
$$;
