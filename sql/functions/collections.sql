-- Collections: created, attached, adapted and dropped.

CREATE OR REPLACE FUNCTION mrl.check_definition(
    name text, dims integer, nesting_dims integer[], low_dims integer, metric text
)
    RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IS NULL OR octet_length(name) NOT BETWEEN 1 AND 56 THEN
        RAISE EXCEPTION 'the collection name has % bytes, wanted 1 to 56',
            coalesce(octet_length(name), 0)
            USING ERRCODE = 'MR003',
                HINT = 'its function search_<name> must fit PostgreSQL''s 63 bytes';
    END IF;
    IF position('$body$' IN name) > 0 THEN
        RAISE EXCEPTION 'the collection name "%" has "$body$" in it', name
            USING ERRCODE = 'MR003', HINT = 'it would end the body of its search function';
    END IF;
    IF EXISTS (SELECT FROM mrl.collection AS c WHERE c.name = check_definition.name) THEN
        RAISE EXCEPTION 'collection "%" exists already', name
            USING ERRCODE = 'MR001', HINT = 'open it, drop it, or choose another name';
    END IF;
    IF NOT EXISTS (SELECT FROM mrl.metrics() AS m WHERE m.name = metric) THEN
        RAISE EXCEPTION 'metric "%" is not known; choose one of %',
            metric, (SELECT string_agg(m.name, ', ') FROM mrl.metrics() AS m)
            USING ERRCODE = 'MR003';
    END IF;
    IF dims IS NULL OR dims NOT BETWEEN 1 AND 16000 THEN
        RAISE EXCEPTION 'dims is %, pgvector stores 1 to 16000', dims USING ERRCODE = 'MR003';
    END IF;
    IF low_dims IS NULL OR low_dims NOT BETWEEN 1 AND least(dims, 4000) THEN
        RAISE EXCEPTION
            'shortlist_dims is %, wanted 1 to % (the full dims, and at most 4000 in a halfvec '
            'index)',
            low_dims, least(dims, 4000)
            USING ERRCODE = 'MR003';
    END IF;
    IF nesting_dims[cardinality(nesting_dims)] <> dims OR nesting_dims[1] < 1
        OR nesting_dims <> mrl.rising(nesting_dims)
    THEN
        RAISE EXCEPTION
            'nesting_dims is %, wanted rising widths from at least 1 to the full % dims',
            nesting_dims, dims
            USING ERRCODE = 'MR003';
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.check_definition(text, integer, integer[], integer, text) IS
    'Refuses a definition that cannot be right, saying both sides.';

DO $$
BEGIN
    IF to_regprocedure(
        'mrl.create_collection(text, integer, integer, integer[], text, text, json, text)'
    ) IS NOT NULL THEN
        DROP FUNCTION mrl.create_collection(  -- from before rows could be without a vector
            text, integer, integer, integer[], text, text, json, text);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION mrl.create_collection(
    name text,
    dims integer,
    shortlist_dims integer DEFAULT NULL,
    nesting_dims integer[] DEFAULT NULL,
    metric text DEFAULT 'cosine',
    key_type text DEFAULT 'bigint',
    columns json DEFAULT NULL,
    schema text DEFAULT current_schema(),
    vectors_required boolean DEFAULT true
)
    RETURNS regclass
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    low_dims integer := coalesce(shortlist_dims, mrl.default_low_dims(nesting_dims, dims));
    widths integer[] := coalesce(nesting_dims, mrl.rising(ARRAY[low_dims, dims]));
    low_dim_column text := 'embedding_' || low_dims;
    relation regclass;
    column_name text;
    column_type text;
    further text := '';
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(name);
    PERFORM mrl.check_definition(name, dims, widths, low_dims, metric);
    IF key_type IS NULL OR key_type NOT IN ('bigint', 'integer', 'smallint', 'uuid', 'text') THEN
        RAISE EXCEPTION 'key_type is "%", wanted bigint, integer, smallint, uuid or text', key_type
            USING ERRCODE = 'MR003';
    END IF;
    IF schema IS NULL OR to_regnamespace(quote_ident(schema)) IS NULL THEN
        RAISE EXCEPTION 'no schema "%" to create the table in', schema
            USING ERRCODE = 'MR002', HINT = 'CREATE SCHEMA it, or name another one';
    END IF;
    IF to_regclass(format('%I.%I', schema, name)) IS NOT NULL THEN
        RAISE EXCEPTION 'relation "%.%" exists already', schema, name
            USING ERRCODE = 'MR001', HINT = 'attach it as a collection, or choose another name';
    END IF;
    FOR column_name, column_type IN
        SELECT e.key, e.value FROM json_each_text(coalesce(columns, '{}')) AS e
    LOOP
        IF octet_length(column_name) NOT BETWEEN 1 AND 63
            OR column_name IN ('id', 'embedding', low_dim_column)
        THEN
            RAISE EXCEPTION
                'column "%" cannot be: names have 1 to 63 bytes, and id, embedding and % are taken',
                column_name, low_dim_column
                USING ERRCODE = 'MR003';
        END IF;
        IF mrl.plain_type(column_type) IS NULL THEN
            RAISE EXCEPTION
                'column "%" has type "%", wanted the plain name of a type, such as text, integer '
                'or timestamptz', column_name, column_type
                USING ERRCODE = 'MR003';
        END IF;
        further := further || format(', %I %s', column_name, mrl.plain_type(column_type));
    END LOOP;

    EXECUTE format(
        'CREATE TABLE %1$I.%2$I (
            id %3$s PRIMARY KEY,
            embedding %4$I.vector(%5$s)%10$s,
            %6$I %4$I.halfvec(%7$s) GENERATED ALWAYS AS (%8$s) STORED%9$s
        )',
        schema, name, key_type, mrl.vector_schema(), dims, low_dim_column, low_dims,
        mrl.prefix_expression('embedding', low_dims, metric), further,
        CASE WHEN vectors_required THEN ' NOT NULL' ELSE '' END);
    relation := format('%I.%I', schema, name)::regclass;
    INSERT INTO mrl.collection AS c (
        name, relation, key_column, vector_column, dims, nesting_dims, metric, low_dims,
        low_dim_column, owns_table, owns_column
    )
    VALUES (
        create_collection.name, relation, 'id', 'embedding', create_collection.dims, widths,
        create_collection.metric, low_dims, low_dim_column, true, true
    );
    PERFORM mrl.define_search(name);
    RETURN relation;
END
$$;
COMMENT ON FUNCTION mrl.create_collection(
    text, integer, integer, integer[], text, text, json, text, boolean
) IS
    'Creates a table with a key id, a column embedding and its low-dim column, and '
    'mrl.search_<name>. columns: {"name": "type", …}. vectors_required: whether embedding is NOT '
    'NULL; searches leave rows without a vector out.';

DO $$
BEGIN
    IF to_regprocedure(
        'mrl.attach(regclass, text, text, text, integer, integer, integer[], text, text)'
    ) IS NOT NULL THEN
        DROP FUNCTION mrl.attach(  -- from before keys could be unique by their maker
            regclass, text, text, text, integer, integer, integer[], text, text);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION mrl.attach(
    relation regclass,
    name text DEFAULT NULL,
    vector text DEFAULT 'embedding',
    key text DEFAULT 'id',
    dims integer DEFAULT NULL,
    shortlist_dims integer DEFAULT NULL,
    nesting_dims integer[] DEFAULT NULL,
    metric text DEFAULT 'cosine',
    low_dim text DEFAULT 'column',
    key_unique boolean DEFAULT false
)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    collection_name text := coalesce(
        name, (SELECT r.relname FROM pg_class AS r WHERE r.oid = relation));
    other text;
    v text := mrl.vector_schema();
    vector_type text;
    typed_dims integer;
    key_type text := mrl.type_of(relation, key);
    low_dims integer;
    widths integer[];
    new_column text;
    others bigint;
    generated "char";
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection_name);
    PERFORM mrl.wait_for_turn(relation::oid::text);  -- of those who give it other names
    SELECT c.name INTO other FROM mrl.collection AS c WHERE c.relation = attach.relation;
    IF NOT EXISTS (
        SELECT FROM pg_class AS r WHERE r.oid = relation AND r.relkind IN ('r', 'p')
    ) THEN
        RAISE EXCEPTION '% is not a table', relation
            USING ERRCODE = 'MR003', HINT = 'attach the table below the view';
    END IF;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'table % is collection "%" already', relation, other
            USING ERRCODE = 'MR001',
                HINT = 'open that one, or drop it first (an attached table stays)';
    END IF;
    SELECT t.typname, nullif(a.atttypmod, -1) INTO vector_type, typed_dims
    FROM pg_attribute AS a
    JOIN pg_type AS t ON t.oid = a.atttypid
    JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE a.attrelid = relation AND a.attname = vector AND a.attnum > 0 AND NOT a.attisdropped
        AND n.nspname = v;
    IF vector_type IS NULL OR vector_type NOT IN ('vector', 'halfvec') THEN
        RAISE EXCEPTION 'table % has no column "%" of type vector or halfvec', relation, vector
            USING ERRCODE = 'MR003', HINT = 'name the column with vector => …';
    END IF;
    IF key_type IS NULL OR key_type NOT IN (
        'bigint', 'integer', 'smallint', 'uuid', 'text', 'character varying'
    ) THEN
        RAISE EXCEPTION
            'table % has % as key "%", wanted a column of type bigint, integer, smallint, uuid or '
            'text',
            relation, coalesce(key_type, 'nothing'), key
            USING ERRCODE = 'MR003', HINT = 'name the column with key => …';
    END IF;
    IF NOT mrl.key_is_indexed(relation, key) THEN
        PERFORM mrl.check_keys(relation, key, key_unique);
    END IF;
    IF NOT (
        SELECT a.attnotnull
        FROM pg_attribute AS a
        WHERE a.attrelid = relation AND a.attname = key
    ) THEN
        RAISE EXCEPTION 'key "%" of table % may be NULL', key, relation
            USING ERRCODE = 'MR003', HINT = format(
                'ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', relation, key);
    END IF;
    IF typed_dims IS NOT NULL AND dims IS NOT NULL AND typed_dims <> dims THEN
        RAISE EXCEPTION 'dims is %, column "%" has %', dims, vector, typed_dims
            USING ERRCODE = 'MR003';
    END IF;
    IF typed_dims IS NULL THEN
        IF dims IS NULL THEN
            RAISE EXCEPTION 'column "%" does not say its dims', vector
                USING ERRCODE = 'MR003', HINT = 'give them with dims => …';
        END IF;
        EXECUTE format(
            'SELECT count(*) FROM %s WHERE %I.vector_dims(%I) <> %s', relation, v, vector, dims)
        INTO others;
        IF others > 0 THEN
            RAISE EXCEPTION '% rows of % have other than % dims in "%"',
                others, relation, dims, vector
                USING ERRCODE = 'MR003';
        END IF;
        typed_dims := dims;
        -- One row of another width would fail every search. Rows that are there were looked at.
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%I.vector_dims(%I) = %s) NOT VALID',
            relation, mrl.dims_constraint(vector), v, vector, dims);
    END IF;
    low_dims := coalesce(shortlist_dims, mrl.default_low_dims(nesting_dims, typed_dims));
    widths := coalesce(nesting_dims, mrl.rising(ARRAY[low_dims, typed_dims]));
    PERFORM mrl.check_definition(collection_name, typed_dims, widths, low_dims, metric);
    IF low_dim IS NULL OR low_dim NOT IN ('column', 'index') THEN
        RAISE EXCEPTION 'low_dim is "%", wanted "column" or "index"', low_dim
            USING ERRCODE = 'MR003';
    END IF;
    SELECT a.attgenerated INTO generated
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = vector;
    IF generated = 'v' THEN
        RAISE EXCEPTION 'column "%" is generated and VIRTUAL, over which is no index', vector
            USING ERRCODE = 'MR003', HINT = 'make it GENERATED ALWAYS AS (…) STORED';
    END IF;
    IF low_dim = 'column' AND generated <> '' THEN
        RAISE EXCEPTION 'column "%" is generated, and no other one can be generated from it', vector
            USING ERRCODE = 'MR003',
                HINT = 'use low_dim => ''index'' (in Python low_dim="index")';
    END IF;
    IF low_dim = 'column' THEN
        new_column := vector || '_' || low_dims;
        IF octet_length(new_column) > 63 THEN
            RAISE EXCEPTION 'the low-dim column "%" would have % bytes, PostgreSQL allows 63',
                new_column, octet_length(new_column)
                USING ERRCODE = 'MR003', HINT = 'use low_dim => ''index''';
        END IF;
        EXECUTE format(
            'ALTER TABLE %s ADD COLUMN %I %I.halfvec(%s) GENERATED ALWAYS AS (%s) STORED',
            relation, new_column, v, low_dims,
            mrl.prefix_expression(quote_ident(vector), low_dims, metric));
    END IF;
    INSERT INTO mrl.collection AS c (
        name, relation, key_column, vector_column, dims, nesting_dims, metric, low_dims,
        low_dim_column, owns_table, owns_column
    )
    VALUES (
        collection_name, attach.relation, key, vector, typed_dims, widths, attach.metric, low_dims,
        new_column, false, new_column IS NOT NULL
    );
    PERFORM mrl.define_search(collection_name);
    RETURN collection_name;
END
$$;
COMMENT ON FUNCTION mrl.attach(
    regclass, text, text, text, integer, integer, integer[], text, text, boolean
) IS
    'Makes a collection of a table with data. low_dim => ''column'' adds the low-dim column, which '
    'rewrites the table under an exclusive lock; ''index'' leaves the table as it is, and '
    'mrl.create_index() then indexes the expression. key_unique: of a table that is partitioned by '
    'other columns, whether whatever makes the keys makes each once.';

CREATE OR REPLACE FUNCTION mrl.dims_constraint(vector text)
    RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN 'mrl_dims_of_' || left(vector, 12) || '_' || left(md5(vector), 8);
COMMENT ON FUNCTION mrl.dims_constraint(text) IS
    'The name of the constraint that attach gives to a table whose vector column does not say its '
    'dims.';

CREATE OR REPLACE FUNCTION mrl.set_adaptor(collection text, adaptor bytea)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection;
    filled boolean;
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection);
    c := mrl.find(collection);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', c.relation) INTO filled;
    IF filled OR c.adapted THEN
        RAISE EXCEPTION
            'collection "%" has rows, or an adaptor; an adaptor is given to a new collection',
            collection
            USING ERRCODE = 'MR003';
    END IF;
    INSERT INTO mrl.adaptor (collection, adaptor) VALUES (c.name, set_adaptor.adaptor);
    UPDATE mrl.collection AS m SET adapted = true WHERE m.name = c.name;
END
$$;
COMMENT ON FUNCTION mrl.set_adaptor(text, bytea) IS
    'Gives a new, empty collection its adaptor, for good: so no client can hold vectors changed in '
    'one way and queries changed in another.';

CREATE OR REPLACE FUNCTION mrl.drop_collection(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection;
    words text;
    index regclass;
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection);
    c := mrl.find(collection);
    SELECT t.words_column INTO words FROM mrl.text_search AS t WHERE t.collection = c.name;
    EXECUTE format('DROP FUNCTION IF EXISTS mrl.%I', 'search_' || c.name);
    DELETE FROM mrl.collection AS gone WHERE gone.name = c.name;
    IF NOT EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation) THEN
        RETURN;  -- the table went before its collection
    END IF;
    IF c.owns_table THEN
        EXECUTE format('DROP TABLE %s', c.relation);
    ELSE
        FOR index IN
            SELECT i.index
            FROM mrl.indexes(c) AS i
            WHERE obj_description(i.index, 'pg_class') = mrl.index_comment(c, i.kind)
        LOOP
            EXECUTE format('DROP INDEX %s', index);
        END LOOP;
        IF EXISTS (
            SELECT
            FROM pg_constraint AS k
            WHERE k.conrelid = c.relation AND k.conname = mrl.dims_constraint(c.vector_column)
        ) THEN
            EXECUTE format(
                'ALTER TABLE %s DROP CONSTRAINT %I', c.relation,
                mrl.dims_constraint(c.vector_column));
        END IF;
        IF words IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', c.relation, words);
        END IF;
        IF c.owns_column THEN
            EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS %I', c.relation, c.low_dim_column);
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.drop_collection(text) IS
    'Drops a collection: its table when create_collection made it; for an attached table only what '
    'attach added.';
