-- The ledger of installations; the catalogue: collections, and what is kept for each.
--
-- Numbered files are never edited after a release: the ledger has their checksums.

CREATE SCHEMA mrl;
COMMENT ON SCHEMA mrl IS
    'Funnel search over embeddings: collections, plans and their search functions (mrl_db).';

CREATE TABLE mrl.migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    version    text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.migration IS
    'The files of sql/ applied to this schema, each with its SHA-256 and the version of mrl_db '
    'that applied it. A changed file of tables is an error; a changed file of functions is applied '
    'again.';

CREATE TABLE mrl.collection (
    name           text PRIMARY KEY CHECK (octet_length(name) BETWEEN 1 AND 56),
    relation       regclass NOT NULL UNIQUE,
    key_column     text NOT NULL,
    vector_column  text NOT NULL,
    dims           integer NOT NULL CHECK (dims BETWEEN 1 AND 16000),
    nesting_dims   integer[] NOT NULL,
    metric         text NOT NULL CHECK (metric IN ('cosine', 'inner_product', 'l2')),
    low_dims       integer NOT NULL CHECK (low_dims BETWEEN 1 AND 4000),
    low_dim_column text,
    owns_table     boolean NOT NULL,
    owns_column    boolean NOT NULL,
    adapted        boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.collection IS
    'One row for each collection: a table, its key, its vector column, its low-dim column, metric '
    'and nesting dims.';
COMMENT ON COLUMN mrl.collection.low_dim_column IS
    'The stored generated column of the prefix; NULL when an expression index stands for it.';
COMMENT ON COLUMN mrl.collection.owns_table IS
    'Whether dropping the collection drops the table: true for create_collection, false for '
    'attach.';
COMMENT ON COLUMN mrl.collection.owns_column IS
    'Whether the low-dim column was added by us, and goes when the collection goes.';
COMMENT ON COLUMN mrl.collection.adapted IS 'Whether mrl.adaptor has a row for it.';

CREATE TABLE mrl.plan (
    collection text NOT NULL REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    engine     text NOT NULL CHECK (engine IN ('sql', 'native')),
    plan       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, engine)
);
COMMENT ON TABLE mrl.plan IS
    'The plan that searches of a collection use with an engine; without a row, the default plan.';

CREATE TABLE mrl.promise (
    collection text NOT NULL,
    engine     text NOT NULL,
    promise    jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, engine),
    FOREIGN KEY (collection, engine) REFERENCES mrl.plan ON DELETE CASCADE ON UPDATE CASCADE
);
COMMENT ON TABLE mrl.promise IS
    'What the stored plan of a collection was measured to keep: recall, its statistic and k, and '
    'the evidence. Goes when the plan goes.';

CREATE TABLE mrl.adaptor (
    collection text PRIMARY KEY REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    adaptor    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.adaptor IS
    'What changes vectors before they are stored in a collection, and queries before they are '
    'compared with them, as an .npz file: a rotation, or a rotation with a small network. What '
    'writes or searches by SQL gives vectors that were changed already.';

CREATE TABLE mrl.classifier (
    collection text NOT NULL REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    name       text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    dims       integer[] NOT NULL,
    about      jsonb NOT NULL,
    cascade_   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, name)
);
COMMENT ON TABLE mrl.classifier IS
    'Cascades of heads over prefixes of a collection''s vectors, each as an .npz file, with what '
    'it was proven to keep.';
COMMENT ON COLUMN mrl.classifier.about IS
    'The report of its stopping rule: target, accuracy, dims, and their bounds.';
