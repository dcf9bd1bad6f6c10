SELECT
    (SELECT count(*) FROM mrl.change AS c WHERE c.relation = m.relation),
    (SELECT count(*) FROM mrl.reader AS r WHERE r.relation = m.relation AND r.lease > pg_catalog.clock_timestamp()),
    (mrl.check_log(m.name) ->> 'triggers')::integer
FROM mrl.collection AS m
WHERE m.name = %s
