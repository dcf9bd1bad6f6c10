-- The change log as it is written: what was written to a collection's table, by any client, so that
-- a copy of its rows elsewhere can follow.
--
-- A statement that writes leaves one row: the table, its transaction and the keys. Triggers have no
-- search path of their own, which would have every statement in them planned anew: all names are
-- qualified. The key is known by its name, as a restored table has other numbers. Where it was
-- renamed, or became of another type, any row may have changed; so it is said of a statement that
-- wrote to very many, whose keys would take memory here and with every reader.
--
-- Three functions do so, one in place of the other: that of the extension mrl_db where it is, in C;
-- one made for the table; one for every table, where the other may not be made. Triggers of the
-- first go with the extension, and the next reader makes them anew.
--
-- A statement fires the triggers of the table that it names: of a partitioned table its own, or
-- those of a partition. So all have them, and all log for the table that the partitions are of.

CREATE OR REPLACE FUNCTION mrl.column_of_keys(key_type text)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN key_type IN ('bigint', 'integer', 'smallint') THEN 'integers'
        WHEN key_type = 'uuid' THEN 'uuids'
        WHEN key_type IN ('text', 'character varying') THEN 'texts'
    END;
COMMENT ON FUNCTION mrl.column_of_keys(text) IS 'The column of mrl.change for keys of a type.';

CREATE OR REPLACE FUNCTION mrl.log_text(key text, kind text)
    RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(replace(replace(
        $body$
DECLARE
    keys {type}[];
    half integer;
    logged pg_catalog.oid := TG_RELID;
BEGIN
    IF TG_NARGS OPERATOR(pg_catalog.>) 0 THEN
        logged := pg_catalog.pg_partition_root(TG_RELID);
        IF logged IS NULL THEN
            RETURN NULL;  -- a partition no more
        END IF;
    END IF;
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            keys := ARRAY(SELECT r.{key}::{type} FROM new_rows AS r LIMIT 100001);
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            keys := ARRAY(SELECT r.{key}::{type} FROM old_rows AS r LIMIT 100001);
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            keys := ARRAY(
                (SELECT r.{key}::{type} FROM old_rows AS r LIMIT 100001)
                UNION ALL
                (SELECT r.{key}::{type} FROM new_rows AS r LIMIT 100001)
            );
            half := pg_catalog.cardinality(keys) OPERATOR(pg_catalog./) 2;
            IF half OPERATOR(pg_catalog.>) 1
                AND keys[1:half] OPERATOR(pg_catalog.=) keys[half OPERATOR(pg_catalog.+) 1:]
            THEN
                keys := keys[1:half];
            END IF;
        END IF;
        IF keys OPERATOR(pg_catalog.=) '{}' THEN
            RETURN NULL;  -- the statement wrote no row
        END IF;
        IF pg_catalog.cardinality(keys) OPERATOR(pg_catalog.>) 100000 THEN
            keys := NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        keys := NULL;  -- the key has another name or type by now
    END;
    INSERT INTO mrl.change (relation, {kind}) VALUES (logged, keys);
    IF pg_catalog.random() OPERATOR(pg_catalog.<) 0.001 THEN
        PERFORM mrl.trim_by_chance();
    END IF;
    RETURN NULL;
END
        $body$,
        '{type}', CASE kind
            WHEN 'integers' THEN 'pg_catalog.int8'
            WHEN 'uuids' THEN 'pg_catalog.uuid'
            ELSE 'pg_catalog.text'
        END),
        '{kind}', kind),
        '{key}', '"' || replace(key, '"', '""') || '"')
$$;
COMMENT ON FUNCTION mrl.log_text(text, text) IS
    'The body of the function that logs writes to a table with this key. The key''s name stands in '
    'it, so that its plans are made once in a session.';

CREATE OR REPLACE FUNCTION mrl.compiled_log()
    RETURNS regprocedure
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT mrl.compiled('mrl_log_change')
$$;
COMMENT ON FUNCTION mrl.compiled_log() IS
    'The function of the extension mrl_db that logs writes; NULL where the extension is not, or is '
    'of before it had one.';

CREATE OR REPLACE FUNCTION mrl.define_log(collection text)
    RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection := mrl.find(collection, whole => true);
    kind text := mrl.column_of_keys(mrl.type_of(c.relation, c.key_column));
    name text := format('mrl.%I()', 'log_of_' || c.name);
    owner regrole := (SELECT r.relowner FROM pg_class AS r WHERE r.oid = c.relation);
    compiled regproc := mrl.compiled_log();
    further text := coalesce(
        (SELECT string_agg(format(', %L', a), '') FROM unnest(mrl.tree_arguments(c)) AS a), '');
BEGIN
    IF kind IS NULL THEN
        RAISE EXCEPTION 'table % of collection "%" has no key "%" any more',
            c.relation, collection, c.key_column
            USING ERRCODE = 'MR003', HINT = 'name it so again, or drop and attach the collection';
    END IF;
    IF compiled IS NOT NULL THEN
        RETURN format('%s(%L, %L%s)', compiled, c.key_column, kind, further);
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION %s RETURNS trigger LANGUAGE plpgsql AS %L',
        name, mrl.log_text(c.key_column, kind));
    -- Whoever may change what runs when others write to the table, owns the table.
    EXECUTE format('ALTER FUNCTION %s OWNER TO %s', name, owner);
    EXECUTE format(
        'COMMENT ON FUNCTION %s IS %L', name, 'Logs what is written to a collection.');
    RETURN format('mrl.%I(%s)', 'log_of_' || c.name, substr(further, 3));
EXCEPTION WHEN insufficient_privilege OR invalid_function_definition THEN
    RETURN format('mrl.log_change(%L, %L%s)', c.key_column, kind, further);
END
$$;
COMMENT ON FUNCTION mrl.define_log(text) IS
    'Returns the call for a trigger: of the extension''s function; without it, of '
    'mrl.log_of_<collection>(), which is made; where this role may not, of mrl.log_change(…), which '
    'takes longest.';

CREATE OR REPLACE FUNCTION mrl.log_change()
    RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    most CONSTANT integer := 100000;  -- keys of a statement
    keys pg_catalog.text[];
    keys_before pg_catalog.text[];
    logged pg_catalog.oid := TG_RELID;
BEGIN
    IF TG_NARGS OPERATOR(pg_catalog.>) 2 THEN
        logged := pg_catalog.pg_partition_root(TG_RELID);
        IF logged IS NULL THEN
            RETURN NULL;  -- a partition no more
        END IF;
    END IF;
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%I FROM new_rows AS r LIMIT %s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%I FROM old_rows AS r LIMIT %s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            EXECUTE pg_catalog.format(
                'SELECT ARRAY(SELECT r.%1$I FROM old_rows AS r LIMIT %2$s),
                    ARRAY(SELECT r.%1$I FROM new_rows AS r LIMIT %2$s)',
                TG_ARGV[0], most OPERATOR(pg_catalog.+) 1)
            INTO keys_before, keys;
            IF keys_before OPERATOR(pg_catalog.<>) keys THEN
                keys := pg_catalog.array_cat(keys_before, keys);
            END IF;
        END IF;
        IF pg_catalog.cardinality(keys) OPERATOR(pg_catalog.=) 0 THEN
            RETURN NULL;  -- the statement wrote no row
        END IF;
        IF pg_catalog.cardinality(keys) OPERATOR(pg_catalog.>) most THEN
            keys := NULL;
        END IF;
        IF TG_ARGV[1] OPERATOR(pg_catalog.=) 'integers' THEN
            PERFORM keys::bigint[];
        ELSIF TG_ARGV[1] OPERATOR(pg_catalog.=) 'uuids' THEN
            PERFORM keys::pg_catalog.uuid[];
        END IF;
    EXCEPTION WHEN OTHERS THEN
        keys := NULL;
    END;
    INSERT INTO mrl.change (relation, integers, uuids, texts)
    VALUES (
        logged,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'integers' THEN keys::bigint[] END,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'uuids' THEN keys::pg_catalog.uuid[] END,
        CASE WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) 'texts' THEN keys END
    );
    IF pg_catalog.random() OPERATOR(pg_catalog.<) 0.001 THEN
        PERFORM mrl.trim_by_chance();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.log_change() IS
    'What mrl.log_text() makes, for a key that is named by an argument and so looked for anew in '
    'every statement. Arguments: the key''s column, and the column of mrl.change for its type; '
    '"partitions" where what is logged is said of the table that the partitions are of.';

CREATE OR REPLACE FUNCTION mrl.log_changes(collection text)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection;
    events CONSTANT text[] := ARRAY[
        'INSERT', 'REFERENCING NEW TABLE AS new_rows',
        'UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
        'DELETE', 'REFERENCING OLD TABLE AS old_rows',
        'TRUNCATE', ''];
    own text;
    call text;
    called oid;
    part regclass;
    name text;
BEGIN
    PERFORM mrl.wait_briefly();
    c := mrl.find(collection, whole => true);
    EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', mrl.table_of(c));  -- one at a time
    own := format('mrl.%I(', 'log_of_' || c.name);
    call := mrl.define_log(collection);
    called := coalesce(
        mrl.compiled_log(),
        to_regprocedure(CASE WHEN call ^@ own THEN own ELSE 'mrl.log_change(' END || ')'));
    -- What is logged as it shall be is left as it is: nobody waits for those who write there.
    FOR part IN
        SELECT t.part
        FROM mrl.log_triggers(c) AS t
        WHERE t.right_ < 4 OR EXISTS (
            SELECT
            FROM pg_trigger AS g
            WHERE g.tgrelid = t.part AND g.tgname ^@ 'mrl_log_' AND g.tgfoid <> called
        )
        ORDER BY t.part <> c.relation, t.part
    LOOP
        FOR event IN 1 .. cardinality(events) BY 2 LOOP
            name := 'mrl_log_' || lower(events[event]);
            EXECUTE format(
                'CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s
                 FOR EACH STATEMENT EXECUTE FUNCTION %s',
                name, events[event], part, events[event + 1], call);
            EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', part, name);
            IF mrl.compiled_log() IS NOT NULL THEN
                EXECUTE format('ALTER TRIGGER %I ON %s DEPENDS ON EXTENSION mrl_db', name, part);
            END IF;
        END LOOP;
    END LOOP;
    IF mrl.compiled_log() IS NOT NULL THEN
        PERFORM mrl.drop_log(to_regprocedure(own || ')'));
    END IF;
    INSERT INTO mrl.logged AS l (relation, needed_until)
    VALUES (c.relation, clock_timestamp() + interval '7 days')
    ON CONFLICT (relation) DO UPDATE SET needed_until = excluded.needed_until;
END
$$;
COMMENT ON FUNCTION mrl.log_changes(text) IS
    'Makes the triggers that log what is written to a collection; whoever reads it in a process '
    'does. They fire under session_replication_role = replica too. Of a partitioned table each '
    'partition has them, too. For the owner of the table.';

CREATE OR REPLACE FUNCTION mrl.unlog_changes(relation regclass)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part regclass;
    name text;
    function_ regprocedure;
BEGIN
    IF EXISTS (
        SELECT FROM pg_trigger AS t WHERE t.tgrelid = relation AND t.tgname ^@ 'mrl_log_'
    ) THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', relation);  -- one at a time
    END IF;
    -- A function of the table's own is also called where a partition was detached.
    FOR part, name, function_ IN
        SELECT t.tgrelid, t.tgname, t.tgfoid
        FROM pg_trigger AS t
        JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgname ^@ 'mrl_log_'
            AND (p.pronamespace = 'mrl'::regnamespace OR p.oid = mrl.compiled_log())
            AND (
                t.tgrelid IN (SELECT b.part FROM mrl.partitions(relation) AS b)
                OR p.proname ^@ 'log_of_'
                    AND p.oid IN (SELECT o.tgfoid FROM pg_trigger AS o WHERE o.tgrelid = relation)
            )
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, part);
    END LOOP;
    IF function_ <> 'mrl.log_change()'::regprocedure
        AND function_ IS DISTINCT FROM mrl.compiled_log()
    THEN
        PERFORM mrl.drop_log(function_);
    END IF;
    DELETE FROM mrl.change AS c WHERE c.relation = unlog_changes.relation;
    DELETE FROM mrl.reader AS r WHERE r.relation = unlog_changes.relation;
    DELETE FROM mrl.logged AS l WHERE l.relation = unlog_changes.relation;
    DELETE FROM mrl.cut AS c WHERE c.relation = unlog_changes.relation;
END
$$;
COMMENT ON FUNCTION mrl.unlog_changes(regclass) IS
    'Takes the triggers of mrl.log_changes() away, and what they logged.';

CREATE OR REPLACE FUNCTION mrl.drop_log(function_ regprocedure)
    RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('DROP FUNCTION %s', function_);
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN
    RETURN;  -- it does nothing where no trigger calls it
END
$$;
COMMENT ON FUNCTION mrl.drop_log(regprocedure) IS
    'Drops a function of mrl.define_log() that no table''s trigger calls, where this role may.';

CREATE OR REPLACE FUNCTION mrl.on_collection()
    RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM mrl.unlog_changes(OLD.relation);
    PERFORM mrl.drop_log(to_regprocedure(format('mrl.%I()', 'log_of_' || OLD.name)));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION mrl.on_collection() IS
    'A table that is no collection any more is not logged.';

CREATE OR REPLACE TRIGGER log_changes
    AFTER DELETE ON mrl.collection
    FOR EACH ROW EXECUTE FUNCTION mrl.on_collection();
