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
        SELECT md5(string_agg(
            format(
                '%s %s %s %s %s', p.part, p.attached, p.leaving, r.relfilenode,
                (
                    SELECT string_agg(
                        format('%s %s %s', t.oid, t.xmin, t.tgenabled), ',' ORDER BY t.oid)
                    FROM pg_trigger AS t
                    WHERE t.tgrelid = p.part AND t.tgname ^@ 'mrl_log_'
                )),
            ';' ORDER BY p.part))
        FROM mrl.partitions(relation) AS p
        JOIN pg_class AS r ON r.oid = p.part
        WHERE p.level > 0
    );
END
$$;
COMMENT ON FUNCTION mrl.partitions_fingerprint(oid) IS
    'What must stay as it is of the partitions for the log to tell all: which there are, where '
    'their rows lie, the triggers; a part of mrl.log_fingerprint().';

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
