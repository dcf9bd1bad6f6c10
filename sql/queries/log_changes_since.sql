SELECT mrl.changes_since(%s, %s::pg_catalog.pg_snapshot, %s, %s)
