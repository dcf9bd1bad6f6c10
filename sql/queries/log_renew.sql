UPDATE mrl.reader SET lease = greatest(lease, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s)) WHERE id = %s AND token = %s
