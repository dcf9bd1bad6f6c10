SELECT mrl.acknowledge(%s, %s, %s, pg_catalog.make_interval(secs => %s))
