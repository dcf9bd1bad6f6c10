INSERT INTO mrl.classifier AS c (collection, name, dims, about, cascade_)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (collection, name) DO UPDATE
SET dims = excluded.dims, about = excluded.about, cascade_ = excluded.cascade_, created_at = now()
