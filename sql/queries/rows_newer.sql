-- Of some rows, from blocks drawn at random, the share that came or was replaced since a transaction: 32-bit ids go round.
SELECT coalesce(avg(((((row_.xmin::text::bigint - %s) %% 4294967296) + 4294967296) %% 4294967296 < 2147483648)::integer), 0)::double precision
FROM {source} AS row_ TABLESAMPLE SYSTEM ({percent})
WHERE row_.{vector} IS NOT NULL
