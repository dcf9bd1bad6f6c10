-- Of the settings of a funnel (last_stage.sql): memory for a shortlist's rows, so that the nearest of a scan are kept by a heap, and not all rows are
-- sorted on disk.
AND (
    pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) >= {bytes}
    OR pg_catalog.set_config('work_mem', ({bytes} / 1024)::text || 'kB', true) IS NOT NULL
)
