SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_postmaster_start_time()::text, mrl.log_fingerprint(%s)
