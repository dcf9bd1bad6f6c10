-- Classifiers: cascades of heads over prefixes, kept with the collection that they are for.

SELECT pg_catalog.set_config('search_path', 'pg_catalog', true);

CREATE TABLE mrl.classifier (
    collection text NOT NULL REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    name       text NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    dims       integer[] NOT NULL,
    about      jsonb NOT NULL,
    cascade_   bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, name)
);
COMMENT ON TABLE mrl.classifier IS 'Cascades of heads over prefixes of a collection''s vectors, each as an .npz file, with what it was proven to keep.';
COMMENT ON COLUMN mrl.classifier.about IS 'The report of its stopping rule: target, accuracy, dims, and their bounds.';
