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
    '546b199c270118179b4b6da22bfaf333712647eb324b3a785594b0195fd6ec3f',
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
        AND checksum = '5acbeaa8fb520a5300f8c1d5b6995f6a89e779533877bdff13a0518b28722c22'
) AS missing \gset
\if :missing
\ir functions/catalog.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/catalog',
    '5acbeaa8fb520a5300f8c1d5b6995f6a89e779533877bdff13a0518b28722c22',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/changes'
        AND checksum = '6fd99942f9f7d328a83aed82344b25956c7f54d50e5eb7f6b3e766a055a39a9e'
) AS missing \gset
\if :missing
\ir functions/changes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/changes',
    '6fd99942f9f7d328a83aed82344b25956c7f54d50e5eb7f6b3e766a055a39a9e',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/collections'
        AND checksum = 'b3115ece5620671d17ddaa692947f24e5658da790d5f7b840959120b7245f031'
) AS missing \gset
\if :missing
\ir functions/collections.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/collections',
    'b3115ece5620671d17ddaa692947f24e5658da790d5f7b840959120b7245f031',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/indexes'
        AND checksum = '555a9f9b4a91b7c88d0a4c6caed6a655cb3911e1a380f799136852b5443bc76d'
) AS missing \gset
\if :missing
\ir functions/indexes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/indexes',
    '555a9f9b4a91b7c88d0a4c6caed6a655cb3911e1a380f799136852b5443bc76d',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/logging'
        AND checksum = '6079d4d2060f226d523dec6b3e617e9ae0a499c54e3563dde11325daada7ae3d'
) AS missing \gset
\if :missing
\ir functions/logging.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/logging',
    '6079d4d2060f226d523dec6b3e617e9ae0a499c54e3563dde11325daada7ae3d',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/plans'
        AND checksum = '289a73968e7d2b6b1bb6b1b222338ccdb6db329513b708d07c6a5c3380bfa7c0'
) AS missing \gset
\if :missing
\ir functions/plans.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/plans',
    '289a73968e7d2b6b1bb6b1b222338ccdb6db329513b708d07c6a5c3380bfa7c0',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/recall'
        AND checksum = '62b77254bfd93ac05446348a5aa7fbac74565880ca6dd6616410b9b2ae6aa8c7'
) AS missing \gset
\if :missing
\ir functions/recall.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/recall',
    '62b77254bfd93ac05446348a5aa7fbac74565880ca6dd6616410b9b2ae6aa8c7',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/search'
        AND checksum = '3efe0cc063f3e89a5910545edc5c8226136b838fe594f5757c2bf4e6493d4584'
) AS missing \gset
\if :missing
\ir functions/search.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/search',
    '3efe0cc063f3e89a5910545edc5c8226136b838fe594f5757c2bf4e6493d4584',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/text'
        AND checksum = '2a68a63c9a4f73a1ff5b9e8ef0b36df2be5a4b0959066ad8bd5fad3baf5a3638'
) AS missing \gset
\if :missing
\ir functions/text.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/text',
    '2a68a63c9a4f73a1ff5b9e8ef0b36df2be5a4b0959066ad8bd5fad3baf5a3638',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/trimming'
        AND checksum = 'bb0c46c32b464de3cb5b7e603eab9a3788f6b8552285301a96691c8a2df0a604'
) AS missing \gset
\if :missing
\ir functions/trimming.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/trimming',
    'bb0c46c32b464de3cb5b7e603eab9a3788f6b8552285301a96691c8a2df0a604',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT mrl.define_searches();
COMMIT;
