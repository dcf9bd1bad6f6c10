-- The change log with its readers, batches, and the rights that every role has.

CREATE TABLE mrl.change (
    relation oid NOT NULL,
    xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
    integers bigint[],
    uuids    uuid[],
    texts    text[]
);
ALTER TABLE mrl.change
    ALTER COLUMN integers SET STORAGE EXTERNAL,
    ALTER COLUMN uuids SET STORAGE EXTERNAL;
CREATE INDEX change_of_relation ON mrl.change (relation, xid);
COMMENT ON TABLE mrl.change IS
    'The change log: one row for each statement that wrote to a collection. The array of the '
    'key''s type has the keys; where all three are NULL, any row may have changed (TRUNCATE).';

CREATE TABLE mrl.reader (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    relation oid NOT NULL,
    seen     pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    token    uuid NOT NULL DEFAULT gen_random_uuid(),
    lease    timestamptz NOT NULL
);
CREATE INDEX reader_of_relation ON mrl.reader (relation);
COMMENT ON TABLE mrl.reader IS
    'Who follows the change log: changes visible in the snapshot `seen` are no longer needed, and '
    'after `lease` none are.';
COMMENT ON COLUMN mrl.reader.token IS
    'New at every acknowledgement: a reader that does not find its own token here follows another '
    'history of this database.';

CREATE TABLE mrl.batch (
    relation     oid NOT NULL,
    id           text NOT NULL CHECK (octet_length(id) BETWEEN 1 AND 200),
    rows_        bigint,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, id)
);
CREATE INDEX batch_by_age ON mrl.batch (committed_at);
COMMENT ON TABLE mrl.batch IS
    'Writes that were given a batch_id, each committed with its row here: who sends one again '
    'finds it done. Kept for a week at least.';

-- Whoever writes to a collection's table writes to the log, in the writer's name, and needs no
-- right beside these two. To fill it with noise costs readers time and never a wrong answer; to
-- read or to cut it takes rights that are granted to nobody here.
GRANT USAGE ON SCHEMA mrl TO PUBLIC;
GRANT INSERT ON mrl.change TO PUBLIC;
