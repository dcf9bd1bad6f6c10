SELECT mrl.end_batch(c.relation, %s, %s) FROM mrl.collection AS c WHERE c.name = %s
