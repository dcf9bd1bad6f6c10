-- The server and this database: what is installed, and as of when it is read.

-- name: database_oid
SELECT d.oid::bigint FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()

-- What says which rows a database has, and whether that is sure.
-- name: database_marks
SELECT m.mark, m.sure FROM mrl.database_marks() AS m

-- The pgvector that this database has.
-- name: pgvector_version
SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector'

-- The pgvector that this server could give it.
-- name: pgvector_available
SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a WHERE a.name = 'vector'

-- name: create_pgvector
CREATE EXTENSION IF NOT EXISTS vector

-- The extension mrl_db that this database has.
-- name: extension_version
SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'mrl_db'

-- The one that this server could give it.
-- name: extension_available
SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a WHERE a.name = 'mrl_db'

-- What the server's library says of itself; asking loads it.
-- name: extension_library
SELECT {}.mrl_library()

-- name: extension_schema
SELECT n.nspname
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'mrl_db'

-- Whether this server could give it to this role.
-- name: extension_offered
SELECT a.version
FROM pg_catalog.pg_available_extension_versions AS a
WHERE a.name = 'mrl_db'
    AND (
        NOT a.superuser
        OR (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = CURRENT_USER)
        OR (
            a.trusted
            AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
        )
    )

-- Its operator classes are named as pgvector's, so it lives in the same schema:
-- a search path that finds the ones finds the others.
-- name: create_extension
DO $$
BEGIN
    EXECUTE pg_catalog.format(
        'CREATE EXTENSION IF NOT EXISTS mrl_db SCHEMA %I',
        (
            SELECT n.nspname
            FROM pg_catalog.pg_extension AS e
            JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
            WHERE e.extname = 'vector'
        ));
END
$$

-- Object ids of pgvector's types: they differ from database to database.
-- name: vector_types
SELECT t.typname::text, t.oid
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_extension AS e ON e.extnamespace = t.typnamespace
WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec')

-- One installer at a time; the lock goes with the transaction.
-- name: migrations_lock
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('mrl_db migrations'))

-- Asked of the catalogue itself: to_regclass() answers from a cache that a transaction which waited
-- for the lock does not refresh.
-- name: migrations_present
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_class AS r
    JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'mrl' AND r.relname = 'migration'
)

-- name: migrations_applied
SELECT m.name, m.checksum, m.version::text FROM mrl.migration AS m ORDER BY m.name

-- name: migrations_record
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now()

-- name: define_searches
SELECT mrl.define_searches()

-- Which database of which cluster this is: files made of its rows bear it.
-- name: database_identity
SELECT c.system_identifier, d.oid
FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database()

-- Every statement of the transaction sees the same state.
-- name: repeatable_read
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- Locks a table and all below it, and tells whether they lie where this snapshot has them: what it
-- has of pg_class is of then, what pg_relation_filenode() says is of now, behind the lock.
-- name: hold
WITH RECURSIVE tree AS (
    SELECT {name}::pg_catalog.regclass::oid AS part
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.part
)
SELECT coalesce(
    pg_catalog.bool_and(
        nullif(r.relfilenode, 0) IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(r.oid)),
    false)
FROM tree AS t
JOIN pg_catalog.pg_class AS r ON r.oid = t.part
WHERE (SELECT 1 FROM {source} LIMIT 0) IS NULL
