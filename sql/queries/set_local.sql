-- A setting for the rest of this transaction.
SELECT pg_catalog.set_config(%s, %s, true)
