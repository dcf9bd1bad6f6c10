-- Rows of a collection: read, counted, drawn, written, deleted. The table is named row_ throughout.

-- name: rows_get
SELECT row_.{key}, row_.{vector}{columns}
FROM {source} AS row_
WHERE row_.{key} = ANY(%s)

-- name: rows_all
SELECT row_.{key}, row_.{vector}{columns}
FROM {source} AS row_
WHERE {condition}

-- name: rows_columns
SELECT row_.{key}{columns}
FROM {source} AS row_
WHERE row_.{key} = ANY(%s)

-- name: rows_count
SELECT count(*)
FROM {source} AS row_
WHERE {condition}

-- name: rows_keys
SELECT row_.{key}
FROM {source} AS row_
WHERE {condition}

-- Rows that were written to, and whether each passes a filter: a few, in one statement.
-- name: rows_written
SELECT row_.{key}, row_.{vector}, ({judged}) IS TRUE
FROM {source} AS row_
WHERE {condition} AND row_.{key} = ANY(%s::{type}[])

-- Some rows, each drawn with the same chance; the same ones for the same seed while the table
-- stands still.
-- name: rows_sample
SELECT row_.{key}
FROM {source} AS row_ TABLESAMPLE BERNOULLI ({percent}) REPEATABLE ({seed})
WHERE {condition}

-- Of some rows, from blocks drawn at random, the share that came or was replaced since a
-- transaction: 32-bit ids go round.
-- name: rows_newer
SELECT coalesce(
    avg((
        (((row_.xmin::text::bigint - %s) %% 4294967296) + 4294967296) %% 4294967296 < 2147483648
    )::integer),
    0
)::double precision
FROM {source} AS row_ TABLESAMPLE SYSTEM ({percent})
WHERE row_.{vector} IS NOT NULL

-- name: rows_delete
DELETE FROM {source} AS row_
WHERE {condition}

-- Keys and vectors, as a stream.
-- name: copy_out
COPY (
    SELECT row_.{key}, row_.{vector}
    FROM {source} AS row_
    WHERE {condition}
) TO STDOUT (FORMAT binary)

-- Part of each vector: what a head reads beyond the heads before it.
-- name: slices_out
COPY (
    SELECT row_.{key}, {vector_schema}.subvector(row_.{vector}, {first}, {count})
    FROM {source} AS row_
    WHERE {condition}
) TO STDOUT (FORMAT binary)

-- name: copy_in
COPY {target} ({columns}) FROM STDIN (FORMAT binary)

-- Where rows wait that may replace others.
-- name: staging_create
CREATE TEMPORARY TABLE {staging} ON COMMIT DROP AS
SELECT {columns}
FROM {target}
WITH NO DATA

-- name: staging_drop
DROP TABLE {staging}

-- Rows from where they wait. An identity key that is always generated takes them, too.
-- name: rows_insert
INSERT INTO {target} ({columns})
OVERRIDING SYSTEM VALUE
SELECT {columns}
FROM {source}

-- name: rows_insert_new
INSERT INTO {target} ({columns})
OVERRIDING SYSTEM VALUE
SELECT {columns}
FROM {source}
ON CONFLICT ({key}) DO NOTHING

-- name: rows_merge
INSERT INTO {target} ({columns})
OVERRIDING SYSTEM VALUE
SELECT {columns}
FROM {source}
ON CONFLICT ({key}) DO UPDATE
SET {updates}

-- Where columns are left out: a row that is there keeps them, and need not be complete without
-- them, as one that is proposed for insertion must.
-- name: rows_renew
WITH waiting ({columns}) AS MATERIALIZED (
    SELECT {once} {columns}
    FROM {source}
),
renewed AS (
    UPDATE {target} AS row_
    SET {assignments}
    FROM waiting AS new_
    WHERE row_.{key} = new_.{key}
    RETURNING row_.{key} AS key
),
added AS (
    INSERT INTO {target} ({columns})
    OVERRIDING SYSTEM VALUE
    SELECT {columns}
    FROM waiting AS new_
    WHERE NOT EXISTS (SELECT FROM renewed WHERE renewed.key = new_.{key})
    {if_there}
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM waiting),
    (SELECT count(*) FROM renewed) + (SELECT count(*) FROM added)

-- name: if_there
ON CONFLICT ({key}) DO UPDATE
SET {updates}

-- Where no index says that a key is unique: one writer at a time, who sees what others committed.
-- name: keys_turn
SELECT
    pg_catalog.current_setting('transaction_isolation'),
    pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('mrl_db keys'), pg_catalog.hashtext(%s))

-- Of keys that wait twice one is written, once.
-- name: once
DISTINCT ON ({key})

-- Then keys that are there are not written again.
-- name: rows_add_once
WITH waiting ({columns}) AS MATERIALIZED (
    SELECT {once} {columns}
    FROM {source}
),
added AS (
    INSERT INTO {target} ({columns})
    OVERRIDING SYSTEM VALUE
    SELECT {columns}
    FROM waiting AS new_
    WHERE NOT EXISTS (SELECT FROM {target} AS row_ WHERE row_.{key} = new_.{key})
    RETURNING 1
)
SELECT (SELECT count(*) FROM waiting), (SELECT count(*) FROM added)

-- A few rows as parameters, an array for each column, in place of a table where they wait.
-- name: rows_given
unnest(%s::{key_type}[], %s::{vector_schema}.{vector_type}[]{further}) AS given ({columns})
-- name: array_given
, %s

-- Before a COPY: whether policies bind this role, which then may not; and what types columns have.
-- name: copy_look
SELECT
    pg_catalog.row_security_active(%(table)s::pg_catalog.text),
    ARRAY(
        SELECT a.atttypid::pg_catalog.int8
        FROM unnest(%(columns)s::pg_catalog.text[]) WITH ORDINALITY AS c (name, position)
        LEFT JOIN pg_catalog.pg_attribute AS a
            ON a.attrelid = %(table)s::pg_catalog.regclass AND a.attname = c.name
                AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.position
    )

-- One column of a list of updates.
-- name: update
{column} = excluded.{column}

-- One column of a list of assignments.
-- name: assignment
{column} = new_.{column}

-- One column after others.
-- name: further
, row_.{column}
-- name: further_as_text
, row_.{column}::text AS {column}
-- name: further_as_texts
, row_.{column}::text[] AS {column}

-- A page of rows in the order of their keys.
-- name: rows_page
SELECT row_.{key}{columns}
FROM {source} AS row_
WHERE {condition}
ORDER BY row_.{key}
LIMIT %s

-- name: rows_update_where
UPDATE {target} AS row_
SET {assignments}
WHERE {condition}

-- Each row by its key. The columns of new_ are numbered: column 0 is the key.
-- name: rows_update
UPDATE {target} AS row_
SET {assignments}
FROM (VALUES {values}) AS new_ ({numbers})
WHERE row_.{key} = new_.{number}

-- One column of an update, by a value or by a column of new_.
-- name: set_value
{column} = %s::{type}
-- name: set_merged
{column} = CASE WHEN pg_catalog.jsonb_typeof(row_.{column}) = 'object' THEN row_.{column} ELSE '{{}}' END || %s::jsonb
-- name: set_column
{column} = new_.{number}
-- name: typed_value
%s::{type}
