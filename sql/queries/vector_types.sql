-- Object ids of pgvector's types: they differ from database to database.
SELECT t.typname::text, t.oid
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_extension AS e ON e.extnamespace = t.typnamespace
WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec')
