-- Installs the schema mrl with psql alone: psql -d DATABASE -f sql/install.sql. Needs CREATE EXTENSION vector before.
-- connect() of the Python package does the same, and takes over what this left: a test holds the checksums to the files.
\set ON_ERROR_STOP on
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('mrl_db migrations'));

SELECT NOT EXISTS (SELECT FROM pg_class AS r WHERE r.relnamespace IN (SELECT n.oid FROM pg_namespace AS n WHERE n.nspname = 'mrl') AND r.relname = 'migration') AS missing \gset
\if :missing
\ir migrations/0001_catalog.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (1, '0001_catalog', 'da55c6300220d266fbb4b681c234e984419b475db3abf67efe81d9d911532c20');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 2) AS missing \gset
\if :missing
\ir migrations/0002_search.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (2, '0002_search', 'a2c5198c9603c4cf7cc7f7d4e4b71af8d837f231c99a7aeda4a48fbfc5f9d3ec');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 3) AS missing \gset
\if :missing
\ir migrations/0003_collections.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (3, '0003_collections', 'c82b25e5d03cf3f5f37aa21c7c406ff50f7a7558ea2f38bd64ebd9784c04654b');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 4) AS missing \gset
\if :missing
\ir migrations/0004_changes.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (4, '0004_changes', '4531ae5f6c833906eac7780fc0d79465d890985f9467ec2edd9b7fff090cd352');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 5) AS missing \gset
\if :missing
\ir migrations/0005_batches.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (5, '0005_batches', '12f5e4d528851974fbd61224780264fb1e6b69440089130b60aadffa278421e3');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 6) AS missing \gset
\if :missing
\ir migrations/0006_promises.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (6, '0006_promises', 'bb678b7cfd986905f4539a2d2fc4731dcdfcb96c7ce1b0780f1f043bcc76a7fb');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 7) AS missing \gset
\if :missing
\ir migrations/0007_classifiers.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (7, '0007_classifiers', '52db602d190e274a0f4810d845a2af4dca2aff9b541005204f9fd90577d2d3a4');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 8) AS missing \gset
\if :missing
\ir migrations/0008_adaptors.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (8, '0008_adaptors', 'b9c6afccf79da1309c03dbf067e630abe322ad33ed5600c909c1b3417a2ad9ce');
\endif

SELECT NOT EXISTS (SELECT FROM mrl.migration WHERE version = 9) AS missing \gset
\if :missing
\ir migrations/0009_walk_misses.sql
INSERT INTO mrl.migration (version, name, checksum)
VALUES (9, '0009_walk_misses', '3c4bd3d95c92894c22d5caa9499fa023437fc03360223513cb14df417a70e962');
\endif

COMMIT;
