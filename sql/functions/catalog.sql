-- What all else stands on: collections by their name, the rules of prefixes and operators.

CREATE OR REPLACE FUNCTION mrl.vector_schema()
    RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (
        SELECT n.nspname
        FROM pg_extension AS e
        JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'vector'
    );
COMMENT ON FUNCTION mrl.vector_schema() IS 'The schema that pgvector lives in.';

CREATE OR REPLACE FUNCTION mrl.compiled(name text)
    RETURNS regprocedure
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure
    FROM pg_extension AS e
    JOIN pg_depend AS d
        ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
    JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
    WHERE e.extname = 'mrl_db' AND p.proname = compiled.name
$$;
COMMENT ON FUNCTION mrl.compiled(text) IS
    'A function of the extension mrl_db; NULL where the extension is not, or is of before it had it.';

CREATE OR REPLACE FUNCTION mrl.find(collection text, whole boolean DEFAULT false)
    RETURNS mrl.collection
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection;
BEGIN
    SELECT * INTO c FROM mrl.collection WHERE name = find.collection;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no collection "%"', collection
            USING ERRCODE = 'MR002',
                HINT = 'SELECT name FROM mrl.collection lists those that are there';
    END IF;
    IF whole THEN
        PERFORM mrl.check_columns(c, mrl.table_of(c));
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION mrl.find(text, boolean) IS
    'The catalogue row of a collection, or an error that names it. whole: its table must be there, '
    'too, with the columns of its keys and vectors.';

CREATE OR REPLACE FUNCTION mrl.check_columns(c mrl.collection, relation text)
    RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    lost text;
BEGIN
    SELECT n.name INTO lost
    FROM unnest(ARRAY[c.key_column, c.vector_column]) AS n (name)
    WHERE mrl.type_of(c.relation, n.name) IS NULL;
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'collection "%" lost its column "%": it was renamed or dropped',
            c.name, lost
            USING ERRCODE = 'MR002',
                HINT = format(
                    'where it has another name, ALTER TABLE %s RENAME COLUMN that name TO %I%s',
                    relation, lost,
                    CASE WHEN NOT c.owns_table
                    THEN '; or drop the collection (an attached table stays), and attach it again'
                    ELSE ''
                    END);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.check_columns(mrl.collection, text) IS
    'Refuses a collection whose table has no column of keys, or of vectors, by the name that the '
    'catalogue knows.';

CREATE OR REPLACE FUNCTION mrl.refuse_another(collection text)
    RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'collection "%" was dropped, and made anew', collection
        USING ERRCODE = 'MR002', HINT = 'open it again';
END
$$;
COMMENT ON FUNCTION mrl.refuse_another(text) IS
    'The error of a statement that was made for a collection of this name before it was made anew. '
    'It is called only when such a statement is planned: elsewhere a constant stands in its place.';

CREATE OR REPLACE FUNCTION mrl.table_of(c mrl.collection)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := c.relation::text;
BEGIN
    IF name ~ '^[0-9]+$' THEN  -- its oid, unquoted: there is no such table, or not any more
        RAISE EXCEPTION 'collection "%" lost its table: it was dropped', c.name
            USING ERRCODE = 'MR002',
                HINT = format(
                    'where that was outside mrl_db, SELECT mrl.drop_collection(%L) forgets it',
                    c.name);
    END IF;
    RETURN name;
END
$$;
COMMENT ON FUNCTION mrl.table_of(mrl.collection) IS
    'The table as SQL writes it, or an error where it is gone.';

CREATE OR REPLACE FUNCTION mrl.wait_briefly()
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('lock_timeout') = '0' THEN
        PERFORM set_config('lock_timeout', '10s', true);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.wait_briefly() IS
    'Ends this transaction''s waits for locks after ten seconds, unless it has a limit of its own: '
    'whoever waits for a table has everybody behind wait, too.';

CREATE OR REPLACE FUNCTION mrl.wait_for_turn(collection text)
    RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT pg_advisory_xact_lock(hashtext('mrl_db collection'), hashtext(collection))
$$;
COMMENT ON FUNCTION mrl.wait_for_turn(text) IS
    'Waits until nobody else makes, drops, logs or indexes the collection; then nobody does up to '
    'the end of this transaction. Whoever locks its table, too, takes the turn first.';

CREATE OR REPLACE FUNCTION mrl.type_of(relation regclass, column_name text)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format_type(a.atttypid, NULL)
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION mrl.type_of(regclass, text) IS
    'The type of a column as SQL writes it, without modifiers; NULL where there is no such column.';

CREATE OR REPLACE FUNCTION mrl.key_order(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN mrl.type_of(c.relation, c.key_column) IN ('text', 'character varying')
        THEN ' COLLATE pg_catalog."C"' ELSE '' END
$$;
COMMENT ON FUNCTION mrl.key_order(mrl.collection) IS
    'What follows a key in the order of rows that are equally near.';

CREATE OR REPLACE FUNCTION mrl.rising(widths integer[])
    RETURNS integer[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ARRAY(SELECT DISTINCT width FROM unnest(widths) AS width ORDER BY width)
$$;
COMMENT ON FUNCTION mrl.rising(integer[]) IS 'Widths in rising order, each once.';

CREATE OR REPLACE FUNCTION mrl.plain_type(name text)
    RETURNS regtype
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE WHEN name ~ '[(;%]' THEN NULL ELSE to_regtype(name) END;
EXCEPTION WHEN syntax_error OR invalid_name OR feature_not_supported THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.plain_type(text) IS 'The type of this name, without modifiers, or NULL.';

CREATE OR REPLACE FUNCTION mrl.prefix(embedding vector, dims integer)
    RETURNS vector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN l2_normalize(subvector(embedding, 1, dims));
COMMENT ON FUNCTION mrl.prefix(vector, integer) IS
    'First dims coordinates at unit length. Store it in a typed column: subvector() returns a '
    'shorter vector, without an error, when the row has fewer coordinates than asked for.';

CREATE OR REPLACE FUNCTION mrl.metrics()
    RETURNS TABLE (
        name text, operator text, classes text, prefix_operator text, prefix_classes text,
        unit_prefixes boolean
    )
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    VALUES
        ('cosine', '<=>', 'cosine_ops', '<#>', 'ip_ops', true),
        ('inner_product', '<#>', 'ip_ops', '<#>', 'ip_ops', false),
        ('l2', '<->', 'l2_ops', '<->', 'l2_ops', false)
$$;
COMMENT ON FUNCTION mrl.metrics() IS
    'The metrics: pgvector''s operators and operator classes for full vectors and for prefixes, '
    'and whether prefixes are brought to unit length. Unit prefixes are compared by inner product, '
    'which keeps zero ones.';

CREATE OR REPLACE FUNCTION mrl.metric_operator(metric text, prefix boolean)
    RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN prefix THEN m.prefix_operator ELSE m.operator END
    FROM mrl.metrics() AS m
    WHERE m.name = metric
$$;
COMMENT ON FUNCTION mrl.metric_operator(text, boolean) IS
    'pgvector''s operator on full vectors or on prefixes.';

CREATE OR REPLACE FUNCTION mrl.prefix_expression(
    vector text, dims integer, metric text,
    vector_schema text DEFAULT quote_ident(mrl.vector_schema())
)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        CASE WHEN m.unit_prefixes
        THEN '(%1$s.l2_normalize(%1$s.subvector(%2$s, 1, %3$s)))::%1$s.halfvec(%3$s)'
        ELSE '(%1$s.subvector(%2$s, 1, %3$s))::%1$s.halfvec(%3$s)'
        END,
        vector_schema, vector, dims)
    FROM mrl.metrics() AS m
    WHERE m.name = metric
$$;
COMMENT ON FUNCTION mrl.prefix_expression(text, integer, text, text) IS
    'The SQL of a prefix as a halfvec: the one rule for the low-dim column, the expression index '
    'and the query. vector and vector_schema are SQL text.';

CREATE OR REPLACE FUNCTION mrl.low_dim_sql(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN coalesce(
        'row_.' || quote_ident((c).low_dim_column),
        mrl.prefix_expression('row_.' || quote_ident((c).vector_column), (c).low_dims, (c).metric)
    );
COMMENT ON FUNCTION mrl.low_dim_sql(mrl.collection) IS
    'The SQL of the low-dim vector of the table named row_: the column, or the indexed expression.';

CREATE OR REPLACE FUNCTION mrl.default_low_dims(nesting_dims integer[], dims integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        (SELECT min(width) FROM unnest(nesting_dims) AS width WHERE width >= 128 AND width < dims),
        (SELECT max(width) FROM unnest(nesting_dims) AS width WHERE width < dims),
        least(dims, 128)
    );
COMMENT ON FUNCTION mrl.default_low_dims(integer[], integer) IS
    'Width of the low-dim column where none was asked for: the narrowest nesting dims of at least '
    '128, below which real models lose too many neighbours for a short list; else the widest below '
    'the full dims.';

CREATE OR REPLACE FUNCTION mrl.describe(collection text)
    RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
BEGIN
    RETURN (
        SELECT json_build_object(
            'name', c.name,
            'schema', n.nspname,
            'table', r.relname,
            'partitioned', r.relkind = 'p',
            'key_indexed', mrl.key_is_indexed(c.relation, c.key_column),
            'key', c.key_column,
            'key_type', mrl.type_of(c.relation, c.key_column),
            'key_order', mrl.key_order(c),
            'key_length', (
                SELECT a.atttypmod - 4  -- VARHDRSZ, as varchartypmodout() has it
                FROM pg_attribute AS a
                WHERE a.attrelid = r.oid AND a.attname = c.key_column AND a.atttypmod >= 4
            ),
            'vector', c.vector_column,
            'vector_type', mrl.vector_type(c),
            'vector_oid', (
                SELECT a.atttypid::bigint
                FROM pg_attribute AS a
                WHERE a.attrelid = r.oid AND a.attname = c.vector_column
            ),
            'vectors_required', (
                SELECT a.attnotnull
                FROM pg_attribute AS a
                WHERE a.attrelid = r.oid AND a.attname = c.vector_column
            ),
            'vector_schema', mrl.vector_schema(),
            'dims', c.dims,
            'nesting_dims', c.nesting_dims,
            'metric', c.metric,
            'adapted', c.adapted,
            'low_dims', c.low_dims,
            'low_dim_column', c.low_dim_column,
            'owns_table', c.owns_table,
            'search_oid', to_regproc(format('mrl.%I', 'search_' || c.name))::oid::bigint,
            'index', mrl.index_of(c.name)::text,
            'index_kinds', (SELECT coalesce(json_agg(i.kind), '[]') FROM mrl.indexes(c) AS i),
            'plan', (
                SELECT p.plan FROM mrl.plan AS p WHERE p.collection = c.name AND p.engine = 'sql'
            ),
            'columns', (
                SELECT coalesce(
                    json_agg(
                        json_build_object(
                            'name', a.attname,
                            'type', format_type(a.atttypid, NULL),
                            'oid', a.atttypid::bigint,
                            'wire_oid', mrl.wire_type(a.atttypid)::oid::bigint,
                            -- unnest() makes several columns of a composite value.
                            'array_oid', CASE
                                WHEN t.typtype IN ('c', 'd') THEN 0 ELSE t.typarray::bigint
                            END,
                            'generated', a.attgenerated <> '')
                        ORDER BY a.attnum),
                    '[]')
                FROM pg_attribute AS a
                JOIN pg_type AS t ON t.oid = a.atttypid
                WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.attname NOT IN (c.key_column, c.vector_column)
                    AND a.attname IS DISTINCT FROM c.low_dim_column
                    AND NOT EXISTS (
                        SELECT
                        FROM mrl.text_search AS t
                        WHERE t.collection = c.name AND t.words_column = a.attname
                    )
            ),
            'text', (
                SELECT json_build_object(
                    'column', t.text_column, 'words', t.words_column, 'language', t.language,
                    'ranks', CASE
                        WHEN r.relkind = 'r' AND NOT r.relhassubclass
                        THEN mrl.compiled('mrl_rows_by_words')::regproc::text
                    END)
                FROM mrl.text_search AS t
                WHERE t.collection = c.name
            )
        )
        FROM pg_class AS r
        JOIN pg_namespace AS n ON n.oid = r.relnamespace
        WHERE r.oid = c.relation
    );
END
$$;
COMMENT ON FUNCTION mrl.describe(text) IS
    'All that a client must know of a collection, in one round trip.';

CREATE OR REPLACE FUNCTION mrl.wire_type(type regtype)
    RETURNS regtype
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t pg_type;
BEGIN
    SELECT * INTO t FROM pg_type WHERE oid = type;
    RETURN CASE
        WHEN t.typtype = 'd' THEN mrl.wire_type(t.typbasetype)
        WHEN t.typtype = 'e' OR t.typcategory = 'S' THEN 'text'::regtype
        ELSE type
    END;
END
$$;
COMMENT ON FUNCTION mrl.wire_type(regtype) IS
    'The type whose binary form values of a type have: that of the base of a domain; text for enums '
    'and all kinds of strings.';

CREATE OR REPLACE FUNCTION mrl.vector_type(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.typname
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = (c).relation AND a.attname = (c).vector_column
$$;
COMMENT ON FUNCTION mrl.vector_type(mrl.collection) IS
    'The bare name of the vector column''s type: vector or halfvec.';
