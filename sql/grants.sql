-- All rights on schema mrl that a role needs to use every part of mrl_db, none of them a
-- superuser's: psql -d DATABASE -v role=app -f sql/grants.sql. docs/schema.md says which of them is
-- for what.
GRANT USAGE, CREATE ON SCHEMA mrl TO :"role";
GRANT SELECT ON mrl.migration TO :"role";
GRANT SELECT, INSERT, DELETE ON mrl.collection TO :"role";
GRANT UPDATE (adapted) ON mrl.collection TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON mrl.plan, mrl.promise, mrl.classifier TO :"role";
GRANT SELECT, INSERT ON mrl.adaptor, mrl.text_search TO :"role";
GRANT SELECT, INSERT, DELETE ON mrl.change, mrl.moment TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON mrl.reader, mrl.batch, mrl.logged, mrl.cut
    TO :"role";
