-- Words beside vectors: a tsvector of a text column, and which words of a query are looked for.

CREATE OR REPLACE FUNCTION mrl.add_text(
    collection text, text_column text, language text DEFAULT 'english'
)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c mrl.collection;
    words text := text_column || '_words';
    configuration regconfig;
BEGIN
    PERFORM mrl.wait_briefly();
    PERFORM mrl.wait_for_turn(collection);
    c := mrl.find(collection, whole => true);
    IF coalesce(mrl.type_of(c.relation, text_column), '') NOT IN (
        'text', 'character varying', 'character'
    ) THEN
        RAISE EXCEPTION 'collection "%" has % as column "%", wanted one of text', collection,
            coalesce(mrl.type_of(c.relation, text_column), 'nothing'), text_column
            USING ERRCODE = 'MR003';
    END IF;
    IF octet_length(words) > 63 THEN
        RAISE EXCEPTION 'the column of words "%" would have % bytes, PostgreSQL allows 63',
            words, octet_length(words) USING ERRCODE = 'MR003';
    END IF;
    IF EXISTS (SELECT FROM mrl.text_search AS t WHERE t.collection = c.name) THEN
        RAISE EXCEPTION 'collection "%" has a text already', collection USING ERRCODE = 'MR001';
    END IF;
    BEGIN
        configuration := language::regconfig;
    EXCEPTION WHEN undefined_object OR syntax_error OR invalid_name THEN
        configuration := NULL;
    END;
    IF configuration IS NULL THEN
        RAISE EXCEPTION 'language is "%", wanted a text search configuration', language
            USING ERRCODE = 'MR003', HINT = 'SELECT cfgname FROM pg_ts_config lists them';
    END IF;
    EXECUTE format(
        'ALTER TABLE %s ADD COLUMN %I tsvector GENERATED ALWAYS AS (to_tsvector(%L::regconfig, %I)) '
        'STORED',
        c.relation, words, configuration, text_column);
    EXECUTE format(
        'CREATE INDEX %I ON %s USING gin (%I)',
        left(c.name, 40) || '_words_' || left(md5(c.name), 8), c.relation, words);
    INSERT INTO mrl.text_search (collection, text_column, words_column, language)
    VALUES (c.name, add_text.text_column, words, configuration::text);
END
$$;
COMMENT ON FUNCTION mrl.add_text(text, text, text) IS
    'Makes a column of a collection searchable by its words: adds a generated tsvector, which '
    'rewrites the table under an exclusive lock, and a GIN index.';

-- A word weighs what it tells apart: ln(1 + rows / rows with the word), the inverse document
-- frequency (Spärck Jones, 1972). How many rows have it is what ANALYZE found; where it has not seen
-- a word, half as many as the rarest that it lists, and before any ANALYZE all words weigh the same.
-- Frequent words cost much and say little: of a query the rarest are taken, as many as a
-- thousand rows have (or a fiftieth of all), and always one.
-- PL/pgSQL, which plans it once a session. A weight is a multiple of 2^-24, so that sums of them
-- are exact, whatever their order. The extension has the same in C (csrc/postgres/words.c).
CREATE OR REPLACE FUNCTION mrl.query_words(
    relation regclass, words_column text, language text, query text, every boolean
)
    RETURNS TABLE (word tsquery, weight double precision)
    LANGUAGE plpgsql STABLE ROWS 10
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- Behind the words' shares stand the least and the greatest of them.
    WITH known AS MATERIALIZED (
        SELECT
            s.most_common_elems::text::text[] AS words,
            s.most_common_elem_freqs AS shares,
            greatest(r.reltuples, 1) AS rows_in_all
        FROM pg_class AS r
        JOIN pg_namespace AS n ON n.oid = r.relnamespace
        LEFT JOIN pg_stats AS s
            ON s.schemaname = n.nspname AND s.tablename = r.relname
            AND s.attname = query_words.words_column
        WHERE r.oid = query_words.relation
        ORDER BY s.inherited DESC
        LIMIT 1
    ),
    given AS (
        SELECT
            l.lexeme,
            coalesce(
                k.shares[array_position(k.words, l.lexeme COLLATE "C")],
                k.shares[cardinality(k.words) + 1] / 2, 0.01
            )::double precision AS share
        FROM known AS k
        CROSS JOIN unnest(
            to_tsvector(query_words.language::regconfig, query_words.query)
        ) AS l
    ),
    rising AS (
        SELECT
            g.lexeme, g.share,
            row_number() OVER (ORDER BY g.share, g.lexeme COLLATE "C") AS place,
            sum(g.share) OVER (ORDER BY g.share, g.lexeme COLLATE "C") AS share_so_far
        FROM given AS g
    )
    SELECT
        (
            '''' || replace(replace(r.lexeme, '\', '\\'), '''', '''''') || ''''
        )::tsquery,
        round(ln(1 + 1 / r.share) * 16777216) / 16777216
    FROM rising AS r, known AS k
    WHERE query_words.every
        OR r.place = 1
        OR r.share_so_far * k.rows_in_all <= greatest(1000, 0.02 * k.rows_in_all);
END
$$;
COMMENT ON FUNCTION mrl.query_words(regclass, text, text, text, boolean) IS
    'The words of a query that are looked for, each with its weight; every: all of them, else the '
    'rarest.';
