SELECT a.default_version FROM pg_catalog.pg_available_extensions AS a WHERE a.name = 'vector'
