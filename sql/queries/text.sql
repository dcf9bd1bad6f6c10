-- Searches by words, and by vectors and words at once (mrl.text_search, mrl.query_words).

-- name: text_add
SELECT mrl.add_text(%s, %s, %s)

-- The words of a query, and the rows that have some of them: each word's rows come out of the GIN
-- index alone, and no tsvector is read.
-- name: rows_by_words
words AS MATERIALIZED (
    SELECT w.word, w.weight
    FROM mrl.text_search AS t
    JOIN mrl.collection AS c ON c.name = t.collection
    CROSS JOIN LATERAL mrl.query_words(c.relation, t.words_column, t.language, %s, %s) AS w
    WHERE t.collection = %s
),
by_words AS MATERIALIZED (
    SELECT best.id, best.score, row_number() OVER (ORDER BY best.score DESC, best.id{key_order}) AS rank
    FROM (
        SELECT hit.id, sum(hit.weight) AS score
        FROM (
            SELECT row_.id, words.weight
            FROM words
            CROSS JOIN LATERAL (
                SELECT row_.{key} AS id
                FROM {source} AS row_
                WHERE row_.{words} @@ words.word AND {condition}
                OFFSET 0
            ) AS row_
        ) AS hit
        GROUP BY hit.id
        ORDER BY score DESC, hit.id{key_order}
        LIMIT %s
    ) AS best
)

-- The same by the extension. Rows that weigh as much as the last go by key, so that all of them
-- come; before a filter, all rows do.
-- name: rows_by_words_compiled
by_words AS MATERIALIZED (
    SELECT best.id, best.score, row_number() OVER (ORDER BY best.score DESC, best.id{key_order}) AS rank
    FROM (
        SELECT row_.id, hit.score
        FROM {ranks}({table}, %s, %s, %s, %s) AS hit
        CROSS JOIN LATERAL (
            SELECT row_.{key} AS id
            FROM {source} AS row_
            WHERE row_.ctid = hit.place AND {condition}
        ) AS row_
        ORDER BY hit.score DESC, row_.id{key_order}
        LIMIT %s
    ) AS best
)

-- name: search_by_words
WITH {by_words}
SELECT row_.{key} AS id, 'NaN'::double precision AS distance, best.score{columns}
FROM by_words AS best
JOIN {source} AS row_ ON row_.{key} = best.id
ORDER BY best.rank

-- Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009), or a weighted sum of what each
-- list says of its rows, scaled to 0 … 1.
-- name: search_by_both
WITH {by_words},
by_vector AS MATERIALIZED (
    SELECT
        hit.id,
        row_number() OVER (ORDER BY hit.distance, hit.id{key_order}) AS rank,
        max(nullif(hit.distance, 'NaN')) OVER () AS farthest,
        min(hit.distance) OVER () AS nearest,
        hit.distance
    FROM (
{nearest}
    ) AS hit
),
fused AS MATERIALIZED (
    SELECT id, {fusion} AS score, by_vector.distance
    FROM by_vector
    FULL JOIN by_words USING (id)
    ORDER BY score DESC, id{key_order}
    LIMIT %s
)
SELECT
    row_.{key} AS id,
    coalesce(
        fused.distance,
        row_.{vector} OPERATOR({vector_schema}.{operator}) %s::{vector_schema}.{vector_type},
        'NaN'
    ) AS distance,
    fused.score{columns}
FROM fused
JOIN {source} AS row_ ON row_.{key} = fused.id
ORDER BY fused.score DESC, fused.id{key_order}

-- name: reciprocal_ranks
(
    coalesce(1.0::double precision / (60 + by_vector.rank), 0)
    + coalesce(1.0::double precision / (60 + by_words.rank), 0)
)
-- name: weighted_scores
(
    %s * coalesce(
        CASE
            WHEN by_vector.distance = 'NaN' THEN 0
            WHEN by_vector.farthest = by_vector.nearest THEN 1
            ELSE (by_vector.farthest - by_vector.distance)
                / (by_vector.farthest - by_vector.nearest)
        END, 0)
    + %s * coalesce(by_words.score / max(by_words.score) OVER (), 0)
)
