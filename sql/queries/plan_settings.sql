-- What a plan needs, for the rest of this transaction. HNSW returns at most ef_search rows; the iterative scan goes on beyond them.
SELECT
    pg_catalog.set_config('hnsw.ef_search', %(effort)s, true),
    pg_catalog.set_config('hnsw.iterative_scan', 'relaxed_order', true),
    pg_catalog.set_config('hnsw.max_scan_tuples', %(scan)s, true),
    pg_catalog.set_config('enable_indexscan', %(index)s, true)
