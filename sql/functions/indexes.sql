-- Indexes: which of a collection there are, and the statements that build them.
--
-- Two kinds serve searches: `mrl`, of the extension mrl_db, on the full vectors; and `hnsw`, of
-- pgvector, on the low-dim vectors. Those that we build carry a comment by which they are ours.

CREATE OR REPLACE FUNCTION mrl.index_comment(c mrl.collection, kind text)
    RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE kind
        WHEN 'mrl' THEN 'mrl_db: index, ' || (c).dims || ' dims'
        ELSE 'mrl_db: low-dim index, ' || (c).low_dims || ' dims'
    END;
COMMENT ON FUNCTION mrl.index_comment(mrl.collection, text) IS
    'The comment by which an index is known as ours.';

CREATE OR REPLACE FUNCTION mrl.full_operator_class(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT mrl.vector_type(c) || '_' || m.classes
    FROM mrl.metrics() AS m
    WHERE m.name = (c).metric
$$;
COMMENT ON FUNCTION mrl.full_operator_class(mrl.collection) IS
    'The name of the operator class for the full vectors.';

CREATE OR REPLACE FUNCTION mrl.indexes(c mrl.collection)
    RETURNS TABLE (index regclass, kind text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    -- Of kind mrl whoever built it; one with an effort of its own would not heed a plan's.
    SELECT i.indexrelid::regclass, 'mrl'
    FROM pg_index AS i
    JOIN pg_class AS r ON r.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = r.relam
    JOIN pg_opclass AS o ON o.oid = i.indclass[0]
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = (c).relation AND i.indisvalid AND i.indpred IS NULL
        AND m.amname = 'mrl' AND a.attname = (c).vector_column
        AND o.opcname = mrl.full_operator_class(c)
        AND NOT EXISTS (
            SELECT FROM unnest(r.reloptions) AS option WHERE option LIKE 'effort=%'
        )
    UNION ALL
    -- An expression is compared as PostgreSQL prints it, so no text of ours could equal it.
    SELECT i.indexrelid::regclass, 'hnsw'
    FROM pg_index AS i
    WHERE i.indrelid = (c).relation AND i.indisvalid
        AND obj_description(i.indexrelid, 'pg_class') = mrl.index_comment(c, 'hnsw')
$$;
COMMENT ON FUNCTION mrl.indexes(mrl.collection) IS
    'The indexes that searches of a collection use, and their kinds: those of kind mrl first.';

CREATE OR REPLACE FUNCTION mrl.index_of(collection text)
    RETURNS regclass
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.index FROM mrl.indexes(mrl.find(collection)) AS i LIMIT 1
$$;
COMMENT ON FUNCTION mrl.index_of(text) IS
    'The index that searches of a collection use: of kind mrl before hnsw; or NULL.';

CREATE OR REPLACE FUNCTION mrl.index_kind(c mrl.collection, kind text)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := 8000;  -- dims that an index of kind mrl takes
    class text := mrl.full_operator_class(c);
    offered boolean := EXISTS (
        SELECT FROM pg_opclass AS o
        JOIN pg_am AS m ON m.oid = o.opcmethod
        WHERE m.amname = 'mrl' AND o.opcname = class
    );
BEGIN
    IF kind IS NULL OR kind NOT IN ('auto', 'mrl', 'hnsw') THEN
        RAISE EXCEPTION 'kind is "%", wanted auto, mrl or hnsw', kind USING ERRCODE = 'MR003';
    END IF;
    IF kind = 'mrl' AND NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'mrl_db') THEN
        RAISE EXCEPTION 'this database has no extension "mrl_db", which an index of kind mrl needs'
            USING ERRCODE = 'MR004',
                HINT = 'CREATE EXTENSION mrl_db, where the server has it; or use kind hnsw';
    END IF;
    IF kind = 'mrl' AND NOT offered THEN
        RAISE EXCEPTION 'the extension "mrl_db" here has no operator class "%" for indexes', class
            USING ERRCODE = 'MR004', HINT = 'use kind hnsw; or a newer mrl_db may have one';
    END IF;
    IF kind = 'mrl' AND c.dims > most THEN
        RAISE EXCEPTION 'collection "%" has % dims, an index of kind mrl takes %',
            c.name, c.dims, most
            USING ERRCODE = 'MR003', HINT = 'use kind hnsw';
    END IF;
    RETURN CASE
        WHEN kind <> 'auto' THEN kind
        WHEN offered AND c.dims <= most THEN 'mrl'
        ELSE 'hnsw'
    END;
END
$$;
COMMENT ON FUNCTION mrl.index_kind(mrl.collection, text) IS
    'The kind of index to build: auto is mrl where the extension mrl_db is and knows the metric, '
    'else hnsw.';

CREATE OR REPLACE FUNCTION mrl.index_name(name text, kind text)
    RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    index_name text := left(name, 40)
        || CASE kind WHEN 'mrl' THEN '_mrl_' ELSE '_low_dim_' END
        || left(md5(name), 8);
BEGIN
    WHILE octet_length(index_name) > 63 LOOP
        index_name := substr(index_name, 2);
    END LOOP;
    RETURN index_name;
END
$$;
COMMENT ON FUNCTION mrl.index_name(text, text) IS
    'The name of an index that we build, for a collection or a partition of it.';

CREATE OR REPLACE FUNCTION mrl.index_method(
    c mrl.collection, kind text, m integer, ef_construction integer
)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'mrl' THEN
        RETURN format(
            'mrl (%I %I.%I) WITH (width = %s)',
            c.vector_column,
            (
                SELECT n.nspname
                FROM pg_extension AS e
                JOIN pg_namespace AS n ON n.oid = e.extnamespace
                WHERE e.extname = 'mrl_db'
            ),
            mrl.full_operator_class(c), c.dims);
    END IF;
    RETURN format(
        'hnsw ((%s) %I.halfvec_%s) WITH (m = %s, ef_construction = %s)',
        replace(mrl.low_dim_sql(c), 'row_.', ''), mrl.vector_schema(),
        (SELECT m.prefix_classes FROM mrl.metrics() AS m WHERE m.name = c.metric),
        m, ef_construction);
END
$$;
COMMENT ON FUNCTION mrl.index_method(mrl.collection, text, integer, integer) IS
    'What stands behind USING where an index of a kind is created.';

CREATE OR REPLACE FUNCTION mrl.index_statement(
    collection text, kind text, m integer DEFAULT 16, ef_construction integer DEFAULT 64,
    online boolean DEFAULT false
)
    RETURNS TABLE (create_statement text, comment_statement text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
    kind_to_build text := mrl.index_kind(c, kind);
    schema text := (
        SELECT n.nspname
        FROM pg_class AS r
        JOIN pg_namespace AS n ON n.oid = r.relnamespace
        WHERE r.oid = c.relation
    );
BEGIN
    IF EXISTS (
        SELECT FROM mrl.indexes(c) AS i
        WHERE i.kind = kind_to_build OR index_statement.kind = 'auto'
    ) THEN
        RETURN;
    END IF;
    create_statement := format(
        'CREATE INDEX %s %I ON %s USING %s',
        CASE WHEN online THEN 'CONCURRENTLY' ELSE '' END, mrl.index_name(c.name, kind_to_build),
        mrl.table_of(c), mrl.index_method(c, kind_to_build, m, ef_construction));
    comment_statement := format(
        'COMMENT ON INDEX %I.%I IS %L', schema, mrl.index_name(c.name, kind_to_build),
        mrl.index_comment(c, kind_to_build));
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION mrl.index_statement(text, text, integer, integer, boolean) IS
    'The statements that build an index of a kind; none where it is there, or kind is auto and any '
    'is.';

DO $$
BEGIN
    IF to_regprocedure('mrl.create_index(text, integer, integer)') IS NOT NULL THEN
        DROP FUNCTION mrl.create_index(text, integer, integer);  -- from before there were kinds
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION mrl.create_index(
    collection text, m integer DEFAULT 16, ef_construction integer DEFAULT 64,
    kind text DEFAULT 'auto'
)
    RETURNS regclass
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
BEGIN
    PERFORM mrl.wait_for_turn(collection);  -- of whoever builds now, however long
    PERFORM mrl.wait_briefly();
    FOR s IN SELECT * FROM mrl.index_statement(collection, kind, m, ef_construction) LOOP
        EXECUTE s.create_statement;
        EXECUTE s.comment_statement;
        PERFORM mrl.define_search_if_allowed(collection);
    END LOOP;
    RETURN mrl.index_of(collection);
END
$$;
COMMENT ON FUNCTION mrl.create_index(text, integer, integer, text) IS
    'Builds an index unless it is there: of kind mrl on the full vectors, where the extension '
    'mrl_db is, or hnsw on the low-dim vectors, by m and ef_construction; auto takes mrl where it '
    'can. Build it after the load: it is several times faster.';

CREATE OR REPLACE FUNCTION mrl.extension_function(name text)
    RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    schema name := (
        SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'mrl_db');
BEGIN
    IF schema IS NULL THEN
        RAISE EXCEPTION 'the extension mrl_db is not in this database'
            USING ERRCODE = 'undefined_function', HINT = 'CREATE EXTENSION mrl_db.';
    END IF;
    RETURN format('%I.%I', schema, name);
END
$$;
COMMENT ON FUNCTION mrl.extension_function(text) IS
    'A function of the extension mrl_db, in whatever schema it was created.';

CREATE OR REPLACE FUNCTION mrl.check_index(index regclass, heap boolean DEFAULT false)
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rows bigint;
BEGIN
    EXECUTE 'SELECT ' || mrl.extension_function('mrl_check_index') || '($1, $2)'
        INTO rows USING index, heap;
    RETURN rows;
END
$$;
COMMENT ON FUNCTION mrl.check_index(regclass, boolean) IS
    'Raises an error when an index of kind mrl is damaged; with heap, when a row of its table is not in it. '
    'Returns its rows. For the owner of the index; writers wait meanwhile.';

CREATE OR REPLACE FUNCTION mrl.index_info(index regclass)
    RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    info jsonb;
BEGIN
    EXECUTE 'SELECT to_jsonb(i) FROM ' || mrl.extension_function('mrl_index_info') || '($1) AS i'
        INTO info USING index;
    RETURN info;
END
$$;
COMMENT ON FUNCTION mrl.index_info(regclass) IS
    'What an index of kind mrl says of itself: rows, dead, waiting, free, bytes, dims, code_dims, entries, generation, fitted, effort.';
