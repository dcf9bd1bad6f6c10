-- What sql/tables and sql/functions add up to: written by `make schema` out of an installation, and
-- compared with one by a test. Not for installing: each function's body and comment, which are in
-- sql/functions, are a digest here.

-- Tables
CREATE TABLE mrl.adaptor (
    collection text NOT NULL,
    adaptor bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT adaptor_collection_fkey FOREIGN KEY (collection) REFERENCES mrl.collection(name) ON
        UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT adaptor_pkey PRIMARY KEY (collection)
);
CREATE TABLE mrl.batch (
    relation oid NOT NULL,
    id text NOT NULL,
    rows_ bigint,
    committed_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT batch_id_check CHECK (((octet_length(id) >= 1) AND (octet_length(id) <= 200))),
    CONSTRAINT batch_pkey PRIMARY KEY (relation, id)
);
CREATE TABLE mrl.change (
    relation oid NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    integers bigint[] STORAGE e,
    uuids uuid[] STORAGE e,
    texts text[]
);
CREATE TABLE mrl.classifier (
    collection text NOT NULL,
    name text NOT NULL,
    dims integer[] NOT NULL,
    about jsonb NOT NULL,
    cascade_ bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT classifier_collection_fkey FOREIGN KEY (collection) REFERENCES mrl.collection(name)
        ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT classifier_name_check CHECK (((octet_length(name) >= 1) AND (octet_length(name) <=
        63))),
    CONSTRAINT classifier_pkey PRIMARY KEY (collection, name)
);
CREATE TABLE mrl.collection (
    name text NOT NULL,
    relation regclass NOT NULL,
    key_column text NOT NULL,
    vector_column text NOT NULL,
    dims integer NOT NULL,
    nesting_dims integer[] NOT NULL,
    metric text NOT NULL,
    low_dims integer NOT NULL,
    low_dim_column text,
    owns_table boolean NOT NULL,
    owns_column boolean NOT NULL,
    adapted boolean NOT NULL DEFAULT false,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT collection_dims_check CHECK (((dims >= 1) AND (dims <= 16000))),
    CONSTRAINT collection_low_dims_check CHECK (((low_dims >= 1) AND (low_dims <= 4000))),
    CONSTRAINT collection_metric_check CHECK ((metric = ANY (ARRAY['cosine'::text,
        'inner_product'::text, 'l2'::text]))),
    CONSTRAINT collection_name_check CHECK (((octet_length(name) >= 1) AND (octet_length(name) <=
        56))),
    CONSTRAINT collection_pkey PRIMARY KEY (name),
    CONSTRAINT collection_relation_key UNIQUE (relation)
);
CREATE TABLE mrl.cut (
    relation oid NOT NULL,
    xid xid8 NOT NULL,
    CONSTRAINT cut_pkey PRIMARY KEY (relation)
);
CREATE TABLE mrl.logged (
    relation regclass NOT NULL,
    needed_until timestamp with time zone NOT NULL,
    retain interval,
    CONSTRAINT logged_pkey PRIMARY KEY (relation),
    CONSTRAINT logged_retain_check CHECK ((retain > '00:00:00'::interval))
);
CREATE TABLE mrl.migration (
    name text NOT NULL,
    checksum text NOT NULL,
    version text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT migration_pkey PRIMARY KEY (name)
);
CREATE TABLE mrl.moment (
    at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    oldest xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    CONSTRAINT moment_pkey PRIMARY KEY (at)
);
CREATE TABLE mrl.plan (
    collection text NOT NULL,
    engine text NOT NULL,
    plan jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT plan_collection_fkey FOREIGN KEY (collection) REFERENCES mrl.collection(name) ON
        UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT plan_engine_check CHECK ((engine = ANY (ARRAY['sql'::text, 'native'::text]))),
    CONSTRAINT plan_pkey PRIMARY KEY (collection, engine)
);
CREATE TABLE mrl.promise (
    collection text NOT NULL,
    engine text NOT NULL,
    promise jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT promise_collection_engine_fkey FOREIGN KEY (collection, engine) REFERENCES
        mrl.plan(collection, engine) ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT promise_pkey PRIMARY KEY (collection, engine)
);
CREATE TABLE mrl.reader (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    relation oid NOT NULL,
    seen pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
    token uuid NOT NULL DEFAULT gen_random_uuid(),
    lease timestamp with time zone NOT NULL,
    CONSTRAINT reader_pkey PRIMARY KEY (id)
);
CREATE TABLE mrl.text_search (
    collection text NOT NULL,
    text_column text NOT NULL,
    words_column text NOT NULL,
    language text NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT text_search_collection_fkey FOREIGN KEY (collection) REFERENCES mrl.collection(name)
        ON UPDATE CASCADE ON DELETE CASCADE,
    CONSTRAINT text_search_pkey PRIMARY KEY (collection)
);

-- Indexes
CREATE INDEX batch_by_age ON mrl.batch USING btree (committed_at);
CREATE INDEX change_of_relation ON mrl.change USING btree (relation, xid);
CREATE INDEX reader_of_relation ON mrl.reader USING btree (relation);

-- Functions
CREATE FUNCTION mrl.acknowledge(id uuid, token uuid, seen text, lease interval) RETURNS uuid
    LANGUAGE sql VOLATILE SET search_path=pg_catalog, pg_temp AS 'cf16c2554189a9104728156b290ef984';
CREATE FUNCTION mrl.add_text(collection text, text_column text, language text DEFAULT
    'english'::text) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '917dfa3044a846b44d3353e07094f890';
CREATE FUNCTION mrl.anchor_promise(collection text, engine text) RETURNS void LANGUAGE sql VOLATILE
    SET search_path=pg_catalog, pg_temp AS 'a947063de6e24c1a209443df33fca81e';
CREATE FUNCTION mrl.as_of_now(promise jsonb) RETURNS jsonb LANGUAGE sql VOLATILE STRICT AS
    '28367aea82cdfbb88521a97ab3f4fa6e';
CREATE FUNCTION mrl.attach(relation regclass, name text DEFAULT NULL::text, vector text DEFAULT
    'embedding'::text, key text DEFAULT 'id'::text, dims integer DEFAULT NULL::integer,
    shortlist_dims integer DEFAULT NULL::integer, nesting_dims integer[] DEFAULT NULL::integer[],
    metric text DEFAULT 'cosine'::text, low_dim text DEFAULT 'column'::text, key_unique boolean
    DEFAULT false) RETURNS text LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '59555150a6a055d1ad2ffb92a5648f13';
CREATE FUNCTION mrl.began_in_recovery() RETURNS boolean LANGUAGE sql STABLE AS
    '13c3975eb519d07f577a9e9343cdf0f1';
CREATE FUNCTION mrl.begin_batch(relation oid, id text) RETURNS bigint LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '1343e6b7239379bbb19f28ffd80f37fd';
CREATE FUNCTION mrl.changes_since(relation oid, seen pg_snapshot, reader uuid, token uuid) RETURNS
    json LANGUAGE plpgsql STABLE STRICT SET search_path=pg_catalog, pg_temp AS
    'f4927e00c4bc033323e09e3d4d8e177d';
CREATE FUNCTION mrl.check_columns(c mrl.collection, relation text) RETURNS void LANGUAGE plpgsql
    STABLE SET search_path=pg_catalog, pg_temp AS '45df1a684dfb25b42a335bc53ad1b873';
CREATE FUNCTION mrl.check_definition(name text, dims integer, nesting_dims integer[], low_dims
    integer, metric text) RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET
    search_path=pg_catalog, pg_temp AS '8346b92df105b1c7aae6cd84c53647f2';
CREATE FUNCTION mrl.check_index(index regclass, heap boolean DEFAULT false) RETURNS bigint LANGUAGE
    plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS 'c1dbfa59ea9c0b8e02f45542b2ca0603';
CREATE FUNCTION mrl.check_keys(relation regclass, key text, key_unique boolean) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    '5c3d2a286a7fd177ed18dee7d1b8759c';
CREATE FUNCTION mrl.check_log(collection text) RETURNS json LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'aaa2eaf555e629a972c189d629f2d9f3';
CREATE FUNCTION mrl.column_of_keys(key_type text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'a7c36ad257cb27a58cffac4496099874';
CREATE FUNCTION mrl.compiled(name text) RETURNS regprocedure LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS 'ec27b6bad626642426cb9e9407e14bba';
CREATE FUNCTION mrl.compiled_log() RETURNS regprocedure LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '739e8b918582954952fcde5568b0b0c2';
CREATE FUNCTION mrl.create_collection(name text, dims integer, shortlist_dims integer DEFAULT
    NULL::integer, nesting_dims integer[] DEFAULT NULL::integer[], metric text DEFAULT
    'cosine'::text, key_type text DEFAULT 'bigint'::text, columns json DEFAULT NULL::json, schema
    text DEFAULT "current_schema"(), vectors_required boolean DEFAULT true) RETURNS regclass
    LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '582b687c6f01d73d220a143975ba264b';
CREATE FUNCTION mrl.create_index(collection text, m integer DEFAULT 16, ef_construction integer
    DEFAULT 64, kind text DEFAULT 'auto'::text) RETURNS regclass LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '6eefd65b9497a1819ac54ac4217c9ea6';
CREATE FUNCTION mrl.database_marks() RETURNS TABLE(mark text, sure boolean) LANGUAGE sql VOLATILE
    SET search_path=pg_catalog, pg_temp AS '36eebbbe7cac1288872a89b75690e348';
CREATE FUNCTION mrl.default_effort(keep integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    PARALLEL SAFE AS 'f112aa9514ec256335a46af19bb5a7f5';
CREATE FUNCTION mrl.default_keep(k integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL
    SAFE AS 'b49c566b558e9ba1b2649dc8bfa65d54';
CREATE FUNCTION mrl.default_low_dims(nesting_dims integer[], dims integer) RETURNS integer LANGUAGE
    sql IMMUTABLE PARALLEL SAFE AS 'd602ed43e29e416ad9e9f49be35ecf27';
CREATE FUNCTION mrl.default_plan(collection text, k integer, shortlist integer DEFAULT
    NULL::integer) RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    'b27853fe5b58adb78328d8eacba6e0d9';
CREATE FUNCTION mrl.default_walk(candidates integer DEFAULT 0) RETURNS integer LANGUAGE sql
    IMMUTABLE STRICT PARALLEL SAFE AS '467ddce60a14975c146331be69d1fd81';
CREATE FUNCTION mrl.define_log(collection text) RETURNS text LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'd6e0db8d6aeaf78f1d5b2c3d41498a6d';
CREATE FUNCTION mrl.define_search(collection text) RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'f554b6fc1d85db862b69c617a651b07b';
CREATE FUNCTION mrl.define_search_if_allowed(collection text) RETURNS void LANGUAGE plpgsql VOLATILE
    SET search_path=pg_catalog, pg_temp AS '665536c4d49fcfaa1917bec180edc918';
CREATE FUNCTION mrl.define_searches() RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '4be249de3693546cc5d4f25edc0277e3';
CREATE FUNCTION mrl.describe(collection text) RETURNS json LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'af1084f85261130b956df660aa55b83b';
CREATE FUNCTION mrl.dims_constraint(vector text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL
    SAFE AS '508069a134f9fab319f7b53b888ce441';
CREATE FUNCTION mrl.doubled(statement text) RETURNS text LANGUAGE sql IMMUTABLE AS
    '89e5a21559d5de2a7dd61aaf95b01f27';
CREATE FUNCTION mrl.drop_collection(collection text) RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '4a789e8e9b22ffb47500b1ce3e701952';
CREATE FUNCTION mrl.drop_log(function_ regprocedure) RETURNS void LANGUAGE plpgsql VOLATILE STRICT
    SET search_path=pg_catalog, pg_temp AS '84900fef6cd813e15a7a528f94c480ff';
CREATE FUNCTION mrl.end_batch(relation oid, id text, rows_ bigint) RETURNS void LANGUAGE sql
    VOLATILE SET search_path=pg_catalog, pg_temp AS 'ea0174f79ee67b22fc38efe150601bdd';
CREATE FUNCTION mrl.ended_since(seen pg_snapshot) RETURNS text LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '7fd4bc74d60f0d49acdd0e8cb4b50844';
CREATE FUNCTION mrl.enums_fingerprint(relation oid) RETURNS text LANGUAGE plpgsql STABLE STRICT SET
    search_path=pg_catalog, pg_temp AS '479dbc73b7a4d53c896e6ec3b20d865c';
CREATE FUNCTION mrl.explain(collection text, query public.vector, k integer DEFAULT 10) RETURNS
    TABLE(stage integer, looks_at text, rows_in bigint, rows_out bigint, bytes_per_row integer,
    milliseconds double precision) LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '9ca09e4b37a4df777c5b78693debcee7';
CREATE FUNCTION mrl.extension_function(name text) RETURNS text LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS '0781d054c9c97e2d365b7da9f6b1ba2f';
CREATE FUNCTION mrl.few_keys(news json, most integer) RETURNS text[] LANGUAGE plpgsql IMMUTABLE
    STRICT SET search_path=pg_catalog, pg_temp AS 'd5e60bd76a51d778f1dad6aeeb16d88d';
CREATE FUNCTION mrl.filled(template text, plan jsonb, query text, k text, keep text, filter text
    DEFAULT 'TRUE'::text) RETURNS text LANGUAGE sql IMMUTABLE SET search_path=pg_catalog, pg_temp AS
    '8d3057587b067c2e65b95178b014987b';
CREATE FUNCTION mrl.find(collection text, whole boolean DEFAULT false) RETURNS mrl.collection
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS
    '97ad1ac5211ff48605f00934625a5ad6';
CREATE FUNCTION mrl.follow(relation oid, lease interval) RETURNS TABLE(id uuid, token uuid, seen
    text) LANGUAGE sql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '475cfacced770042b64346991293a763';
CREATE FUNCTION mrl.follow_from(id uuid, token uuid, lease interval) RETURNS TABLE(id uuid, token
    uuid, seen text) LANGUAGE sql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '78714c3ce848001775c36971a387ba71';
CREATE FUNCTION mrl.full_distance(c mrl.collection) RETURNS text LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS 'fb58a0cda71cf95dadcecf75d695469a';
CREATE FUNCTION mrl.full_operator_class(c mrl.collection) RETURNS text LANGUAGE sql STABLE STRICT
    PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS '20b4101279dba3f84925947d2500bdee';
CREATE FUNCTION mrl.has_heirs(relation regclass) RETURNS boolean LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '8ff8181876eaa8bd1d01ed61e55ffcb2';
CREATE FUNCTION mrl.has_replayed(wanted pg_lsn, seconds double precision) RETURNS boolean LANGUAGE
    plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS '4f5cccfc6dc366bd8f1258809ee7dc38';
CREATE FUNCTION mrl.has_standbys() RETURNS boolean LANGUAGE sql STABLE SET search_path=pg_catalog,
    pg_temp AS '347e0ba7e2dd4a542fef00b827851fd5';
CREATE FUNCTION mrl.index_comment(c mrl.collection, kind text) RETURNS text LANGUAGE sql IMMUTABLE
    STRICT PARALLEL SAFE AS '2a665761bed648d114287550bc6aab45';
CREATE FUNCTION mrl.index_effort(c mrl.collection) RETURNS integer LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '36d3ebcb1488427a1f7f16d75c872d18';
CREATE FUNCTION mrl.index_info(index regclass) RETURNS jsonb LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS '1dc92c868abaf5cdca13247ff49530f0';
CREATE FUNCTION mrl.index_kind(c mrl.collection, kind text) RETURNS text LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'f009638b4a69dcb2b97029b603d87551';
CREATE FUNCTION mrl.index_method(c mrl.collection, kind text, m integer, ef_construction integer)
    RETURNS text LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    '2cc8f51d6c8be889064bfacb0e5ae9ca';
CREATE FUNCTION mrl.index_name(name text, kind text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
    SET search_path=pg_catalog, pg_temp AS '1a90bf690f47429abaf86c38b8350900';
CREATE FUNCTION mrl.index_of(collection text) RETURNS regclass LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS 'd54f92ce3bdbfc92c8cf78d949ec2086';
CREATE FUNCTION mrl.index_statement(collection text, kind text, m integer DEFAULT 16,
    ef_construction integer DEFAULT 64, online boolean DEFAULT false) RETURNS TABLE(create_statement
    text, comment_statement text) LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    '8b02a9bcae0e6021860e8c9c151186c1';
CREATE FUNCTION mrl.indexes(c mrl.collection) RETURNS TABLE(index regclass, kind text) LANGUAGE sql
    STABLE SET search_path=pg_catalog, pg_temp AS 'af84ac2a2bfe143dd1579bb176bb9480';
CREATE FUNCTION mrl.keep_of(plan jsonb, number integer) RETURNS text LANGUAGE sql IMMUTABLE AS
    '6e0afb81adcd8a4b2d874e6204463aa7';
CREATE FUNCTION mrl.keep_promise(collection text, engine text, plan jsonb, promise jsonb) RETURNS
    timestamp with time zone LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    '583550c1cc12f462079799986acd0a2e';
CREATE FUNCTION mrl.key_is_indexed(relation regclass, key text) RETURNS boolean LANGUAGE sql STABLE
    SET search_path=pg_catalog, pg_temp AS '8930d1ca99ae1e18bd25891918e43e31';
CREATE FUNCTION mrl.key_order(c mrl.collection) RETURNS text LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS 'bc2401ff85800179dc4798fa13385500';
CREATE FUNCTION mrl.log_arguments(c mrl.collection, arguments text[]) RETURNS bytea LANGUAGE sql
    STABLE SET search_path=pg_catalog, pg_temp AS 'b558863aa1f8e33edb9b663195c96f37';
CREATE FUNCTION mrl.log_change() RETURNS trigger LANGUAGE plpgsql VOLATILE AS
    'c6a5f34e54ab169ad04906192ee5f575';
CREATE FUNCTION mrl.log_changes(collection text) RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'ba834db998547d5672c0ffe9412e5fd5';
CREATE FUNCTION mrl.log_fingerprint(relation oid) RETURNS text LANGUAGE plpgsql STABLE STRICT SET
    search_path=pg_catalog, pg_temp AS '578d03987f0287d7eff714e730b38dcf';
CREATE FUNCTION mrl.log_for_standbys(collection text, retain interval DEFAULT '00:15:00'::interval)
    RETURNS void LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    'dd1526cb307f27759fd8c5b8cdddb924';
CREATE FUNCTION mrl.log_text(key text, kind text) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS '9f7eb9c30c155b78b41e987eeeab8613';
CREATE FUNCTION mrl.log_triggers(c mrl.collection) RETURNS TABLE(part oid, present bigint, right_
    bigint) LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    'c9b39ee83432e7ae251308916aa12a86';
CREATE FUNCTION mrl.lost(collection text, query public.vector, want text[], k integer DEFAULT 10)
    RETURNS TABLE(id text, stage integer, reason text, rank bigint, keep integer) LANGUAGE plpgsql
    STABLE SET search_path=pg_catalog, pg_temp AS 'ae4ef6c48cddff6dfa7df1b7cd069ac2';
CREATE FUNCTION mrl.low_dim_sql(c mrl.collection) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL
    SAFE AS '330ae1be46d61bc762d3d21d08915f69';
CREATE FUNCTION mrl.matching(c mrl.collection) RETURNS text LANGUAGE sql IMMUTABLE SET
    search_path=pg_catalog, pg_temp AS '7fce68b59486d5f45f0f02c58272b7e2';
CREATE FUNCTION mrl.metric_operator(metric text, prefix boolean) RETURNS text LANGUAGE sql IMMUTABLE
    STRICT PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS '3ebe46d53101e89e7f23e8c5f01f7d31';
CREATE FUNCTION mrl.metrics() RETURNS TABLE(name text, operator text, classes text, prefix_operator
    text, prefix_classes text, unit_prefixes boolean) LANGUAGE sql IMMUTABLE PARALLEL SAFE SET
    search_path=pg_catalog, pg_temp AS '258e0207c0db487f12edb1a443b5cb91';
CREATE FUNCTION mrl.misses_for_rows(route text, effort integer) RETURNS double precision LANGUAGE
    sql IMMUTABLE PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS
    '31d5cb8f6989612ee5f195239c53e30c';
CREATE FUNCTION mrl.news(relation oid, seen text, started text, reader uuid, token uuid) RETURNS
    json LANGUAGE sql STABLE AS '177150e95ff75bbc19479137316bcdf6';
CREATE FUNCTION mrl.none_ended_since(seen pg_snapshot) RETURNS boolean LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '9ba1e8425ccad335228402345ba5f7ba';
CREATE FUNCTION mrl.note_cut(relation oid, xid xid8) RETURNS void LANGUAGE sql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '47815a4cb48f01a4b6ce72b9f4e5df6d';
CREATE FUNCTION mrl.note_moment() RETURNS void LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog,
    pg_temp AS '4b7fb3d35142686e055cdc5335da3dc6';
CREATE FUNCTION mrl.on_collection() RETURNS trigger LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'afd7cf9a717cac135c7c2c7c77ea3a88';
CREATE FUNCTION mrl.on_log_cut() RETURNS trigger LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '2c214e419af6710ec4936367dd459a14';
CREATE FUNCTION mrl.open_keep(plan jsonb, k integer) RETURNS integer LANGUAGE sql IMMUTABLE STRICT
    PARALLEL SAFE AS 'd9669e1ff4166bc7c5beb79876ef9a90';
CREATE FUNCTION mrl.partition_index_steps(collection text, kind text, m integer DEFAULT 16,
    ef_construction integer DEFAULT 64) RETURNS TABLE(step text, alone boolean) LANGUAGE plpgsql
    STABLE SET search_path=pg_catalog, pg_temp AS '01879b6b8c3309a7b7328bc80f4336bb';
CREATE FUNCTION mrl.partitions(relation oid) RETURNS TABLE(part oid, level integer, kind "char",
    attached xid, leaving boolean) LANGUAGE sql STABLE STRICT SET search_path=pg_catalog, pg_temp AS
    '62807c9d346c5feca510124ab67ca6c1';
CREATE FUNCTION mrl.partitions_fingerprint(relation oid) RETURNS text LANGUAGE plpgsql STABLE STRICT
    SET search_path=pg_catalog, pg_temp AS '45c37eb487b8bbaeb8c029d3b5e6a2b4';
CREATE FUNCTION mrl.plain_type(name text) RETURNS regtype LANGUAGE plpgsql STABLE STRICT PARALLEL
    SAFE SET search_path=pg_catalog, pg_temp AS '0592c928ee9710a523d220910ad03f16';
CREATE FUNCTION mrl.plan_of(c mrl.collection) RETURNS jsonb LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '9e7318d87f2125266795380b5e6fad03';
CREATE FUNCTION mrl.prefix(embedding public.vector, dims integer) RETURNS public.vector LANGUAGE sql
    IMMUTABLE STRICT PARALLEL SAFE AS '344b0d65cf8e7aad658c0111d75c62cd';
CREATE FUNCTION mrl.prefix_expression(vector text, dims integer, metric text, vector_schema text
    DEFAULT quote_ident(mrl.vector_schema())) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path=pg_catalog, pg_temp AS 'fe8bdb18714ea1b2a11b168b64532c73';
CREATE FUNCTION mrl.query_words(relation regclass, words_column text, language text, query text,
    every boolean) RETURNS TABLE(word tsquery, weight double precision) LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'faafdb4049e2f8d2f3db30ce9176f6a3';
CREATE FUNCTION mrl.recall(collection text, k integer DEFAULT 10, queries integer DEFAULT 100, given
    public.vector[] DEFAULT NULL::public.vector[]) RETURNS TABLE(asked integer, mean double
    precision, p05 double precision, minimum double precision, low double precision, high double
    precision) LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    'a17a1287367ff9c3f32f8e3c25e3e99e';
CREATE FUNCTION mrl.refuse_another(collection text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET
    search_path=pg_catalog, pg_temp AS '3c25a5244bf3fdc0e5083cd4ed3a752e';
CREATE FUNCTION mrl.rising(widths integer[]) RETURNS integer[] LANGUAGE sql IMMUTABLE STRICT
    PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS 'd40926a29f33c5db3f54422b4f6d684a';
CREATE FUNCTION mrl.route_settings(c mrl.collection, plan jsonb) RETURNS text LANGUAGE plpgsql
    STABLE SET search_path=pg_catalog, pg_temp AS 'f6e6e2b7b94a1516402e04bebdca56c6';
CREATE FUNCTION mrl.search_by_name(collection text) RETURNS text LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'f3dc2dd68bab619dbd1b8f1dc6c8ec0f';
CREATE FUNCTION mrl.search_statement(collection text, plan jsonb DEFAULT NULL::jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path=pg_catalog, pg_temp AS
    'dd22a83dddd8a1407096195a52545043';
CREATE FUNCTION mrl.seen_now() RETURNS text LANGUAGE sql STABLE AS
    '4b72b215b56045047fa3bb35407b685e';
CREATE FUNCTION mrl.server_start() RETURNS text LANGUAGE sql STABLE AS
    '97e1b603701d2e849a9b723fd2ebdbfd';
CREATE FUNCTION mrl.set_adaptor(collection text, adaptor bytea) RETURNS void LANGUAGE plpgsql
    VOLATILE SET search_path=pg_catalog, pg_temp AS 'a0812825b3b6b7fbb52941cde5044ed2';
CREATE FUNCTION mrl.set_back(settings text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS
    '5823980037458e6465635fba500991a9';
CREATE FUNCTION mrl.set_plan(collection text, plan jsonb, engine text DEFAULT 'sql'::text) RETURNS
    void LANGUAGE plpgsql VOLATILE SET search_path=pg_catalog, pg_temp AS
    'c162514c4b651c6320067ce6ca542f79';
CREATE FUNCTION mrl.settings() RETURNS text[] LANGUAGE plpgsql STABLE AS
    'a85da7e38a67e445d7b65252ac364061';
CREATE FUNCTION mrl.shortlist_statement(c mrl.collection, plan jsonb, stages integer, ready text
    DEFAULT ''::text, walk boolean DEFAULT true) RETURNS text LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS '822c1d3ff6126fcdda117f6ff2b66233';
CREATE FUNCTION mrl.stage_distance(c mrl.collection, stage jsonb) RETURNS text LANGUAGE sql STABLE
    SET search_path=pg_catalog, pg_temp AS '81f5c02fc3208ead80665cd2fa589f2d';
CREATE FUNCTION mrl.stage_times(explained jsonb) RETURNS TABLE(stage integer, access text, rows_out
    bigint, milliseconds double precision) LANGUAGE plpgsql STABLE SET search_path=pg_catalog,
    pg_temp AS '84d4a7d5a6385c38c1920dfeca9df9c7';
CREATE FUNCTION mrl.standby_news(relation oid, seen pg_snapshot) RETURNS json LANGUAGE plpgsql
    VOLATILE SET search_path=pg_catalog, pg_temp AS 'b9e06ed40bca4747ee16bf4c54bed716';
CREATE FUNCTION mrl.table_of(c mrl.collection) RETURNS text LANGUAGE plpgsql STABLE SET
    search_path=pg_catalog, pg_temp AS 'a410e70f8dface75c1085171cd11a2ae';
CREATE FUNCTION mrl.target(c mrl.collection) RETURNS text LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '2272628750bde398ee4bfbe7bbb2a019';
CREATE FUNCTION mrl.tree_arguments(c mrl.collection) RETURNS text[] LANGUAGE sql STABLE SET
    search_path=pg_catalog, pg_temp AS '8abb6e788dcb9c47d6240a7b2c85d2f6';
CREATE FUNCTION mrl.trim_batches(older_than interval DEFAULT '7 days'::interval) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path=pg_catalog, pg_temp AS '1c980f24686bc06d24640577b7a6f4c9';
CREATE FUNCTION mrl.trim_by_chance() RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'ed7e4e1cb3b319c327130bae6c9383ed';
CREATE FUNCTION mrl.trim_changes() RETURNS bigint LANGUAGE sql VOLATILE SET search_path=pg_catalog,
    pg_temp SET enable_seqscan=off SET enable_hashjoin=off SET enable_mergejoin=off AS
    'b1dcc41363119e1efe841307a9b91cf4';
CREATE FUNCTION mrl.type_of(relation regclass, column_name text) RETURNS text LANGUAGE sql STABLE
    STRICT PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS '96291f308d4d3c23c574ac190aaac6a9';
CREATE FUNCTION mrl.unlog_changes(relation regclass) RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS '6cf4b4a93823a621d145ef4ebf07606f';
CREATE FUNCTION mrl.unlog_unread() RETURNS bigint LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp SET lock_timeout=200ms AS '36700d18d229b4dc69b6dc422aac5d30';
CREATE FUNCTION mrl.usual_retention() RETURNS interval LANGUAGE sql STABLE AS
    '560ac5bd09725572c13b76718150720b';
CREATE FUNCTION mrl.vector_schema() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
    '0079058b577df3c95e09227b36ba95f9';
CREATE FUNCTION mrl.vector_type(c mrl.collection) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL
    SAFE SET search_path=pg_catalog, pg_temp AS 'bd3d70a7fe5b53a5175fc56e2a865ff6';
CREATE FUNCTION mrl.wait_briefly() RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'eae099b047924096fb7ea6a9cccb45a9';
CREATE FUNCTION mrl.wait_for_partitions(relation oid) RETURNS void LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'dc71ed80d8e68c82eb05162e1d9bd160';
CREATE FUNCTION mrl.wait_for_turn(collection text) RETURNS void LANGUAGE sql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'c4d603d24dcd2a56c0b73facef62c2d3';
CREATE FUNCTION mrl.wal_position() RETURNS pg_lsn LANGUAGE plpgsql VOLATILE SET
    search_path=pg_catalog, pg_temp AS 'f2e3f19de9b4d07f33c134f339fd5aad';
CREATE FUNCTION mrl.walk_misses(ef_search integer) RETURNS double precision LANGUAGE sql IMMUTABLE
    STRICT PARALLEL SAFE SET search_path=pg_catalog, pg_temp AS '4cdc15b90ade0ec996fe7566a21b76ad';
CREATE FUNCTION mrl.wire_type(type regtype) RETURNS regtype LANGUAGE plpgsql STABLE STRICT SET
    search_path=pg_catalog, pg_temp AS '4193ea82689a8b0bf947fa87f5501bbf';

-- Triggers
CREATE TRIGGER log_cut AFTER DELETE ON mrl.change REFERENCING OLD TABLE AS old_rows FOR EACH
    STATEMENT EXECUTE FUNCTION mrl.on_log_cut();
CREATE TRIGGER log_emptied AFTER TRUNCATE ON mrl.change FOR EACH STATEMENT EXECUTE FUNCTION
    mrl.on_log_cut();
CREATE TRIGGER log_changes AFTER DELETE ON mrl.collection FOR EACH ROW EXECUTE FUNCTION
    mrl.on_collection();

-- Rights beside the owner's
GRANT USAGE ON SCHEMA mrl TO PUBLIC;
GRANT INSERT ON mrl.change TO PUBLIC;
GRANT SELECT ON mrl.text_search TO PUBLIC;

-- Comments
COMMENT ON SCHEMA mrl IS 'Funnel search over embeddings: collections, plans and their search
    functions (mrl_db).';
COMMENT ON TABLE mrl.adaptor IS 'What changes vectors before they are stored in a collection, and
    queries before they are compared with them, as an .npz file: a rotation, or a rotation with a
    small network. What writes or searches by SQL gives vectors that were changed already.';
COMMENT ON TABLE mrl.batch IS 'Writes that were given a batch_id, each committed with its row here:
    who sends one again finds it done. Kept for a week at least.';
COMMENT ON TABLE mrl.change IS 'The change log: one row for each statement that wrote to a
    collection. The array of the key''s type has the keys; where all three are NULL, any row may
    have changed (TRUNCATE).';
COMMENT ON TABLE mrl.classifier IS 'Cascades of heads over prefixes of a collection''s vectors, each
    as an .npz file, with what it was proven to keep.';
COMMENT ON TABLE mrl.collection IS 'One row for each collection: a table, its key, its vector
    column, its low-dim column, metric and nesting dims.';
COMMENT ON TABLE mrl.cut IS 'Up to where the log of a table was cut: the last transaction whose
    changes were removed. A reader on a standby that has not seen it compares rows.';
COMMENT ON TABLE mrl.logged IS 'Tables whose changes are logged because somebody read them in a
    process: mrl.log_changes() makes the triggers, and mrl.unlog_unread() takes them away when
    nobody has for a week.';
COMMENT ON TABLE mrl.migration IS 'The files of sql/ applied to this schema, each with its SHA-256
    and the version of mrl_db that applied it. A changed file of tables is an error; a changed file
    of functions is applied again.';
COMMENT ON TABLE mrl.moment IS 'By which transactions changes are told to be old: all before
    `oldest` had ended `at` a moment.';
COMMENT ON TABLE mrl.plan IS 'The plan that searches of a collection use with an engine; without a
    row, the default plan.';
COMMENT ON TABLE mrl.promise IS 'What the stored plan of a collection was measured to keep: recall,
    its statistic and k, and the evidence. Goes when the plan goes.';
COMMENT ON TABLE mrl.reader IS 'Who follows the change log: changes visible in the snapshot `seen`
    are no longer needed, and after `lease` none are.';
COMMENT ON TABLE mrl.text_search IS 'The text of a collection that is searched by its words: the
    column, the generated tsvector of it, which has a GIN index, and the text search
    configuration.';
COMMENT ON COLUMN mrl.classifier.about IS 'The report of its stopping rule: target, accuracy, dims,
    and their bounds.';
COMMENT ON COLUMN mrl.collection.adapted IS 'Whether mrl.adaptor has a row for it.';
COMMENT ON COLUMN mrl.collection.low_dim_column IS 'The stored generated column of the prefix; NULL
    when an expression index stands for it.';
COMMENT ON COLUMN mrl.collection.owns_column IS 'Whether the low-dim column was added by us, and
    goes when the collection goes.';
COMMENT ON COLUMN mrl.collection.owns_table IS 'Whether dropping the collection drops the table:
    true for create_collection, false for attach.';
COMMENT ON COLUMN mrl.logged.retain IS 'How long changes are kept for readers on standbys, for whose
    sake the triggers stay too (mrl.log_for_standbys()); NULL: a quarter of an hour while a standby
    is there.';
COMMENT ON COLUMN mrl.reader.token IS 'New at every acknowledgement: a reader that does not find its
    own token here follows another history of this database.';
