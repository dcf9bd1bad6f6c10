-- Collections in parts: attached, defined, detached.

CREATE TABLE IF NOT EXISTS mrl.parted (
    name        text PRIMARY KEY,
    servers     text[] NOT NULL,
    definition  jsonb NOT NULL,
    attached_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.parted IS
    'Collections in parts: the foreign servers that have the parts, and the definition in which '
    'they agree. mrl.attach_parts() and mrl.detach_parts() keep it.';
GRANT SELECT ON mrl.parted TO PUBLIC;  -- whoever makes a collection looks whether the name is free

CREATE OR REPLACE FUNCTION mrl.attach_parts(collection text, servers text[])
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    server text;
    answer record;
    first_server text;
    definition jsonb;
    old jsonb;
    same text[];
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection);
    IF coalesce(cardinality(servers), 0) = 0 OR array_ndims(servers) > 1
        OR array_position(servers, NULL) IS NOT NULL
    THEN
        RAISE EXCEPTION 'servers is %, wanted the names of foreign servers, each once', servers
            USING ERRCODE = 'MR003',
                HINT = 'CREATE SERVER s1 FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host …), and a '
                    'USER MAPPING for it';
    END IF;
    FOREACH server IN ARRAY servers LOOP
        IF cardinality(array_positions(servers, server)) > 1 THEN
            RAISE EXCEPTION 'servers has "%" twice; its rows would be answered twice', server
                USING ERRCODE = 'MR003';
        END IF;
    END LOOP;

    FOR server IN
        SELECT s.srvname
        FROM pg_foreign_server AS s
        CROSS JOIN LATERAL (SELECT array_to_string(s.srvoptions, E'\n') || E'\n') AS o (options)
        WHERE s.srvname = ANY (servers) AND o.options !~ '(^|\n)host=/'
            AND o.options !~ '(^|\n)tcp_user_timeout='
        ORDER BY s.srvname
    LOOP
        RAISE NOTICE 'server "%" has no tcp_user_timeout: if its machine is gone, a search without '
            'statement_timeout may wait for minutes', server
            USING HINT = format('ALTER SERVER %I OPTIONS (ADD tcp_user_timeout ''3000'')', server);
    END LOOP;

    FOR answer IN
        SELECT a.server, a.key::jsonb AS definition
        FROM mrl.ask_parts(collection, servers, mrl.definition_statement(collection)) AS a
    LOOP
        first_server := coalesce(first_server, answer.server);
        definition := coalesce(definition, answer.definition);
        IF definition <> answer.definition THEN
            RAISE EXCEPTION 'collection "%" is not the same on all servers: %', collection, (
                SELECT string_agg(
                    format('%s is %s on "%s" and %s on "%s"', d.key, d.value, first_server,
                           answer.definition -> d.key, answer.server), ', ' ORDER BY d.key)
                FROM jsonb_each(definition) AS d
                WHERE d.value <> answer.definition -> d.key)
                USING ERRCODE = 'MR003',
                    HINT = 'make it alike everywhere, or attach only servers that agree';
        END IF;
    END LOOP;
    SELECT array_agg(format('"%s"', a.server) ORDER BY a.server) INTO same
    FROM mrl.ask_parts(
        collection, servers, 'SELECT m.mark, m.sure::integer::double precision '
            'FROM mrl.database_marks() AS m') AS a (server, mark, sure)
    GROUP BY a.mark
    HAVING count(*) > 1 AND max(a.sure) = 1
    LIMIT 1;
    IF same IS NOT NULL THEN
        RAISE EXCEPTION 'servers % have the same rows, which would be answered more than once',
            array_to_string(same, ' and ')
            USING ERRCODE = 'MR003';
    END IF;
    PERFORM mrl.check_definition(
        collection, (definition ->> 'dims')::integer, ARRAY[(definition ->> 'dims')::integer], 1,
        definition ->> 'metric');
    SELECT p.definition INTO old FROM mrl.parted AS p WHERE p.name = collection;
    IF old ->> 'key type' <> definition ->> 'key type' THEN
        PERFORM mrl.drop_parted_search(collection);
    END IF;
    INSERT INTO mrl.parted AS p (name, servers, definition)
    VALUES (collection, servers, definition)
    ON CONFLICT (name) DO UPDATE
    SET servers = excluded.servers, definition = excluded.definition, attached_at = now();
    PERFORM mrl.define_parted_search(collection, servers, definition);
    RETURN collection;
END
$$;
COMMENT ON FUNCTION mrl.attach_parts(text, text[]) IS
    'Makes mrl.search_<collection> here, which searches the collection of this name on all of the '
    'foreign servers and merges their answers. Their definitions must be the same. Called again, '
    'it takes the servers given then.';

CREATE OR REPLACE FUNCTION mrl.detach_parts(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    former text[];
    connection text;
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection);
    DELETE FROM mrl.parted AS p WHERE p.name = collection RETURNING p.servers INTO former;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no collection "%" in parts', collection
            USING ERRCODE = 'MR002',
                HINT = 'SELECT name FROM mrl.parted lists those that are there';
    END IF;
    PERFORM mrl.drop_parted_search(collection);
    FOREACH connection IN ARRAY mrl.part_names(former) LOOP
        IF connection = ANY (mrl.part_connections()) THEN
            PERFORM mrl.part_disconnect(connection);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.detach_parts(text) IS
    'Drops the search function of a collection in parts, and forgets its servers. What they hold '
    'stays.';

CREATE OR REPLACE FUNCTION mrl.define_parted_search(
    collection text, servers text[], definition jsonb
)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_type text := definition ->> 'key type';
BEGIN
    IF key_type IS NULL OR key_type NOT IN (
        'bigint', 'integer', 'smallint', 'uuid', 'text', 'character varying'
    ) THEN
        RAISE EXCEPTION
            'the parts'' key type is "%", wanted bigint, integer, smallint, uuid or text', key_type
            USING ERRCODE = 'MR003';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION mrl.%I(
            query %I.vector, k integer DEFAULT 10, shortlist integer DEFAULT NULL,
            partial boolean DEFAULT false
        )
            RETURNS TABLE (id %s, distance double precision)
            LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp
        AS %L',
        'search_' || collection, mrl.vector_schema(), key_type,
        format($body$
BEGIN
    RETURN QUERY
    SELECT hit.key, hit.distance
    FROM (
        SELECT coalesce(a.key, mrl.refuse_part(%L, a.server))::%s AS key, a.distance
        FROM mrl.ask_parts(
            %L, %L,
            format('SELECT h.id, h.distance FROM mrl.%%I(%%L, %%L, %%L) AS h%%s', %L, query, k,
                   shortlist, %L),
            partial) AS a
    ) AS hit
    ORDER BY hit.distance, hit.key%s
    LIMIT greatest(k, 1);  -- a limit of 0 would ask nobody, and the parts refuse such a k
END
$body$,
            collection, key_type, collection, servers, 'search_' || collection,
            format(
                ' UNION ALL SELECT NULL, NULL WHERE NOT EXISTS (SELECT FROM mrl.collection AS c '
                'WHERE c.name = %L AND c.metric = %L AND c.adapted = %L)',
                collection, definition ->> 'metric', definition ->> 'adapted'),
            CASE WHEN key_type IN ('text', 'character varying') THEN ' COLLATE "C"' END));
    EXECUTE format('COMMENT ON FUNCTION mrl.%I(%I.vector, integer, integer, boolean) IS %L',
        'search_' || collection, mrl.vector_schema(),
        format('The k rows of collection "%s" nearest to query by %s distance, the nearest first, '
               'ties by id, of its parts on %s. partial: whether parts that cannot be reached are '
               'left out, with a warning that names them.',
               collection, definition ->> 'metric', array_to_string(servers, ', ')));
END
$$;
COMMENT ON FUNCTION mrl.define_parted_search(text, text[], jsonb) IS
    'Makes the search function of a collection in parts.';

CREATE OR REPLACE FUNCTION mrl.refuse_part(collection text, server text)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'collection "%" is another one on "%" than when it was attached',
        collection, server
        USING ERRCODE = 'MR003', HINT = format(
            'make it as it is on the others, or see what SELECT mrl.attach_parts(%L, …) says of it',
            collection);
END
$$;
COMMENT ON FUNCTION mrl.refuse_part(text, text) IS
    'Refuses the answer of a part that has another metric or adaptor by now: its distances are not '
    'to be merged.';

CREATE OR REPLACE FUNCTION mrl.drop_parted_search(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DROP FUNCTION IF EXISTS mrl.%I(%I.vector, integer, integer, boolean)',
        'search_' || collection, mrl.vector_schema());
END
$$;
COMMENT ON FUNCTION mrl.drop_parted_search(text) IS
    'Drops the search function of a collection in parts.';

CREATE OR REPLACE FUNCTION mrl.definition_statement(collection text)
    RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format(
        $statement$
SELECT pg_catalog.jsonb_build_object(
    'dims', c.dims, 'metric', c.metric, 'key', c.key_column,
    'key type', mrl.type_of(c.relation, c.key_column),
    'vector type', mrl.vector_type(c), 'adapted', c.adapted)::text, NULL::double precision
FROM mrl.find(%L, whole => true) AS c$statement$,
        collection)
$$;
COMMENT ON FUNCTION mrl.definition_statement(text) IS
    'The statement that asks a part for what must be the same on all of them.';

CREATE OR REPLACE FUNCTION mrl.on_parted()
    RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM mrl.parted AS p WHERE p.name = NEW.name) THEN
        RAISE EXCEPTION 'collection "%" is here in parts already', NEW.name
            USING ERRCODE = 'MR001',
                HINT = format(
                    'SELECT mrl.detach_parts(%L) first, or choose another name', NEW.name);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION mrl.on_parted() IS
    'Refuses a collection with the name of one in parts: their search functions would be one.';
CREATE OR REPLACE TRIGGER mrl_on_parted
    BEFORE INSERT OR UPDATE OF name ON mrl.collection
    FOR EACH ROW EXECUTE FUNCTION mrl.on_parted();
