-- Installs the schema mrl with psql alone: psql -d DATABASE -f sql/install.sql. Needs CREATE EXTENSION vector before.
-- connect() of the Python package does the same, and takes over what this left: a test holds the checksums to the files.
\set ON_ERROR_STOP on
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('mrl_db migrations'));
SELECT to_regnamespace('mrl') IS NULL AS fresh \gset
\if :fresh
\ir migrations/0001_collections.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (1, '0001_collections', '4f371d8929c173ed6e382138fb92a507b10bad1446d1948d82d7b801a5d4ff7d');
\endif
COMMIT;
