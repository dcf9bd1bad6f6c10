"""Tables that exist already: any schema, any quoting, any key, data in them."""

import uuid
import warnings

import numpy as np
import pytest

import mrl_db

ODD = "We \"ird' %s {table}; --"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("key_type", ["bigint", "integer", "uuid", "text", "varchar(90)"])
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
@pytest.mark.parametrize("low_dim", ["column", "index"])
def test_a_table_with_data_becomes_a_collection(db, execute, rng, key_type, vector_type, low_dim):
    table = f"{quoted('Odd Schema')}.{quoted(ODD)}"
    execute(f"CREATE SCHEMA {quoted('Odd Schema')}")
    execute(
        f"CREATE TABLE {table} ({quoted('the %key')} {key_type} PRIMARY KEY, {quoted('the {vec}')} {vector_type}(12), {quoted('na%me')} text)"
    )
    vectors = rng.standard_normal((60, 12)).astype(np.float16).astype(np.float32)
    keys = [
        uuid.UUID(int=i) if key_type == "uuid" else str(i) if key_type.startswith(("t", "v")) else i
        for i in range(60)
    ]
    for key, vector in zip(keys, vectors, strict=True):
        execute(
            f"INSERT INTO {table.replace('%', '%%')} VALUES (%s, %s, 'x')",
            [key, str(vector.tolist())],
        )

    docs = db.attach(
        table, vector="the {vec}", key="the %key", nesting_dims=(4, 12), low_dim=low_dim
    )
    docs.create_index()
    hits = docs.search(
        vectors[7], k=3, shortlist=60, where={"na%me": {"$like": "x%"}}, columns=["na%me"]
    )
    exact = docs.search(vectors[7], k=3, where={"na%me": "x"}, exact=True, columns=["na%me"])

    assert docs.name == ODD
    assert docs.indexed
    assert hits.ids[0] == exact.ids[0] == keys[7]
    assert hits.ids.tolist() == exact.ids.tolist()
    np.testing.assert_allclose(
        hits.distances, exact.distances, atol=2e-3 if vector_type == "halfvec" else 2e-6
    )
    assert docs.upsert([keys[0]], vectors[:1]) == 1
    assert docs.delete([keys[0]]) == 1
    function = "search_" + ODD
    rows = execute(
        f"SELECT * FROM mrl.{quoted(function)}((SELECT t.{quoted('the {vec}')}::vector FROM {table} t LIMIT 1), 2)"
    )
    assert len(rows) == 2
    db.drop(ODD)
    columns = execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    assert [row[0] for row in columns] == ["the %key", "the {vec}", "na%me"]
    assert execute("SELECT count(*) FROM pg_indexes WHERE schemaname = 'Odd Schema'") == [(1,)]


@pytest.mark.parametrize(
    ("create", "arguments", "said"),
    [
        ("CREATE TABLE t (id bigint, embedding vector(3))", {}, "not unique"),
        ("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector)", {}, "does not say its dims"),
        ("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))", {"dims": 4}, "dims is 4"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))",
            {"vector": "e"},
            "no column",
        ),
        ("CREATE TABLE t (id bigint PRIMARY KEY, embedding real[])", {}, "no column"),
        ("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))", {"key": "k"}, "key"),
        ("CREATE TABLE t (id date PRIMARY KEY, embedding vector(3))", {}, "date"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))",
            {"nesting_dims": (2, 4)},
            "3 dims",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY DEFERRABLE, embedding vector(3))",
            {},
            "DEFERRABLE.*DROP CONSTRAINT",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3)); "
            "CREATE TABLE heirs () INHERITS (t); INSERT INTO t VALUES (1); "
            "INSERT INTO heirs VALUES (1)",
            {},
            "1 keys stand on several rows.*inherit from it included",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, a real[], "
            "embedding vector(3) GENERATED ALWAYS AS (a::vector(3)) STORED)",
            {"low_dim": "column"},
            'is generated.*low_dim="index"',
        ),
        ("CREATE VIEW t AS SELECT 1 AS id, '[1]'::vector(1) AS embedding", {}, "not a table"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))",
            {"low_dim": "both"},
            "low_dim",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))",
            {"metric": "hamming"},
            "metric",
        ),
    ],
)
def test_a_table_that_cannot_be_attached_is_refused_with_the_way_out(
    db, execute, create, arguments, said
):
    execute(create)

    with pytest.raises(mrl_db.ValueRangeError, match=said):
        db.attach("t", **arguments)

    assert db.list() == []


def test_rows_of_other_dims_are_noticed(db, execute):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector)")
    execute("INSERT INTO t VALUES (1, '[1,2,3]'), (2, '[1,2]')")

    with pytest.raises(mrl_db.ValueRangeError, match="1 rows of t have other than 3 dims|1 rows"):
        db.attach("t", dims=3)


def test_rows_without_a_vector_are_read_and_not_searched(db, execute):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(2))")
    execute("INSERT INTO t VALUES (1, '[1,2]'), (2, NULL)")
    docs = db.attach("t")

    assert docs.count() == 2
    assert docs.get([1, 2]).ids.tolist() == [1, 2]
    assert docs.count({"embedding": {"$exists": True}}) == 1
    for exact in (False, True):
        assert docs.search([1.0, 1.0], k=5, exact=exact).ids.tolist() == [1]


def test_zero_vectors_of_others_come_last_as_in_pgvector(db, execute):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(2))")
    execute("INSERT INTO t VALUES (1, '[0,0]'), (2, '[-1,0]'), (3, '[1,0]')")
    docs = db.attach("t")
    docs.create_index()

    for exact in (False, True):
        hits = docs.search([1.0, 0.0], k=3, exact=exact)
        assert hits.ids.tolist() == [3, 2, 1]
        assert np.isnan(hits.distances[2])


def test_a_large_table_is_not_rewritten_unasked(db, execute, monkeypatch):
    import mrl_db.database

    monkeypatch.setattr(mrl_db.rewriting, "_REWRITE_BYTES", 1000)
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))")

    with pytest.warns(mrl_db.LargeTableWarning, match="exclusive lock"):
        db.attach("t")

    assert execute(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attgenerated <> ''"
    ) == [(0,)]
    db.drop("t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        db.attach("t", low_dim="column")
    assert execute(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attgenerated <> ''"
    ) == [(1,)]


@pytest.mark.parametrize(
    "table", ["nowhere", "public.nowhere", "no.such.table.at.all", 'a"b', "", "x;y", "nul\0"]
)
def test_a_table_that_is_not_there_is_named(db, table):
    with pytest.raises((mrl_db.CollectionNotFoundError, mrl_db.ValueRangeError)):
        db.attach(table)


def test_a_table_is_attached_once(db, execute):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))")
    db.attach("t")

    with pytest.raises(mrl_db.CollectionExistsError, match="already"):
        db.attach("t", name="other")


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("vector_type", ["vector", "halfvec"])
def test_the_prefix_of_a_search_is_the_indexed_expression(db, execute, rng, metric, vector_type):
    """They must be one text, or the index would not be used."""
    execute(f"CREATE TABLE t (id bigint PRIMARY KEY, embedding {vector_type}(16))")
    docs = db.attach("t", nesting_dims=(8, 16), metric=metric, low_dim="index")
    docs.add(np.arange(5000), rng.standard_normal((5000, 16), dtype=np.float32))
    docs.create_index(kind="hnsw")
    execute("ANALYZE t")

    assert docs.explain(np.ones(16), k=5, shortlist=40).stages[0].name.startswith("hnsw")


@pytest.mark.parametrize("before", [True, False])
def test_keys_stay_unique_over_tables_that_inherit(db, execute, before):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(2))")
    if before:
        execute("CREATE TABLE heirs () INHERITS (t)")
    docs = db.attach("t")
    if not before:
        execute("CREATE TABLE heirs () INHERITS (t)")
        docs = db["t"]
    execute("INSERT INTO heirs (id, embedding) VALUES (1, '[1,2]')")

    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([1], [[1.0, 0.0]])
    assert docs.add([1, 2], [[1.0, 0.0], [0.0, 1.0]], on_conflict="skip") == 1
    assert docs.upsert([1], [[3.0, 4.0]]) == 1

    assert docs.search([3.0, 4.0], k=5).ids.tolist() == [1, 2]
    assert [row["id"] for row in docs.scan().to_list()] == [1, 2]
