SELECT id, token, seen FROM mrl.follow_from(%s, %s, pg_catalog.make_interval(secs => %s))
