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
        AND checksum = '415bced55f010262b784d98894812694e6b4e71f216df3e7f9562e75fddb0b3c'
) AS missing \gset
\if :missing
\ir functions/catalog.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/catalog',
    '415bced55f010262b784d98894812694e6b4e71f216df3e7f9562e75fddb0b3c',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/changes'
        AND checksum = '3eac0962695ce20fba24913fc182cf9d97a96006ff08c740beef947aea07514c'
) AS missing \gset
\if :missing
\ir functions/changes.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/changes',
    '3eac0962695ce20fba24913fc182cf9d97a96006ff08c740beef947aea07514c',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/collections'
        AND checksum = 'cd154c9edaa1bb931e44adc359ef28ac927688d297e43f1e1a66fe565e13dbce'
) AS missing \gset
\if :missing
\ir functions/collections.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/collections',
    'cd154c9edaa1bb931e44adc359ef28ac927688d297e43f1e1a66fe565e13dbce',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/plans'
        AND checksum = 'b892b950f077ff7860dc8fd674cccf9fa6ec6b4c92823eafdbd77c30c6c57090'
) AS missing \gset
\if :missing
\ir functions/plans.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/plans',
    'b892b950f077ff7860dc8fd674cccf9fa6ec6b4c92823eafdbd77c30c6c57090',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/recall'
        AND checksum = '7842925da80335821f71ad9a595b697cb76aad1d6b2ed40be65e5347df47ff94'
) AS missing \gset
\if :missing
\ir functions/recall.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/recall',
    '7842925da80335821f71ad9a595b697cb76aad1d6b2ed40be65e5347df47ff94',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT NOT EXISTS (
    SELECT FROM mrl.migration WHERE name = 'functions/search'
        AND checksum = '9aa71cf01416c1721b0f1c2321fa4063d2f9c3c4a1b63df0ce8cc37243357dd2'
) AS missing \gset
\if :missing
\ir functions/search.sql
INSERT INTO mrl.migration AS m (name, checksum, version)
VALUES (
    'functions/search',
    '9aa71cf01416c1721b0f1c2321fa4063d2f9c3c4a1b63df0ce8cc37243357dd2',
    '0.1.0'
)
ON CONFLICT (name) DO UPDATE
SET checksum = excluded.checksum, version = excluded.version, applied_at = now();
\endif

SELECT mrl.define_searches();
COMMIT;
