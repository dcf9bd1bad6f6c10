-- Which collections have a text to search beside the vectors.

CREATE TABLE mrl.text_search (
    collection   text PRIMARY KEY REFERENCES mrl.collection ON DELETE CASCADE ON UPDATE CASCADE,
    text_column  text NOT NULL,
    words_column text NOT NULL,
    language     text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mrl.text_search IS
    'The text of a collection that is searched by its words: the column, the generated tsvector of '
    'it, which has a GIN index, and the text search configuration.';

-- Whoever may read mrl.collection reads this with it, those who had their rights before it was.
GRANT SELECT ON mrl.text_search TO PUBLIC;
