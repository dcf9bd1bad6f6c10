-- Asked of the catalogue itself: to_regclass() answers from a cache that a transaction which waited for the lock does not refresh.
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_class AS r
    JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'mrl' AND r.relname = 'migration'
)
