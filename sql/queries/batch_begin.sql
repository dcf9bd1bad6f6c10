SELECT mrl.begin_batch(c.relation, %s) FROM mrl.collection AS c WHERE c.name = %s
