-- Recall as it is, a search stage by stage, and what became of an answer.

CREATE OR REPLACE FUNCTION mrl.walk_misses(ef_search integer)
    RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- A row's own node gives away its neighbours, all at once where the list of candidates is
    -- little longer than a node's 32 links. Measured with pgvector 0.8 (m = 16, ef_construction =
    -- 64, 1,500 queries of each kind) on 60,666 real rows and 200,000 generated ones: 2.5 to 3.8 at
    -- ef_search 10 to 40, 2.2 to 2.6 at 64, 1.6 to 2.0 at 100, 1.3 to 1.9 at 130 to 800.
    SELECT 4.0 - 2.0 * least(1.0, greatest(0.0, (ef_search - 40) / 60.0))
$$;
COMMENT ON FUNCTION mrl.walk_misses(integer) IS
    'How many times as much a walk of pgvector''s misses for a query that is no row as for a row, '
    'whose node gives away its neighbours.';

CREATE OR REPLACE FUNCTION mrl.misses_for_rows(route text, effort integer)
    RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- An index of kind mrl, measured for 10 answers on 61,166 real rows of 384 dims, 1,500 queries
    -- of each kind: 2.6 at an effort of 16, 4.9 at 22 and 32, 4.6 at 48, 3.6 to 3.8 at 64 to 130,
    -- 2.7 at 200, 2.2 at 300 and 500, 1.6 at 1,000, with standard errors of .2 to .9; for 50
    -- answers 1.6 falling to 1.1. It is no law of the index: rows without any structure (20,000
    -- normal ones of 48 dims) gave 21 to 57, and no factor makes up for that (docs/recall.md).
    SELECT CASE route
        WHEN 'seqscan' THEN 1.0
        WHEN 'mrl' THEN 5.0 - 2.0 * least(1.0, greatest(0.0, (effort - 130) / 270.0))
        ELSE mrl.walk_misses(effort)
    END
$$;
COMMENT ON FUNCTION mrl.misses_for_rows(text, integer) IS
    'How many times as much a plan misses for a query that is no row as for a row that is left out '
    'of its own answers, by its route and effort.';

CREATE OR REPLACE FUNCTION mrl.recall(
    collection text, k integer DEFAULT 10, queries integer DEFAULT 100, given vector[] DEFAULT NULL
)
    RETURNS TABLE (
        asked integer, mean double precision, p05 double precision, minimum double precision,
        low double precision, high double precision
    )
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    first jsonb := plan -> 'stages' -> 0;
    keep integer := CASE plan ->> 'route'
        WHEN 'mrl' THEN 2147483647  -- whatever an index of kind mrl misses, its walk missed
        ELSE greatest(coalesce((first ->> 'keep')::integer, mrl.open_keep(plan, k)), k)
    END;
    walks boolean := given IS NULL AND plan ->> 'route' IS DISTINCT FROM 'seqscan'
        AND (plan ->> 'route' = 'mrl' OR jsonb_array_length(plan -> 'stages') > 1);
    times double precision := mrl.misses_for_rows(
        plan ->> 'route',
        coalesce(
            (plan ->> 'effort')::integer,
            CASE plan ->> 'route'
                WHEN 'mrl' THEN mrl.default_walk()
                ELSE mrl.default_effort(keep)
            END));
    prefix text := mrl.filled(mrl.stage_distance(c, first), plan, '$1', '$2', '$2');
    statement text := format(
        $query$
        -- A row is left out of its own answers: it takes the first place of both lists.
        WITH exact AS MATERIALIZED (
            %1$s
        ), hit AS (
            SELECT s.id, s.distance
            FROM mrl.%2$I($1, $2 + CASE WHEN $3 IS NULL THEN 0 ELSE 1 END) AS s
            WHERE s.id::text IS DISTINCT FROM $3
            ORDER BY 2, s.id%7$s
            LIMIT $2
        ), missed AS (
            SELECT e.id
            FROM exact AS e
            WHERE NOT EXISTS (SELECT FROM hit AS h WHERE h.id = e.id)
            LIMIT greatest(
                (SELECT count(*) FROM exact)
                - (
                    SELECT count(*) FROM hit AS h
                    WHERE h.distance <= (SELECT max(e.distance) FROM exact AS e) + 1e-6
                ),
                0)
        )
        SELECT
            (SELECT count(*) FROM exact),
            (SELECT count(*) FROM missed),
            -- pgvector walks through a row's own node, which leads to its neighbours: what that
            -- walk misses, though the shortlist would have had room for it, weighs more in the
            -- lower bound.
            CASE WHEN $4 THEN (
                SELECT count(*)
                FROM missed AS m
                JOIN %3$s AS own ON own.%4$I = m.id
                WHERE (SELECT count(*) FROM %3$s AS row_ WHERE (%5$s) < (%6$s)) < $5
            ) ELSE 0 END
        $query$,
        mrl.filled(
            mrl.search_statement(collection, jsonb_build_object('stages', jsonb_build_array(
                plan -> 'stages' -> -1))),
            plan, '$1', '$2', '$2', format('row_.%I::text IS DISTINCT FROM $3', c.key_column)),
        'search_' || c.name, c.relation, c.key_column, prefix, replace(prefix, 'row_.', 'own.'),
        mrl.key_order(c));
    query record;
    missed integer;
    lost integer;
    of_rows integer;
    measured double precision[] := '{}';
    weighted double precision[] := '{}';
BEGIN
    IF k IS NULL OR k < 1 OR queries < 1 THEN
        RAISE EXCEPTION 'k is % and queries is %, wanted at least 1', k, queries
            USING ERRCODE = 'MR003';
    END IF;
    FOR query IN EXECUTE
        CASE WHEN given IS NULL
        THEN format(
            'SELECT row_.%1$I::text AS id, row_.%2$I::%3$I.vector AS target
             FROM %4$s AS row_
             WHERE row_.%2$I IS NOT NULL AND %3$I.vector_norm(row_.%2$I::%3$I.vector) > 0
             ORDER BY random()
             LIMIT $1',
            c.key_column, c.vector_column, mrl.vector_schema(), c.relation)
        ELSE 'SELECT NULL::text AS id, target FROM unnest($2) AS target LIMIT $1'
        END
        USING queries, given
    LOOP
        EXECUTE statement INTO of_rows, missed, lost
        USING query.target, k, query.id, walks, keep;
        IF of_rows > 0 THEN
            measured := measured || (of_rows - missed)::double precision / of_rows;
            -- Below 0 where all was missed.
            weighted := weighted
                || 1.0 - (missed + (times - 1.0) * lost) / of_rows;
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT
        count(*)::integer, avg(m), percentile_disc(0.05) WITHIN GROUP (ORDER BY m), min(m),
        greatest(0.0, avg(w) - 1.96 * coalesce(stddev_samp(w), 0) / sqrt(greatest(count(*), 1))),
        least(1.0, avg(m) + 1.96 * coalesce(stddev_samp(m), 0) / sqrt(greatest(count(*), 1)))
    FROM unnest(measured, weighted) AS r (m, w);
END
$$;
COMMENT ON FUNCTION mrl.recall(text, integer, integer, vector[]) IS
    'The recall of mrl.search_<collection> as measured: mean, 5th percentile, minimum, and the '
    'mean''s 95 % interval (normal approximation), over rows drawn at random, each left out of its '
    'own answers, or over given queries. What a walk misses for rows weighs more in the lower '
    'bound (mrl.walk_misses).';

CREATE OR REPLACE FUNCTION mrl.stage_times(explained jsonb)
    RETURNS TABLE (
        stage integer, access text, rows_out bigint, milliseconds double precision
    )
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    node jsonb;
    total double precision;
    before double precision := 0;
BEGIN
    stage := 0;
    -- Limits nest as the stages do: the outermost, which comes first, is the last stage's.
    FOR node IN
        SELECT l.node
        FROM jsonb_path_query(explained, 'strict $.** ? (@."Node Type" == "Limit")')
            WITH ORDINALITY AS l (node, depth)
        ORDER BY l.depth DESC
    LOOP
        stage := stage + 1;
        rows_out := (node ->> 'Actual Rows')::numeric::bigint;
        total := (node ->> 'Actual Total Time')::double precision;
        milliseconds := total - before;
        before := total;
        IF stage = 1 THEN
            WHILE node ? 'Plans' LOOP
                -- Of partitions one that is walked by an index: small ones are read whole.
                node := coalesce(
                    (
                        SELECT b.child
                        FROM jsonb_array_elements(node -> 'Plans')
                            WITH ORDINALITY AS b (child, place)
                        WHERE node ->> 'Node Type' IN ('Append', 'Merge Append')
                            AND b.child @? 'strict $.** ? (exists (@."Order By"))'
                        ORDER BY b.place
                        LIMIT 1
                    ),
                    node -> 'Plans' -> 0);
            END LOOP;
            access := CASE node ->> 'Node Type'
                WHEN 'Index Scan' THEN coalesce(
                    (
                        SELECT m.amname
                        FROM pg_class AS r
                        JOIN pg_am AS m ON m.oid = r.relam
                        WHERE r.relname = node ->> 'Index Name'
                        ORDER BY m.amname IN ('mrl', 'hnsw') DESC
                        LIMIT 1
                    ),
                    'index')
                WHEN 'Seq Scan' THEN 'seqscan'
                ELSE lower(node ->> 'Node Type')
            END;
        ELSE
            access := NULL;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.stage_times(jsonb) IS
    'The stages of a search out of what EXPLAIN (ANALYZE, FORMAT JSON) says of its statement: how '
    'the first gets its rows, how many rows each passes on, and the time that it adds.';

CREATE OR REPLACE FUNCTION mrl.explain(collection text, query vector, k integer DEFAULT 10)
    RETURNS TABLE (
        stage integer, looks_at text, rows_in bigint, rows_out bigint, bytes_per_row integer,
        milliseconds double precision
    )
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    keep integer := mrl.open_keep(plan, k);
    statement text := mrl.filled(mrl.search_statement(collection, plan), plan, '$1', '$2', '$3');
    before text[] := mrl.settings();
    explained jsonb;
    one jsonb;
BEGIN
    EXECUTE format(
        'SELECT count(*) FROM %s AS row_ WHERE row_.%I IS NOT NULL', c.relation, c.vector_column)
    INTO rows_in;
    EXECUTE statement USING query, k, keep;  -- warms what it reads
    EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON, TIMING ON) ' || statement
    INTO explained
    USING query, k, keep;
    PERFORM mrl.set_back(before);
    FOR stage, looks_at, rows_out, milliseconds IN
        SELECT t.stage, t.access, t.rows_out, t.milliseconds FROM mrl.stage_times(explained) AS t
    LOOP
        one := plan -> 'stages' -> stage - 1;
        looks_at := concat_ws(', by ', (one ->> 'dims') || ' ' || (one ->> 'precision'), looks_at);
        bytes_per_row := (one ->> 'dims')::integer
            * CASE one ->> 'precision' WHEN 'float16' THEN 2 ELSE 4 END;
        RETURN NEXT;
        rows_in := rows_out;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.explain(text, vector, integer) IS
    'A search of a collection, stage by stage: rows in and out, bytes a row, milliseconds.';

CREATE OR REPLACE FUNCTION mrl.lost(
    collection text, query vector, want text[], k integer DEFAULT 10
)
    RETURNS TABLE (id text, stage integer, reason text, rank bigint, keep integer)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    c mrl.collection := mrl.find(collection);
    plan jsonb := mrl.plan_of(c);
    last integer := jsonb_array_length(plan -> 'stages');
    open_keep integer := mrl.open_keep(plan, k);
    key_type text := mrl.type_of(c.relation, c.key_column);
    hits text[];
    present boolean;
    hit boolean;
    distance text;
BEGIN
    EXECUTE format('SELECT array_agg(s.id::text) FROM mrl.%I($1, $2) AS s', 'search_' || c.name)
    INTO hits
    USING query, k;
    FOREACH id IN ARRAY want LOOP
        stage := NULL;
        rank := NULL;
        keep := NULL;
        reason := NULL;
        EXECUTE format(
            'SELECT
                EXISTS (
                    SELECT FROM %1$s AS row_
                    WHERE row_.%2$I = $1::%3$s AND row_.%4$I IS NOT NULL
                ),
                $1::%3$s::text = ANY ($2)',
            c.relation, c.key_column, key_type, c.vector_column)
        INTO present, hit
        USING id, hits;
        IF NOT present THEN
            reason := 'not in the collection';
        ELSIF hit THEN
            reason := 'found';
        ELSE
            -- Its true rank first: who is not among the k nearest is not lost. Then stage by stage.
            FOR number IN 0 .. last - 1 LOOP
                distance := CASE number
                    WHEN 0 THEN mrl.full_distance(c)
                    ELSE mrl.stage_distance(c, plan -> 'stages' -> number - 1)
                END;
                EXECUTE mrl.filled(
                    format(
                        'SELECT count(*)
                         FROM (%1$s) AS row_, (
                             SELECT %2$s AS distance FROM %3$s AS row_ WHERE row_.%4$s = $4::%5$s
                         ) AS own
                         WHERE (%2$s, row_.%4$s) < (own.distance, $4::%5$s)',
                        mrl.shortlist_statement(c, plan, greatest(number - 1, 0), walk => false),
                        distance, mrl.doubled(mrl.table_of(c)),
                        mrl.doubled(quote_ident(c.key_column)), key_type),
                    plan, '$1', '$2', '$3')
                INTO rank
                USING query, k, open_keep, id;
                stage := nullif(number, 0);
                rank := rank + 1;
                keep := CASE number WHEN 0 THEN k ELSE greatest(
                    coalesce((plan -> 'stages' -> number - 1 ->> 'keep')::integer, open_keep), k)
                END;
                IF rank > keep THEN
                    reason := CASE number
                        WHEN 0 THEN format('not among the %s nearest', k)
                        ELSE format('a keep of %s would have saved it', rank)
                    END;
                    EXIT;
                END IF;
            END LOOP;
            IF reason IS NULL THEN
                stage := 1;
                rank := NULL;
                keep := NULL;
                reason := 'the walk over the index did not meet it: more effort would';
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.lost(text, vector, text[], integer) IS
    'For each wanted id the stage that lost it, its rank there, and the keep that the plan has; '
    'keys are given as text.';
