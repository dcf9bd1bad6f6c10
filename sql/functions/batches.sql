-- Batches: writes that a client may send again without knowing whether they were committed.

CREATE OR REPLACE FUNCTION mrl.begin_batch(relation oid, id text)
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    done bigint;
BEGIN
    INSERT INTO mrl.batch AS b (relation, id)
    VALUES (begin_batch.relation, begin_batch.id)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT b.rows_ INTO done
        FROM mrl.batch AS b
        WHERE b.relation = begin_batch.relation AND b.id = begin_batch.id;
    END IF;
    RETURN done;
END
$$;
COMMENT ON FUNCTION mrl.begin_batch(oid, text) IS
    'Claims a batch for this transaction, after any other that works at it has ended; returns the '
    'rows that it wrote when it was committed before, else NULL.';

CREATE OR REPLACE FUNCTION mrl.end_batch(relation oid, id text, rows_ bigint)
    RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE mrl.batch AS b
    SET rows_ = end_batch.rows_
    WHERE b.relation = end_batch.relation AND b.id = end_batch.id
$$;
COMMENT ON FUNCTION mrl.end_batch(oid, text, bigint) IS 'Notes how many rows a batch wrote.';

CREATE OR REPLACE FUNCTION mrl.trim_batches(older_than interval DEFAULT '7 days')
    RETURNS bigint
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM mrl.batch AS b WHERE b.committed_at < now() - older_than RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION mrl.trim_batches(interval) IS
    'Forgets batches that nobody will send again; returns how many.';
