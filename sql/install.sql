-- Installs the schema mrl with psql alone, or brings it up to date:
--
--     psql -d DATABASE -f sql/install.sql
--
-- Needs CREATE EXTENSION vector before. connect() of the Python package does the same, and takes
-- over what this left. Written by `make schema`; a test holds it to the files.
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
VALUES (
    'tables/0001_collections',
    '0fa3dd5ad5af0a65e07051f5f7eaa2553cc73dc6b11817b8cc4edd40bffad8a9',
    '0.1.0'
)
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
VALUES (
    'tables/0002_changes',
    'db492e61b654b9fd18fa2d42905ad30e4480be5f824fc9a31c8988a4dca7bcb9',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE name = 'tables/0003_logged') AS missing \gset
\if :missing
\ir tables/0003_logged.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'tables/0003_logged',
    '6adb941ec0c31a7f928b4bff80d37aaa165a5936b70b7ad57c128abb15958171',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE name = 'tables/0004_text') AS missing \gset
\if :missing
\ir tables/0004_text.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'tables/0004_text',
    '2d3fceab997f2945b28ac556c59e8870a75686c5ad17676205ab75dddc7012a9',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE name = 'tables/0005_standbys') AS missing \gset
\if :missing
\ir tables/0005_standbys.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'tables/0005_standbys',
    '3302f9cc9b16a873a42865542600d8450d6601f59508bab6f7430e9092e76b00',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/batches'
        AND checksum = '9a0a6454c89a9ac9bdc861d7493cf65fd4b58fba90d58cf2c783de81807eef7f'
) AS missing \gset
\if :missing
\ir functions/batches.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/batches',
    '9a0a6454c89a9ac9bdc861d7493cf65fd4b58fba90d58cf2c783de81807eef7f',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/catalog'
        AND checksum = 'dd7b818f11d2489244b078477f83c6c6a98642f39ed1e7caa0b29ee934b04103'
) AS missing \gset
\if :missing
\ir functions/catalog.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/catalog',
    'dd7b818f11d2489244b078477f83c6c6a98642f39ed1e7caa0b29ee934b04103',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/changes'
        AND checksum = 'f9cbec73152218636ad438b5d20d044c82dd46ec5fa7d36c95523b028f1b2add'
) AS missing \gset
\if :missing
\ir functions/changes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/changes',
    'f9cbec73152218636ad438b5d20d044c82dd46ec5fa7d36c95523b028f1b2add',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/collections'
        AND checksum = '4832b8aa750a9aa9c5043d2e43ce01888082727fd4b7d7dcd51e4e4fdaa58ab1'
) AS missing \gset
\if :missing
\ir functions/collections.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/collections',
    '4832b8aa750a9aa9c5043d2e43ce01888082727fd4b7d7dcd51e4e4fdaa58ab1',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/indexes'
        AND checksum = '339f0f9b740b4dd0c1bdcb1de42e1e28551e096032f243de5d43871e10e0a796'
) AS missing \gset
\if :missing
\ir functions/indexes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/indexes',
    '339f0f9b740b4dd0c1bdcb1de42e1e28551e096032f243de5d43871e10e0a796',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/logging'
        AND checksum = '41cff7c947440b71a933db3e97cd63c882d55176dce3b0838d8654efcce44c46'
) AS missing \gset
\if :missing
\ir functions/logging.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/logging',
    '41cff7c947440b71a933db3e97cd63c882d55176dce3b0838d8654efcce44c46',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/partitions'
        AND checksum = '5a53f6f353335932cf56f58f1c32b1fbf59a17df5feed2b7ee000867a6ff7f9f'
) AS missing \gset
\if :missing
\ir functions/partitions.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/partitions',
    '5a53f6f353335932cf56f58f1c32b1fbf59a17df5feed2b7ee000867a6ff7f9f',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/plans'
        AND checksum = '8b76a142ffd9463653d097416e00273ac93fd02f86fbb5f86a2e4f5160418216'
) AS missing \gset
\if :missing
\ir functions/plans.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/plans',
    '8b76a142ffd9463653d097416e00273ac93fd02f86fbb5f86a2e4f5160418216',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/recall'
        AND checksum = '8dfe483d4394cd054e243a24a544c1f2f9fe84bc0a6d60707c857e56b82b6704'
) AS missing \gset
\if :missing
\ir functions/recall.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/recall',
    '8dfe483d4394cd054e243a24a544c1f2f9fe84bc0a6d60707c857e56b82b6704',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/search'
        AND checksum = 'ed5e20a5856c18cb3b25ad4ec5e440d570616138f49bc4b5f193c13f4e62cd9c'
) AS missing \gset
\if :missing
\ir functions/search.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/search',
    'ed5e20a5856c18cb3b25ad4ec5e440d570616138f49bc4b5f193c13f4e62cd9c',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/searches'
        AND checksum = 'e227e6a6d7075325c098a8e0fbe610d15f272411b1c2471984190d2f755abf9d'
) AS missing \gset
\if :missing
\ir functions/searches.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/searches',
    'e227e6a6d7075325c098a8e0fbe610d15f272411b1c2471984190d2f755abf9d',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/standbys'
        AND checksum = '638021b382a6518cf20f3603330d83b38bbd7965d2f7304cfa18ae17e83f59d2'
) AS missing \gset
\if :missing
\ir functions/standbys.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/standbys',
    '638021b382a6518cf20f3603330d83b38bbd7965d2f7304cfa18ae17e83f59d2',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/text'
        AND checksum = '451f3835f9dc0f231c41bcce09a792fc134b7c38c74b364c09208e5a166c497f'
) AS missing \gset
\if :missing
\ir functions/text.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/text',
    '451f3835f9dc0f231c41bcce09a792fc134b7c38c74b364c09208e5a166c497f',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/trimming'
        AND checksum = '1f1532de23c0903d5cb8978f13fe231330d281309043fd1e6a97c7535f62d24e'
) AS missing \gset
\if :missing
\ir functions/trimming.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/trimming',
    '1f1532de23c0903d5cb8978f13fe231330d281309043fd1e6a97c7535f62d24e',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT mrl.define_searches();
COMMIT;
