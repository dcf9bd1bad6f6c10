-- An installed extension, from nothing to a search: stops at the first thing that is wrong.
CREATE EXTENSION mrl_db CASCADE;
SELECT version(), (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector, mrl_library() AS mrl_db \gx
SELECT setseed(0.5) \gset
CREATE TABLE articles AS
    SELECT id, ARRAY(SELECT random() - 0.5 + 0 * id FROM generate_series(1, 64))::vector(64) AS embedding
    FROM generate_series(1, 5000) AS id;
CREATE INDEX ON articles USING mrl (embedding vector_cosine_ops);
INSERT INTO articles SELECT id + 10000, embedding FROM articles WHERE id <= 100;
DELETE FROM articles WHERE id BETWEEN 101 AND 200;
VACUUM ANALYZE articles;
SET mrl.effort = 400;

DO $$
DECLARE
    line text;
    plan text := '';
    hits integer;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN SELECT id FROM articles ORDER BY embedding <=> (SELECT embedding FROM articles WHERE id = 7) LIMIT 10' LOOP
        plan := plan || line || E'\n';
    END LOOP;
    IF plan !~ 'Index Scan using articles_embedding_idx' THEN
        RAISE EXCEPTION 'the index is not used: %', plan;
    END IF;
    SELECT count(*) INTO hits
    FROM generate_series(201, 300) AS asked (id)
    JOIN articles AS query USING (id)
    CROSS JOIN LATERAL (
        SELECT a.id FROM articles AS a ORDER BY a.embedding <=> query.embedding LIMIT 10
    ) AS by_index
    WHERE by_index.id IN (
        SELECT a.id FROM articles AS a ORDER BY 0.0 + (a.embedding <=> query.embedding) LIMIT 10
    );
    IF hits < 980 THEN
        RAISE EXCEPTION 'of 1,000 nearest rows the index finds %', hits;
    END IF;
    RAISE NOTICE 'of 1,000 nearest rows the index finds %', hits;
END
$$;
DROP EXTENSION mrl_db CASCADE;
