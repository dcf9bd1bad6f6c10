-- The schema mrl: the ledger of migrations, the catalogue of collections and plans, and the rules that all else stands on.
--
-- Needs only pgvector 0.8 or later, in any schema, and the right to create a schema. Runs in one transaction; see sql/install.sql.
-- Errors of our own carry SQLSTATEs of class MR: MR001 exists already, MR002 is not there, MR003 bad value, MR004 server lacks something.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector') THEN
        RAISE EXCEPTION 'this database has no extension "vector"; CREATE EXTENSION vector first'
            USING ERRCODE = 'MR004';
    END IF;
END
$$;

-- pgvector's types are named bare below, wherever the extension lives; the functions keep what they were resolved to.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, ' || pg_catalog.quote_ident(n.nspname), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

CREATE SCHEMA mrl;
COMMENT ON SCHEMA mrl IS 'Funnel search over embeddings: collections, plans and their search functions (mrl_db).';

CREATE TABLE mrl.migration (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.migration IS 'The migrations applied to this schema, each with the SHA-256 of its file: an edited old one is noticed.';

CREATE TABLE mrl.collection (
    name              text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 56),
    relation          regclass NOT NULL UNIQUE,
    key_column        text NOT NULL,
    vector_column     text NOT NULL,
    dims              integer NOT NULL CHECK (dims BETWEEN 1 AND 16000),
    nesting_dims      integer[] NOT NULL,
    metric            text NOT NULL CHECK (metric IN ('cosine', 'inner_product', 'l2')),
    low_dims          integer NOT NULL CHECK (low_dims BETWEEN 1 AND 4000),
    low_dim_column    text,
    owns_table        boolean NOT NULL,
    owns_column       boolean NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.collection IS 'One row for each collection: a table, its key, its vector column, its low-dim column, metric and nesting dims.';
COMMENT ON COLUMN mrl.collection.low_dim_column IS 'The stored generated column of the prefix; NULL when an expression index stands for it.';
COMMENT ON COLUMN mrl.collection.owns_table IS 'Whether dropping the collection drops the table: true for create_collection, false for attach.';
COMMENT ON COLUMN mrl.collection.owns_column IS 'Whether the low-dim column was added by us, and goes when the collection goes.';

CREATE TABLE mrl.plan (
    collection text NOT NULL REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    engine     text NOT NULL CHECK (engine IN ('sql', 'native')),
    plan       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, engine)
);
COMMENT ON TABLE mrl.plan IS 'The plan that searches of a collection use with an engine; without a row, the default plan.';

CREATE FUNCTION mrl.prefix(embedding vector, dims integer)
    RETURNS vector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN l2_normalize(subvector(embedding, 1, dims));
COMMENT ON FUNCTION mrl.prefix(vector, integer) IS
    'First dims coordinates at unit length. Store it in a typed column: subvector() returns a shorter vector, without an error, '
    'when the row has fewer coordinates than asked for.';

CREATE FUNCTION mrl.default_keep(k integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN least(greatest(200, least(20::bigint * k, k::bigint + 1000), k), 2147483647)::integer;
COMMENT ON FUNCTION mrl.default_keep(integer) IS 'Length of the shortlist for k answers where nothing was measured.';

CREATE FUNCTION mrl.default_low_dims(nesting_dims integer[], dims integer)
    RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(
        (SELECT min(width) FROM unnest(nesting_dims) AS width WHERE width >= 128 AND width < dims),
        (SELECT max(width) FROM unnest(nesting_dims) AS width WHERE width < dims),
        least(dims, 128)
    );
COMMENT ON FUNCTION mrl.default_low_dims(integer[], integer) IS
    'Width of the low-dim column where none was asked for: the narrowest nesting dims of at least 128, below which real models lose '
    'too many neighbours for a short list; else the widest below the full dims.';

CREATE FUNCTION mrl.vector_schema()
    RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector');
COMMENT ON FUNCTION mrl.vector_schema() IS 'The schema that pgvector lives in.';

CREATE FUNCTION mrl.metric_operator(metric text, prefix boolean)
    RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE
        WHEN metric = 'l2' THEN '<->'
        WHEN prefix OR metric = 'inner_product' THEN '<#>'
        ELSE '<=>'
    END;
COMMENT ON FUNCTION mrl.metric_operator(text, boolean) IS
    'pgvector''s operator on full vectors or on prefixes; unit prefixes under cosine are compared by inner product, which keeps zero ones.';

CREATE FUNCTION mrl.prefix_expression(vector text, dims integer, metric text)
    RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s text := mrl.vector_schema();
    cut text := format('%I.subvector(%s, 1, %s)', s, vector, dims);
BEGIN
    IF metric = 'cosine' THEN
        cut := format('%I.l2_normalize(%s)', s, cut);
    END IF;
    RETURN format('(%s)::%I.halfvec(%s)', cut, s, dims);
END
$$;
COMMENT ON FUNCTION mrl.prefix_expression(text, integer, text) IS
    'The SQL of a prefix as a halfvec: the one rule for the low-dim column, the expression index and the query. vector is SQL text.';

CREATE FUNCTION mrl.low_dim_sql(c mrl.collection)
    RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    RETURN coalesce(
        'row_.' || quote_ident((c).low_dim_column),
        mrl.prefix_expression('row_.' || quote_ident((c).vector_column), (c).low_dims, (c).metric)
    );
COMMENT ON FUNCTION mrl.low_dim_sql(mrl.collection) IS 'The SQL of the low-dim vector of the table named row_: the column, or the indexed expression.';

CREATE FUNCTION mrl.find(collection text)
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
            USING ERRCODE = 'MR002', HINT = 'SELECT name FROM mrl.collection lists those that are there';
    END IF;
    RETURN c;
END
$$;
COMMENT ON FUNCTION mrl.find(text) IS 'The catalogue row of a collection, or an error that names it.';
