-- The stored plans of a collection, each with the promise that it keeps, if any.
SELECT p.engine, p.plan, k.promise, k.created_at
FROM mrl.plan AS p
LEFT JOIN mrl.promise AS k USING (collection, engine)
WHERE p.collection = %s
