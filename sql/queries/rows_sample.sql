-- Some rows, each drawn with the same chance; the same ones for the same seed while the table stands still.
SELECT row_.{key}
FROM {source} AS row_ TABLESAMPLE BERNOULLI ({percent}) REPEATABLE ({seed})
WHERE {condition}
