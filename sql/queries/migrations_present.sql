SELECT pg_catalog.to_regclass('mrl.migration') IS NOT NULL
