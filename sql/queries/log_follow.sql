SELECT id, token, seen FROM mrl.follow(%s, pg_catalog.make_interval(secs => %s))
