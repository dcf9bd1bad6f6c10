-- Installs the schema mrl with psql alone, or brings it up to date:
--
--     psql -d DATABASE -f sql/install.sql
--
-- Needs CREATE EXTENSION vector before. connect() of the Python package does the same, and takes over
-- what this left. Written by `make schema`; a test holds it to the files.
\set ON_ERROR_STOP on
BEGIN;
\ir prepare.sql

SELECT NOT EXISTS (
    SELECT FROM pg_class AS r JOIN pg_namespace AS n ON n.oid = r.relnamespace
    WHERE n.nspname = 'mrl' AND r.relname = 'migration'
) AS missing \gset
\if :missing
\ir tables/0001_collections.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('tables/0001_collections', '3b65c88b4183579d165578cbc03f1941be5ce0afb57d3dce5bae1cab0f0002c6', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

DO $$
BEGIN
    IF EXISTS (
        SELECT FROM mrl.migration AS m
        WHERE (regexp_match(m.version, '(\d+)\.(\d+)\.(\d+)'))::integer[] > '{0,1,0}'
    ) THEN
        RAISE EXCEPTION 'schema mrl is of a later version of mrl_db than 0.1.0'
            USING ERRCODE = 'MR005', HINT = 'use the sql/install.sql of that version';
    END IF;
END
$$;

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE name = 'tables/0002_changes') AS missing \gset
\if :missing
\ir tables/0002_changes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('tables/0002_changes', '7b141e0bd1a248ab94ba0600dd46819dfdcdd4da3b32cdce6d6762f28b0199aa', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/batches'
        AND checksum = 'b7ffcc901da6669c96d250f0eb4321e4eca2525c2bb58d0e173cec508415a2b7'
) AS missing \gset
\if :missing
\ir functions/batches.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/batches', 'b7ffcc901da6669c96d250f0eb4321e4eca2525c2bb58d0e173cec508415a2b7', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/catalog'
        AND checksum = 'db597b9c13dd74bd1fea759c563b60d9a4c2832493225fedbcc331d94a2c1ff7'
) AS missing \gset
\if :missing
\ir functions/catalog.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/catalog', 'db597b9c13dd74bd1fea759c563b60d9a4c2832493225fedbcc331d94a2c1ff7', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/changes'
        AND checksum = '23a767b3b1a1de42fd58dca91b10bd6f92ca0e9585f32f12bcf23d0523121d15'
) AS missing \gset
\if :missing
\ir functions/changes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/changes', '23a767b3b1a1de42fd58dca91b10bd6f92ca0e9585f32f12bcf23d0523121d15', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/collections'
        AND checksum = 'b61cb2a0461a20c39f2b0227ef9ee40f47da912cb18aee7a404a718aba826f17'
) AS missing \gset
\if :missing
\ir functions/collections.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/collections', 'b61cb2a0461a20c39f2b0227ef9ee40f47da912cb18aee7a404a718aba826f17', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/plans'
        AND checksum = '6b3d64459483b49f731d7188c0f53c0190534f39b421e68608a83398fdd01a7c'
) AS missing \gset
\if :missing
\ir functions/plans.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/plans', '6b3d64459483b49f731d7188c0f53c0190534f39b421e68608a83398fdd01a7c', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/recall'
        AND checksum = 'bd6e2cf77c6c3ea5044c16df629b09843e105a0b48c17882388e052758eae8e2'
) AS missing \gset
\if :missing
\ir functions/recall.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/recall', 'bd6e2cf77c6c3ea5044c16df629b09843e105a0b48c17882388e052758eae8e2', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/search'
        AND checksum = 'f6d79e94e527b46a81fb3ea2b70f144fda1e69f091f15c0efd36240b96ce2389'
) AS missing \gset
\if :missing
\ir functions/search.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES ('functions/search', 'f6d79e94e527b46a81fb3ea2b70f144fda1e69f091f15c0efd36240b96ce2389', '0.1.0')
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT mrl.define_searches();
COMMIT;
