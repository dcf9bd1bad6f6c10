-- Writes that a client may send again (mrl.batch).

-- name: batch_begin
SELECT mrl.begin_batch(c.relation, %s) FROM mrl.collection AS c WHERE c.name = %s

-- name: batch_end
SELECT mrl.end_batch(c.relation, %s, %s) FROM mrl.collection AS c WHERE c.name = %s

-- name: batch_trim
SELECT mrl.trim_batches()
