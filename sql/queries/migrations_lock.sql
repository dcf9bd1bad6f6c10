-- One installer at a time; the lock goes with the transaction.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('mrl_db migrations'))
