-- Adaptors: how the vectors of a collection are changed on their way in, and queries alike. Clients apply them; the server keeps them.

SELECT pg_catalog.set_config('search_path', 'pg_catalog', true);

CREATE TABLE mrl.adaptor (
    collection text PRIMARY KEY REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    adaptor    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.adaptor IS
    'What changes vectors before they are stored in a collection, and queries before they are compared with them, as an .npz file: a rotation, '
    'or a rotation with a small network. What writes or searches by SQL gives vectors that were changed already.';

ALTER TABLE mrl.collection ADD COLUMN adapted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN mrl.collection.adapted IS 'Whether mrl.adaptor has a row for it.';

CREATE FUNCTION mrl.set_adaptor(collection text, adaptor bytea)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
    filled boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', c.relation) INTO filled;
    IF filled OR c.adapted THEN
        RAISE EXCEPTION 'collection "%" has rows, or an adaptor; an adaptor is given to a new collection', collection USING ERRCODE = 'MR003';
    END IF;
    INSERT INTO mrl.adaptor (collection, adaptor) VALUES (c.name, set_adaptor.adaptor);
    UPDATE mrl.collection AS m SET adapted = true WHERE m.name = c.name;
END
$$;
COMMENT ON FUNCTION mrl.set_adaptor(text, bytea) IS
    'Gives a new, empty collection its adaptor, for good: so no client can hold vectors changed in one way and queries changed in another.';

CREATE OR REPLACE FUNCTION mrl.describe(collection text)
    RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class AS r WHERE r.oid = c.relation) THEN
        RAISE EXCEPTION 'collection "%" lost its table: it was dropped outside mrl_db', collection
            USING ERRCODE = 'MR002', HINT = format('SELECT mrl.drop_collection(%L) forgets it', collection);
    END IF;
    RETURN (
        SELECT json_build_object(
            'name', c.name, 'schema', n.nspname, 'table', r.relname, 'key', c.key_column,
            'key_type', (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a WHERE a.attrelid = r.oid AND a.attname = c.key_column),
            'vector', c.vector_column,
            'vector_type', (SELECT t.typname FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
                            WHERE a.attrelid = r.oid AND a.attname = c.vector_column),
            'vector_oid', (SELECT t.oid::bigint FROM pg_type AS t JOIN pg_namespace AS tn ON tn.oid = t.typnamespace
                           WHERE t.typname = 'vector' AND tn.nspname = mrl.vector_schema()),
            'vector_schema', mrl.vector_schema(), 'dims', c.dims, 'nesting_dims', c.nesting_dims, 'metric', c.metric, 'adapted', c.adapted,
            'low_dims', c.low_dims, 'low_dim_column', c.low_dim_column, 'owns_table', c.owns_table, 'index', mrl.index_of(c.name)::text,
            'plan', (SELECT p.plan FROM mrl.plan AS p WHERE p.collection = c.name AND p.engine = 'sql'),
            'columns', (
                SELECT coalesce(json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, NULL),
                                                           'oid', a.atttypid::bigint, 'generated', a.attgenerated <> '') ORDER BY a.attnum), '[]')
                FROM pg_attribute AS a
                WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND a.attname NOT IN (c.key_column, c.vector_column) AND a.attname IS DISTINCT FROM c.low_dim_column
            )
        )
        FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
        WHERE r.oid = c.relation
    );
END
$$;
