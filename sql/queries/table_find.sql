-- A table by its name as SQL writes it ("public.articles", quoted where need be), with its size.
SELECT r.oid, pg_catalog.pg_total_relation_size(r.oid)
FROM pg_catalog.pg_class AS r
WHERE r.oid = pg_catalog.to_regclass(%s)
