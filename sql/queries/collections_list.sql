SELECT c.name FROM mrl.collection AS c ORDER BY c.name
