-- The access method mrl and its operator classes, named as pgvector's for hnsw are.

\echo Use "CREATE EXTENSION mrl_db" to load this file. \quit

CREATE FUNCTION mrl_handler(internal)
    RETURNS index_am_handler
    LANGUAGE c
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_handler(internal) IS 'The access method mrl';

CREATE ACCESS METHOD mrl TYPE INDEX HANDLER mrl_handler;

COMMENT ON ACCESS METHOD mrl IS
    'Nearest vectors: a graph over short codes in the pages of the index, distances from the table''s own vectors';

CREATE FUNCTION mrl_library()
    RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_library() IS
    'What the library is that this server has loaded: for which PostgreSQL, which format of pages, which instructions';

CREATE FUNCTION mrl_promise(index regclass)
    RETURNS json
    LANGUAGE c STABLE STRICT
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_promise(regclass) IS
    'The recall that an index was made for, the effort that searches take now, and the recall that was measured by effort; '
    'NULL where nothing was measured';

CREATE FUNCTION mrl_log_change()
    RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_log_change() IS
    'Writes the change log of the schema mrl, for the triggers that mrl.log_changes() makes. Arguments: the key''s column, and '
    'the column of mrl.change for its type';

CREATE FUNCTION mrl_rows_by_words(relation regclass, words_column text, language text, query text, places integer)
    RETURNS TABLE (place tid, score double precision)
    LANGUAGE c STABLE STRICT ROWS 30
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_rows_by_words(regclass, text, text, text, integer) IS
    'The rows of a table that have words of a query in a column of type tsvector, the best first: where they lie, and the sum of '
    'what their words weigh (mrl.query_words). As many as there are places, and those that weigh as much as the last';

CREATE FUNCTION mrl_known_distance("any", "any")
    RETURNS double precision
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_known_distance("any", "any") IS
    'The function of a distance''s operator, in plans that order by it: an index has it already';

CREATE FUNCTION mrl_vector_cosine(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE FUNCTION mrl_vector_ip(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE FUNCTION mrl_vector_l2(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE FUNCTION mrl_halfvec_cosine(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE FUNCTION mrl_halfvec_ip(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE FUNCTION mrl_halfvec_l2(internal)
    RETURNS internal
    LANGUAGE c
    AS 'MODULE_PATHNAME';

CREATE OPERATOR CLASS vector_cosine_ops
    FOR TYPE vector USING mrl AS
    OPERATOR 1 <=> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 cosine_distance(vector, vector),
    FUNCTION 2 mrl_vector_cosine(internal);

CREATE OPERATOR CLASS vector_ip_ops
    FOR TYPE vector USING mrl AS
    OPERATOR 1 <#> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 vector_negative_inner_product(vector, vector),
    FUNCTION 2 mrl_vector_ip(internal);

CREATE OPERATOR CLASS vector_l2_ops
    FOR TYPE vector USING mrl AS
    OPERATOR 1 <-> (vector, vector) FOR ORDER BY float_ops,
    FUNCTION 1 l2_distance(vector, vector),
    FUNCTION 2 mrl_vector_l2(internal);

CREATE OPERATOR CLASS halfvec_cosine_ops
    FOR TYPE halfvec USING mrl AS
    OPERATOR 1 <=> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 cosine_distance(halfvec, halfvec),
    FUNCTION 2 mrl_halfvec_cosine(internal);

CREATE OPERATOR CLASS halfvec_ip_ops
    FOR TYPE halfvec USING mrl AS
    OPERATOR 1 <#> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 halfvec_negative_inner_product(halfvec, halfvec),
    FUNCTION 2 mrl_halfvec_ip(internal);

CREATE OPERATOR CLASS halfvec_l2_ops
    FOR TYPE halfvec USING mrl AS
    OPERATOR 1 <-> (halfvec, halfvec) FOR ORDER BY float_ops,
    FUNCTION 1 l2_distance(halfvec, halfvec),
    FUNCTION 2 mrl_halfvec_l2(internal);

CREATE FUNCTION mrl_check_index(index regclass, heap boolean DEFAULT false)
    RETURNS bigint
    LANGUAGE c STRICT
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_check_index(regclass, boolean) IS
    'Raises an error when an index of kind mrl is damaged; returns its rows. heap: whether each row of the table is in it, too. For the owner of the index; writers wait meanwhile';

CREATE FUNCTION mrl_index_info(
    index regclass,
    OUT rows bigint,
    OUT dead bigint,
    OUT waiting bigint,
    OUT free bigint,
    OUT bytes bigint,
    OUT dims integer,
    OUT code_dims integer,
    OUT entries bigint,
    OUT generation bigint,
    OUT fitted bigint,
    OUT effort integer,
    OUT default_effort integer,
    OUT default_recall double precision,
    OUT default_queries integer)
    LANGUAGE c STRICT
    AS 'MODULE_PATHNAME';

COMMENT ON FUNCTION mrl_index_info(regclass) IS
    'What an index of kind mrl says of itself: rows that live, dead ones, those that wait to be linked, free slots, its size, entries of walks, the graph''s generation, rows that its projection was fitted to, effort; and how far searches walk where nobody says it, with the mean recall that so many rows found by it when the graph was made, or NULL';
