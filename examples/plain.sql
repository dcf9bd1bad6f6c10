-- psql only: which of PostgreSQL's own functions does what I mean?
--
--   mrl-db psql -f examples/plain.sql              on the embedded server
--   psql -f sql/install.sql && psql -f examples/plain.sql      on one of yours, without Python
--
-- The vectors are counts of the words' trigrams, hashed to 256 dims: no model, but enough for
-- descriptions of a few words each. With a model the column is filled by your application.
\set ON_ERROR_STOP on
\pset pager off

CREATE OR REPLACE FUNCTION pg_temp.embed(content text)
    RETURNS vector
    LANGUAGE sql STABLE STRICT
    RETURN (
        WITH piece AS (
            SELECT abs(hashtext(substr(word, at, 3)) % 256) AS dim, count(*) AS times
            FROM regexp_split_to_table(lower(content), '\W+') AS token,
                LATERAL (SELECT '  ' || token || ' ') AS padded (word),
                LATERAL generate_series(1, length(word) - 2) AS at
            WHERE token <> ''
            GROUP BY dim
        )
        SELECT array_agg(sqrt(coalesce(times, 0)) ORDER BY i)::vector
        FROM generate_series(0, 255) AS i LEFT JOIN piece ON piece.dim = i
    );

-- A table of yours, with rows in it.
SELECT mrl.drop_collection(name) FROM mrl.collection WHERE name = 'routines';
DROP TABLE IF EXISTS routines;
CREATE TABLE routines (
    id bigint PRIMARY KEY,
    signature text NOT NULL,
    arguments integer NOT NULL,
    content text NOT NULL,
    embedding vector(256) NOT NULL
);
INSERT INTO routines
SELECT oid::bigint, oid::regprocedure::text, pronargs, description, pg_temp.embed(description)
FROM pg_proc JOIN pg_description ON objoid = oid AND classoid = 'pg_proc'::regclass
WHERE description ~ '\w' AND description !~ '^(internal|implementation|I/O)';

-- It becomes a collection, searched by its words too, and gets an index.
SELECT mrl.attach('routines');
SELECT mrl.add_text('routines', 'content', 'english');
SELECT mrl.create_index('routines');
ANALYZE routines;

\echo 'The nearest by vector, through the function that attach() made:'
SELECT h.distance::numeric(4, 3), r.signature, r.content
FROM mrl.search_routines(pg_temp.embed('round to the nearest integer'), k => 5) AS h
JOIN routines AS r USING (id)
ORDER BY h.distance;

\echo 'Plain pgvector SQL, with a condition; the index mrl answers it where the extension is:'
SELECT signature, content
FROM routines
WHERE arguments = 2
ORDER BY embedding <=> pg_temp.embed('greatest common divisor')
LIMIT 5;

\echo 'What the answers are worth, against the exact ones, for 50 rows of the table:'
SELECT * FROM mrl.recall('routines', k => 10, queries => 50);

\echo 'One search, stage by stage:'
SELECT * FROM mrl.explain('routines', pg_temp.embed('current time of day'), 5);
