-- Partitioned tables: a collection's table with all that is below it.
--
-- All is read from pg_inherits, by the snapshot of the statement that asks: PostgreSQL's own
-- pg_partition_tree() answers as of now, and a reader of the log that took a partition for seen
-- whose rows its snapshot does not have would miss them for good.

CREATE OR REPLACE FUNCTION mrl.partitions(relation oid)
    RETURNS TABLE (part oid, level integer, kind "char", attached xid, leaving boolean)
    LANGUAGE sql STABLE STRICT ROWS 10
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE tree AS (
        SELECT r.oid AS part, 0 AS level, r.relkind AS kind, NULL::xid AS attached, false AS leaving
        FROM pg_class AS r
        WHERE r.oid = relation
        UNION ALL
        SELECT i.inhrelid, t.level + 1, r.relkind, i.xmin, t.leaving OR i.inhdetachpending
        FROM tree AS t
        JOIN pg_inherits AS i ON i.inhparent = t.part
        JOIN pg_class AS r ON r.oid = i.inhrelid
        WHERE t.kind = 'p'
    )
    SELECT t.part, t.level, t.kind, t.attached, t.leaving FROM tree AS t
$$;
COMMENT ON FUNCTION mrl.partitions(oid) IS
    'A table, and where it is partitioned all partitions below it: how far below, of which relkind, '
    'which transaction attached each, and whether DETACH … CONCURRENTLY is about to take it away.';

CREATE OR REPLACE FUNCTION mrl.partitions_fingerprint(relation oid)
    RETURNS text
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT string_agg(
            p.part || '=' || left(md5(format(
                '%s %s %s %s%s%s', p.attached, p.leaving, r.relfilenode,
                (
                    SELECT string_agg(
                        format('%s %s %s', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid)
                    FROM pg_trigger AS t
                    WHERE t.tgrelid = p.part AND t.tgname ^@ 'mrl_log_'
                ),
                (
                    SELECT string_agg(' ' || s.srsubid, '' ORDER BY s.srsubid)
                    FROM pg_subscription_rel AS s
                    WHERE s.srrelid = p.part
                ),
                CASE r.relpersistence WHEN 'u' THEN ' ' || mrl.server_start() END)), 16),
            ' ' ORDER BY p.part)
        FROM mrl.partitions(relation) AS p
        JOIN pg_class AS r ON r.oid = p.part
        WHERE p.level > 0
    );
END
$$;
COMMENT ON FUNCTION mrl.partitions_fingerprint(oid) IS
    'What must stay as it is of the partitions for the log to tell all, each after its oid: since '
    'when it is one, where its rows lie, the triggers, subscriptions, since when an unlogged one '
    'was not emptied by a crash; a part of mrl.log_fingerprint().';

CREATE OR REPLACE FUNCTION mrl.wait_for_partitions(relation oid)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen CONSTANT pg_snapshot := pg_current_snapshot();
    epoch CONSTANT bigint := pg_snapshot_xmax(seen)::text::bigint >> 32;
BEGIN
    WHILE EXISTS (
        SELECT
        FROM pg_locks AS l
        JOIN pg_locks AS x ON x.pid = l.pid AND x.locktype = 'transactionid' AND x.granted
        WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
            AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
            AND l.relation IN (
                SELECT p.part FROM mrl.partitions(wait_for_partitions.relation) AS p WHERE p.kind = 'p'
            )
            AND pg_visible_in_snapshot(
                ((epoch << 32) + x.transactionid::text::bigint)::text::xid8, seen)
    ) LOOP
        PERFORM pg_sleep(0.001);
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.wait_for_partitions(oid) IS
    'Waits until whoever attached a partition that this snapshot has, has told all sessions: up to '
    'some moments after its commit they may plan without it. For a transaction that is repeatable '
    'read, between its first look and its rows.';

CREATE OR REPLACE FUNCTION mrl.log_triggers(c mrl.collection)
    RETURNS TABLE (part oid, present bigint, right_ bigint)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text := mrl.column_of_keys(mrl.type_of(c.relation, c.key_column));
    body text := mrl.log_text(c.key_column, kind);
    named bytea := mrl.log_arguments(c, ARRAY[c.key_column, kind]);
    compiled oid := mrl.compiled_log();
BEGIN
    RETURN QUERY
    SELECT
        p.part, count(t.oid),
        count(*) FILTER (
            WHERE t.tgenabled = 'A'
                AND CASE
                    WHEN f.oid = compiled OR f.oid = 'mrl.log_change()'::regprocedure
                    THEN t.tgargs = named
                    ELSE f.pronamespace = 'mrl'::regnamespace AND f.prosrc = body
                        AND t.tgargs = mrl.log_arguments(c, '{}')
                END
        )
    FROM mrl.partitions(c.relation) AS p
    LEFT JOIN pg_trigger AS t ON t.tgrelid = p.part AND t.tgname ^@ 'mrl_log_'
    LEFT JOIN pg_proc AS f ON f.oid = t.tgfoid
    WHERE NOT p.leaving
    GROUP BY p.part;
END
$$;
COMMENT ON FUNCTION mrl.log_triggers(mrl.collection) IS
    'For a collection''s table and each of its partitions how many triggers of the log there are, '
    'and how many of them log every write.';

CREATE OR REPLACE FUNCTION mrl.log_arguments(c mrl.collection, arguments text[])
    RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        string_agg(
            convert_to(a.argument, getdatabaseencoding()) || '\x00', '' ORDER BY a.place),
        '')
    FROM unnest(arguments || mrl.tree_arguments(c)) WITH ORDINALITY AS a (argument, place)
$$;
COMMENT ON FUNCTION mrl.log_arguments(mrl.collection, text[]) IS
    'The arguments of a trigger of the log, as pg_trigger has them.';

CREATE OR REPLACE FUNCTION mrl.tree_arguments(c mrl.collection)
    RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE r.relkind WHEN 'p' THEN ARRAY['partitions'] ELSE '{}' END
    FROM pg_class AS r
    WHERE r.oid = (c).relation
$$;
COMMENT ON FUNCTION mrl.tree_arguments(mrl.collection) IS
    'The last argument of the triggers of a partitioned table: what they log is said of the table '
    'that all partitions are of.';

CREATE OR REPLACE FUNCTION mrl.partition_index_steps(
    collection text, kind text, m integer DEFAULT 16, ef_construction integer DEFAULT 64
)
    RETURNS TABLE (step text, alone boolean)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
    kind_to_build text := mrl.index_kind(c, kind);
    method text := mrl.index_method(c, kind_to_build, m, ef_construction);
    root regclass;
    p record;
BEGIN
    IF EXISTS (
        SELECT FROM mrl.indexes(c) AS i
        WHERE i.kind = kind_to_build OR partition_index_steps.kind = 'auto'
    ) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM mrl.partitions(c.relation) AS b WHERE b.kind = 'f') THEN
        RAISE EXCEPTION 'a partition of collection "%" is a foreign table', collection
            USING ERRCODE = 'MR003', HINT = 'build the index without concurrently';
    END IF;
    SELECT i.indexrelid INTO root
    FROM pg_index AS i
    WHERE i.indrelid = c.relation
        AND obj_description(i.indexrelid, 'pg_class') = mrl.index_comment(c, kind_to_build);
    IF root IS NULL THEN
        RETURN QUERY VALUES (format(
            'CREATE INDEX %1$I ON ONLY %2$s USING %3$s; COMMENT ON INDEX %4$I.%1$I IS %5$L',
            mrl.index_name(c.name, kind_to_build), mrl.table_of(c), method,
            (
                SELECT n.nspname
                FROM pg_class AS r
                JOIN pg_namespace AS n ON n.oid = r.relnamespace
                WHERE r.oid = c.relation
            ),
            mrl.index_comment(c, kind_to_build)), false);
        RETURN;
    END IF;
    -- The tables below that have no index which belongs to that of the table above them.
    FOR p IN
        WITH RECURSIVE tree AS (
            SELECT c.relation::oid AS part, root::oid AS index, NULL::oid AS above
            UNION ALL
            SELECT
                i.inhrelid,
                (
                    SELECT x.indexrelid
                    FROM pg_index AS x
                    JOIN pg_inherits AS h ON h.inhrelid = x.indexrelid
                    WHERE x.indrelid = i.inhrelid AND h.inhparent = t.index
                ),
                t.index
            FROM tree AS t
            JOIN pg_inherits AS i ON i.inhparent = t.part AND NOT i.inhdetachpending
            WHERE t.index IS NOT NULL
        )
        SELECT
            t.part::regclass AS part, t.above::regclass AS above, r.relkind = 'p' AS further,
            s.nspname AS schema, n.name,
            x.indexrelid IS NOT NULL AS there, x.indisvalid AS valid
        FROM tree AS t
        JOIN pg_class AS r ON r.oid = t.part
        JOIN pg_namespace AS s ON s.oid = r.relnamespace
        CROSS JOIN LATERAL mrl.index_name(r.relname || ' ' || c.name, kind_to_build) AS n (name)
        LEFT JOIN pg_index AS x
            ON x.indrelid = t.part
                AND x.indexrelid = to_regclass(format('%I.%I', s.nspname, n.name))
        WHERE t.index IS NULL
        ORDER BY t.part
    LOOP
        IF p.there AND NOT p.valid AND NOT p.further THEN  -- its build was cut
            RETURN QUERY VALUES (format('DROP INDEX CONCURRENTLY %I.%I', p.schema, p.name), true);
        END IF;
        IF NOT p.there OR NOT p.valid AND NOT p.further THEN
            RETURN QUERY VALUES (format(
                'CREATE INDEX %s %I ON %s %s USING %s',
                CASE WHEN p.further THEN '' ELSE 'CONCURRENTLY' END, p.name,
                CASE WHEN p.further THEN 'ONLY' ELSE '' END, p.part, method), NOT p.further);
        END IF;
        RETURN QUERY VALUES (
            format('ALTER INDEX %s ATTACH PARTITION %I.%I', p.above, p.schema, p.name), false);
    END LOOP;
END
$$;
COMMENT ON FUNCTION mrl.partition_index_steps(text, text, integer, integer) IS
    'The statements that build the index of a partitioned table beside writers, partition by '
    'partition, in order, as far as they are known: ask again when they are done. None when it is '
    'there. alone: a statement that can be in no transaction.';

CREATE OR REPLACE FUNCTION mrl.key_is_indexed(relation regclass, key text)
    RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(bool_and(i.indimmediate), false) AND NOT mrl.has_heirs(relation)
    FROM pg_index AS i
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
        AND i.indnkeyatts = 1 AND a.attname = key
$$;
COMMENT ON FUNCTION mrl.key_is_indexed(regclass, text) IS
    'Whether a key is unique by an index of the table, at once and not at the end of a transaction.';

CREATE OR REPLACE FUNCTION mrl.has_heirs(relation regclass)
    RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT
        FROM pg_class AS r
        JOIN pg_inherits AS i ON i.inhparent = r.oid
        WHERE r.oid = relation AND r.relkind <> 'p'
    )
$$;
COMMENT ON FUNCTION mrl.has_heirs(regclass) IS
    'Whether tables inherit from a table, whose rows it then shows, and its indexes do not have.';

CREATE OR REPLACE FUNCTION mrl.check_keys(relation regclass, key text, key_unique boolean)
    RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    twice bigint;
    partitioned boolean := (SELECT r.relkind = 'p' FROM pg_class AS r WHERE r.oid = relation);
    late text;
BEGIN
    SELECT i.indexrelid::regclass::text INTO late
    FROM pg_index AS i
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = relation AND i.indisunique AND NOT i.indimmediate AND i.indnkeyatts = 1
        AND a.attname = key;
    IF late IS NOT NULL THEN
        RAISE EXCEPTION 'key "%" of table % is unique by %, which is DEFERRABLE', key, relation, late
            USING ERRCODE = 'MR003', HINT = format(
                'ON CONFLICT takes none that is: ALTER TABLE %s DROP CONSTRAINT it, ADD UNIQUE (%I)',
                relation, key);
    END IF;
    IF NOT partitioned AND NOT mrl.has_heirs(relation) THEN
        RAISE EXCEPTION 'key "%" of table % is not unique', key, relation
            USING ERRCODE = 'MR003', HINT = format(
                'ALTER TABLE %s ADD PRIMARY KEY (%I), or CREATE UNIQUE INDEX on it',
                relation, key);
    END IF;
    IF partitioned AND NOT coalesce(key_unique, false) THEN
        RAISE EXCEPTION 'key "%" of table % is not unique', key, relation
            USING ERRCODE = 'MR003', HINT = format(
                'a unique index of a partitioned table has the columns that it is partitioned by: '
                'partition it by hash of %1$I; or attach it with key_unique => true (in Python '
                'key_unique=True) where whatever makes its keys makes each once, as a sequence or '
                'gen_random_uuid() does', key);
    END IF;
    IF NOT EXISTS (
        SELECT
        FROM pg_index AS i
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = relation AND i.indisvalid AND i.indpred IS NULL AND a.attname = key
    ) THEN
        RAISE EXCEPTION 'no index of table % begins with its key "%"', relation, key
            USING ERRCODE = 'MR003', HINT = format(
                'rows are looked for by their keys: CREATE INDEX ON %s (%I)', relation, key);
    END IF;
    EXECUTE format(
        'SELECT count(*) FROM (SELECT FROM %1$s GROUP BY %2$I HAVING count(*) > 1) AS twice',
        relation, key)
    INTO twice;
    IF twice > 0 THEN
        RAISE EXCEPTION 'key "%" of table % is not unique: % keys stand on several rows',
            key, relation, twice
            USING ERRCODE = 'MR003', HINT = format(
                'SELECT %1$I FROM %2$s GROUP BY %1$I HAVING count(*) > 1 lists them%3$s',
                key, relation,
                CASE WHEN NOT partitioned
                THEN ', those of tables that inherit from it included'
                ELSE ''
                END);
    END IF;
END
$$;
COMMENT ON FUNCTION mrl.check_keys(regclass, text, boolean) IS
    'Refuses a key that is unique neither by an index nor, of a table with others below it, in all '
    'rows that are there, and of a partitioned one by whatever makes it.';
