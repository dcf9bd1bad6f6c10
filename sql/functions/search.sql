-- A plan becomes one statement: for mrl.search_<collection>, and for clients that send it
-- themselves.
--
-- Stage by stage the statement nests. The innermost takes the rows of the table in the order of
-- their low-dim vector, by the HNSW index where there is one; each further stage orders what is
-- left by more dims; the last one computes the exact distance. With an index of kind mrl there is
-- one stage: it walks by codes of its own, and orders what it finds by the full vectors.
--
-- What is not known when it is made is left open: the statement is a template for format(), with
-- marks
--
--   %1$s  the query             %4$s   further columns, each after a comma
--   %2$s  k                     %5$s   the effort, where the plan leaves it open
--   %3$s  the filter            %6$s…  the keep of stage 1, 2, …, where the plan leaves it open
--
-- and every other % in it is doubled.
--
-- Rows of one distance are ordered by key, text by its bytes whatever its collation: so are they
-- by the engine in memory, and where the answers of parts are merged.

CREATE OR REPLACE FUNCTION mrl.search_statement(collection text, plan jsonb DEFAULT NULL)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
    way jsonb := coalesce(plan, mrl.plan_of(c));
    stages integer := jsonb_array_length(way -> 'stages');
    key text := mrl.doubled(format('row_.%I', c.key_column));
    tie_order text := key || mrl.key_order(c);
    -- Adding to the distance keeps a scan of all rows exact: no index is ordered by such a sum.
    distance text := format('0.0 + (%s)', mrl.full_distance(c));
BEGIN
    IF way ->> 'route' = 'mrl' THEN
        -- The scan computes each distance, and the executor once more: here, and nowhere else.
        RETURN format(
            $statement$WITH settings AS MATERIALIZED (
    SELECT
%1$s
        AS applied
)
SELECT %2$s AS id, row_."mrl distance" AS distance%%4$s
FROM settings
CROSS JOIN LATERAL (
SELECT row_.*, %3$s AS "mrl distance"
FROM %4$s AS row_
WHERE %5$s AND settings.applied
ORDER BY "mrl distance"
LIMIT %%2$s
) AS row_
ORDER BY 2, %6$s$statement$,
            mrl.route_settings(c, way), key, mrl.full_distance(c),
            mrl.doubled(mrl.table_of(c)), mrl.matching(c), tie_order);
    END IF;
    IF stages = 1 THEN
        RETURN format(
            $statement$SELECT %1$s AS id, %2$s AS distance%%4$s
FROM %3$s AS row_
WHERE %4$s
ORDER BY 2, %5$s
LIMIT %%2$s$statement$,
            key, distance, mrl.doubled(mrl.table_of(c)), mrl.matching(c), tie_order);
    END IF;
    -- The settings are made by the statement itself, until the transaction ends: HNSW returns at
    -- most ef_search rows, and the iterative scan goes on beyond them. As the first stage refers to
    -- settings.applied, the executor must run them first. So one message does all.
    RETURN format(
        $statement$WITH settings AS MATERIALIZED (
    SELECT
%1$s
        AS applied
)
SELECT %2$s AS id, %3$s AS distance%%4$s
FROM settings
CROSS JOIN LATERAL (
%4$s
) AS row_
ORDER BY 2, %5$s
LIMIT %%2$s$statement$,
        mrl.route_settings(c, way), key, distance,
        mrl.shortlist_statement(c, way, stages - 1, ' AND settings.applied'), tie_order);
END
$$;
COMMENT ON FUNCTION mrl.search_statement(text, jsonb) IS
    'The statement of a search by a plan (the stored one, or the default): a template for '
    'format(), with marks for the query, k, the filter, further columns, and the effort and keeps '
    'that the plan leaves open.';

CREATE OR REPLACE FUNCTION mrl.shortlist_statement(
    c mrl.collection, plan jsonb, stages integer, ready text DEFAULT '', walk boolean DEFAULT true
)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    relation text := mrl.doubled(mrl.table_of(c));
    condition text := mrl.matching(c) || ready;
    statement text := format(E'SELECT row_.*\nFROM %s AS row_\nWHERE %s', relation, condition);
BEGIN
    FOR number IN 1 .. stages LOOP
        statement := format(
            E'SELECT row_.*\nFROM %s AS row_%s\nORDER BY %s(%s)\nLIMIT greatest(%s, %%2$s)',
            CASE number WHEN 1 THEN relation ELSE format(E'(\n%s\n)', statement) END,
            CASE number WHEN 1 THEN E'\nWHERE ' || condition ELSE '' END,
            CASE WHEN walk AND plan ->> 'route' IS DISTINCT FROM 'seqscan'
            THEN '' ELSE '0.0 + '
            END,
            mrl.stage_distance(c, plan -> 'stages' -> number - 1),
            mrl.keep_of(plan, number));
    END LOOP;
    RETURN statement;
END
$$;
COMMENT ON FUNCTION mrl.shortlist_statement(mrl.collection, jsonb, integer, text, boolean) IS
    'The first stages of a search, each a subquery of the next; a template as '
    'mrl.search_statement() gives. ready: a further condition on the rows of the table. walk: '
    'whether an index may be used.';

CREATE OR REPLACE FUNCTION mrl.route_settings(c mrl.collection, plan jsonb)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keep text := format('greatest(%s, %%2$s)', mrl.keep_of(plan, 1));
    effort text := coalesce(plan ->> 'effort', '%5$s');
    -- Of a shortlist whose rows are carried whole: twice as many are held, in rounded pieces.
    bytes text := format('(%s * %s::bigint)', 4 * (4 * c.dims + 2 * c.low_dims + 256), keep);
BEGIN
    IF plan ->> 'route' = 'mrl' THEN
        RETURN format(
            $settings$        pg_catalog.set_config('mrl.effort', (%s)::text, true) IS NOT NULL$settings$,
            effort);
    END IF;
    IF plan ->> 'route' = 'seqscan' THEN
        -- Memory for the shortlist, up to 64 MiB: so the nearest of a scan are kept by a heap, and
        -- not all rows are sorted on disk.
        RETURN format(
            $settings$        CASE
            WHEN %1$s BETWEEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) + 1
                AND 67108864
            THEN pg_catalog.set_config('work_mem', (%1$s / 1024)::text || 'kB', true) IS NOT NULL
            ELSE TRUE
        END$settings$,
            bytes);
    END IF;
    RETURN format(
        $settings$        pg_catalog.set_config('hnsw.ef_search', (%1$s)::text, true) IS NOT NULL
        AND pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true) IS NOT NULL
        AND pg_catalog.set_config(
            'hnsw.max_scan_tuples', greatest(20000, 4 * least(%2$s, 500000000))::text, true
        ) IS NOT NULL$settings$,
        effort, keep);
END
$$;
COMMENT ON FUNCTION mrl.route_settings(mrl.collection, jsonb) IS
    'The SQL that makes the settings of a plan''s route, as a condition that is true; a template.';

CREATE OR REPLACE FUNCTION mrl.settings()
    RETURNS text[]
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY[
        pg_catalog.current_setting('hnsw.ef_search', true),
        pg_catalog.current_setting('hnsw.iterative_scan', true),
        pg_catalog.current_setting('hnsw.max_scan_tuples', true),
        pg_catalog.current_setting('work_mem'),
        nullif(pg_catalog.current_setting('mrl.effort', true), ''),
        nullif(pg_catalog.current_setting('mrl.least_effort', true), '')
    ];
END
$$;
COMMENT ON FUNCTION mrl.settings() IS
    'The settings that mrl.route_settings() may change, as they are now.';

CREATE OR REPLACE FUNCTION mrl.set_back(settings text[])
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM
        pg_catalog.set_config('hnsw.ef_search', settings[1], true),
        pg_catalog.set_config('hnsw.iterative_scan', settings[2], true),
        pg_catalog.set_config('hnsw.max_scan_tuples', settings[3], true),
        pg_catalog.set_config('work_mem', settings[4], true);
    -- Where no search set them, servers without the extension shall not learn the names.
    IF nullif(pg_catalog.current_setting('mrl.effort', true), '') IS DISTINCT FROM settings[5] THEN
        PERFORM pg_catalog.set_config('mrl.effort', settings[5], true);
    END IF;
    IF nullif(pg_catalog.current_setting('mrl.least_effort', true), '')
        IS DISTINCT FROM settings[6]
    THEN
        PERFORM pg_catalog.set_config('mrl.least_effort', settings[6], true);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.set_back(text[]) IS 'Makes the settings of mrl.settings() again.';

CREATE OR REPLACE FUNCTION mrl.stage_distance(c mrl.collection, stage jsonb)
    RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        '%s OPERATOR(%s.%s) %s',
        CASE (stage ->> 'dims')::integer
            WHEN (c).low_dims THEN mrl.doubled(mrl.low_dim_sql(c))
            ELSE mrl.prefix_expression(
                mrl.doubled(format('row_.%I', (c).vector_column)), (stage ->> 'dims')::integer,
                (c).metric, v)
        END,
        v, mrl.metric_operator((c).metric, true),
        mrl.prefix_expression(mrl.target(c), (stage ->> 'dims')::integer, (c).metric, v))
    FROM (SELECT mrl.doubled(quote_ident(mrl.vector_schema()))) AS s (v)
$$;
COMMENT ON FUNCTION mrl.stage_distance(mrl.collection, jsonb) IS
    'The SQL of the distance that a stage, but the last, orders by; a template.';

CREATE OR REPLACE FUNCTION mrl.full_distance(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        '%s %s',
        mrl.doubled(format('row_.%I OPERATOR(%I.%s)', (c).vector_column, mrl.vector_schema(),
                           mrl.metric_operator((c).metric, false))),
        mrl.target(c))
$$;
COMMENT ON FUNCTION mrl.full_distance(mrl.collection) IS
    'The SQL of the distance of full vectors, which searches return; a template.';

CREATE OR REPLACE FUNCTION mrl.target(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '%1$s::'
        || mrl.doubled(format('%I.%I(%s)', mrl.vector_schema(), mrl.vector_type(c), (c).dims))
$$;
COMMENT ON FUNCTION mrl.target(mrl.collection) IS
    'The SQL of the query in the type of the vector column; a template.';

CREATE OR REPLACE FUNCTION mrl.matching(c mrl.collection)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT mrl.doubled(format('row_.%I IS NOT NULL', (c).vector_column)) || ' AND %3$s'
$$;
COMMENT ON FUNCTION mrl.matching(mrl.collection) IS
    'The SQL of the rows that a search looks at: those with a vector that pass the filter; a '
    'template.';

CREATE OR REPLACE FUNCTION mrl.keep_of(plan jsonb, number integer)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN coalesce(plan -> 'stages' -> number - 1 ->> 'keep', '%' || number + 5 || '$s');
COMMENT ON FUNCTION mrl.keep_of(jsonb, integer) IS
    'The keep of a stage, counted from 1; its mark where the plan leaves it open.';

CREATE OR REPLACE FUNCTION mrl.doubled(statement text)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN replace(statement, '%', '%%');
COMMENT ON FUNCTION mrl.doubled(text) IS 'SQL text as it stands in a template.';

CREATE OR REPLACE FUNCTION mrl.filled(
    template text, plan jsonb, query text, k text, keep text, filter text DEFAULT 'TRUE'
)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        template,
        VARIADIC ARRAY[
            query, k, filter, '',
            CASE plan ->> 'route'
                -- 0: as far as the index walks by itself; for a long shortlist at least so far.
                WHEN 'mrl' THEN format(
                    'CASE WHEN %1$s > 0 AND pg_catalog.set_config('
                    '''mrl.least_effort'', mrl.default_walk(%1$s)::text, true) IS NULL '
                    'THEN NULL ELSE 0 END',
                    keep)
                ELSE format('mrl.default_effort(greatest(%s, %s))', keep, k)
            END
        ] || array_fill(keep, ARRAY[jsonb_array_length(plan -> 'stages')]))
$$;
COMMENT ON FUNCTION mrl.filled(text, jsonb, text, text, text, text) IS
    'A template with its marks filled by SQL texts; every keep that is open is the same.';
