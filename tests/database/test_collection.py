"""Creating, writing, reading and searching a collection, judged by brute force."""

import uuid

import numpy as np
import oracle
import pytest

import mrl_db
from mrl_db import Metric

METRICS = ["cosine", "inner_product", "l2"]


def keys_of(kind, n):
    if kind == "uuid":
        return [uuid.UUID(int=7 * i + 1) for i in range(n)]
    if kind == "text":
        return [f"ключ '{i}' \"%s\" \\ {{}}" for i in range(n)]
    return list(range(n))


@pytest.mark.parametrize("key_type", ["bigint", "integer", "smallint", "uuid", "text"])
@pytest.mark.parametrize("metric", METRICS)
def test_both_engines_give_the_brute_force_answer(db, rng, metric, key_type):
    """Law 3: exact search, and a funnel that keeps everything, equal the float64 twin."""
    vectors = rng.standard_normal((300, 24), dtype=np.float32)
    keys = keys_of(key_type, 300)
    docs = db.create_collection(
        "docs", dims=24, nesting_dims=(8, 24), metric=metric, key_type=key_type
    )
    docs.add(keys, vectors)
    queries = rng.standard_normal((5, 24), dtype=np.float32)

    exact = docs.search(queries, k=10, exact=True)
    funnel = docs.search(queries, k=10, shortlist=300)

    assert exact.ids.shape == funnel.ids.shape == (5, 10)
    for place, query in enumerate(queries):
        want = oracle.nearest(metric, query, keys, vectors, 10)
        assert exact[place].ids.tolist() == [key for _, key in want]
        np.testing.assert_allclose(
            exact[place].distances, [d for d, _ in want], rtol=1e-12, atol=1e-12
        )
        oracle.assert_same_answer(funnel[place], want)


@pytest.mark.parametrize("metric", METRICS)
def test_the_low_dim_column_is_the_python_prefix(db, execute, rng, metric):
    from mrl_db.model.nesting import prefix

    vectors = rng.standard_normal((50, 16), dtype=np.float32)
    vectors[0, :4] = 0
    db.create_collection("docs", dims=16, nesting_dims=(4, 16), metric=metric).add(
        np.arange(50), vectors
    )

    stored = execute("SELECT embedding_4::vector::real[] FROM docs ORDER BY id")

    want = prefix(vectors, 4, Metric.of(metric)).astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(np.array([row[0] for row in stored]), want, rtol=1e-3, atol=1e-6)


def test_one_query_gives_one_axis_and_a_batch_two(db, rng):
    docs = db.create_collection("docs", dims=4)
    docs.add([1, 2, 3], rng.standard_normal((3, 4)))

    one = docs.search([1.0, 0.0, 0.0, 0.0], k=2)
    batch = docs.search(np.eye(4), k=2)

    assert (one.ids.shape, one.distances.shape, one.ids.dtype, one.distances.dtype) == (
        (2,),
        (2,),
        np.int64,
        np.float64,
    )
    assert (batch.ids.shape, batch.distances.shape) == ((4, 2), (4, 2))
    assert batch[0].ids.tolist() == one.ids.tolist()


@pytest.mark.parametrize("exact", [False, True])
def test_fewer_than_k_rows_give_all_of_them(db, rng, exact):
    docs = db.create_collection("docs", dims=4)

    assert docs.search(np.ones(4), k=5, exact=exact).ids.shape == (0,)
    docs.add([1, 2, 3], rng.standard_normal((3, 4)))

    assert sorted(docs.search(np.ones(4), k=5, exact=exact).ids.tolist()) == [1, 2, 3]
    assert docs.search(np.ones((2, 4)), k=5, exact=exact).ids.shape == (2, 3)


def test_the_largest_k_gives_all_rows(db, execute, rng):
    docs = db.create_collection("docs", dims=4)
    docs.add(range(300), rng.standard_normal((300, 4)))

    for exact in (False, True):
        assert docs.search(np.ones(4), k=2**31 - 1, exact=exact).ids.shape == (300,)
    assert len(execute("SELECT * FROM mrl.search_docs('[1,1,1,1]', 2147483647)")) == 300


@pytest.mark.parametrize("exact", [False, True])
def test_ties_are_broken_by_id(db, exact):
    docs = db.create_collection("docs", dims=2, metric="l2")
    docs.add([9, 3, 7, 1, 5], np.ones((5, 2)))

    assert docs.search(np.ones(2), k=3, exact=exact).ids.tolist() == [1, 3, 5]


@pytest.mark.parametrize("keep", [50, 200, 1500])
def test_the_shortlist_is_never_cut_by_ef_search(db, execute, rng, keep):
    """HNSW returns at most ef_search rows; the shortlist must be as long as the plan says."""
    vectors = rng.standard_normal((2000, 16), dtype=np.float32)
    docs = db.create_collection("docs", dims=16, nesting_dims=(8, 16))
    docs.add(np.arange(2000), vectors)
    docs.create_index(kind="hnsw")

    trace = docs.search(vectors[0], k=10, shortlist=keep).trace

    assert docs.indexed
    assert trace.stages[-1].rows_in == keep


def test_the_shortlist_uses_the_low_dim_index(db, execute, rng):
    docs = db.create_collection("docs", dims=16, nesting_dims=(8, 16))
    docs.add(np.arange(5000), rng.standard_normal((5000, 16), dtype=np.float32))
    docs.create_index(kind="hnsw")
    execute("ANALYZE docs")

    trace = docs.explain(np.ones(16), k=5, shortlist=40)

    assert trace.stages[0].name.startswith("hnsw")
    assert [stage.rows_out for stage in trace.stages] == [40, 5]
    assert all(stage.microseconds > 0 for stage in trace.stages)


def test_k_rows_come_back_under_any_filter(db, rng):
    """The loudest complaint about indexes in Postgres: filters that return fewer than k rows."""
    docs = db.create_collection("docs", dims=16, nesting_dims=(8, 16), columns={"grade": "integer"})
    vectors = rng.standard_normal((4000, 16), dtype=np.float32)
    docs.add(np.arange(4000), vectors, grade=np.arange(4000) % 1000)
    docs.create_index(kind="hnsw")

    for grades in (1, 2, 3, 10, 100, 500):
        where = {"grade": {"$lt": grades}}
        matching = docs.count(where)
        hits = docs.search(rng.standard_normal((3, 16)), k=10, where=where)
        assert hits.ids.shape == (3, min(10, matching))
        assert np.all(hits.ids % 1000 < grades)


def test_dead_rows_do_not_shorten_the_answer(db, rng):
    docs = db.create_collection("docs", dims=16, nesting_dims=(8, 16))
    docs.add(np.arange(3000), rng.standard_normal((3000, 16), dtype=np.float32))
    docs.create_index(kind="hnsw")
    docs.delete(np.arange(2950))

    hits = docs.search(rng.standard_normal((5, 16)), k=20)

    assert hits.ids.shape == (5, 20)
    assert hits.ids.min() >= 2950


def test_deletes_upserts_and_gets(db, rng):
    vectors = rng.standard_normal((5, 3), dtype=np.float32)
    docs = db.create_collection("docs", dims=3, columns={"title": "text", "year": "integer"})

    assert docs.add([1, 2, 3], vectors[:3], title=["a", "b", None], year=[1, 2, 3]) == 3
    assert docs.upsert([3, 4], vectors[3:], title=["c", "d"]) == 2
    assert docs.delete([1, 99]) == 1
    assert docs.count() == 3

    found = docs.get([4, 3, 77, 2])
    assert found.ids.tolist() == [4, 3, 2]
    np.testing.assert_array_equal(found.vectors, vectors[[4, 3, 1]])
    assert found.columns == {"title": ["d", "c", "b"], "year": [None, 3, 2]}
    assert docs.get(2, columns=["year"]).columns == {"year": [2]}
    assert docs.delete(where={"year": {"$gte": 3}}) == 1
    assert docs.delete(where={}) == 2


def test_columns_come_along(db, rng):
    docs = db.create_collection("docs", dims=3, columns={"title": "text"})
    docs.add([1, 2], np.eye(2, 3), title=["one", "two"])

    for exact in (False, True):
        hits = docs.search(np.eye(3)[0], k=2, columns=["title"], exact=exact)
        assert hits.to_list() == [
            {"id": 1, "distance": 0.0, "title": "one"},
            {"id": 2, "distance": 1.0, "title": "two"},
        ]
        frame = docs.search(np.eye(3)[:2], k=2, columns=["title"], exact=exact).to_pandas()
        assert frame.columns.tolist() == ["query", "rank", "id", "distance", "title"]
        assert frame["title"].tolist() == ["one", "two", "two", "one"]


def test_every_column_type_survives_the_round_trip(db):
    import datetime
    import decimal

    values = {
        "boolean": True,
        "smallint": -3,
        "integer": 2**31 - 1,
        "bigint": -(2**63),
        "real": 0.5,
        "double precision": 0.1,
        "numeric": decimal.Decimal("1.250"),
        "text": "quotes ' \" and %s {} ünïcode",
        "varchar": "v",
        "date": datetime.date(2026, 11, 21),
        "timestamptz": datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc),
        "timestamp": datetime.datetime(2026, 11, 21),
        "uuid": uuid.UUID(int=5),
        "jsonb": {"a": [1, None]},
        "text[]": ["x", "y"],
        "bytea": b"\x00\xff",
    }
    columns = {f"c{i}": kind for i, kind in enumerate(values)}
    docs = db.create_collection("docs", dims=2, columns=columns)

    docs.add(
        [1, 2],
        np.eye(2),
        **{name: [value, None] for name, value in zip(columns, values.values(), strict=True)},
    )

    found = docs.get([1, 2])
    assert {name: pair[0] for name, pair in found.columns.items()} == dict(
        zip(columns, values.values(), strict=True)
    )
    assert all(pair[1] is None for pair in found.columns.values())


def test_add_is_all_or_nothing(db):
    docs = db.create_collection("docs", dims=2)
    docs.add([5], [[1.0, 0.0]])

    with pytest.raises(mrl_db.DuplicateKeyError, match="upsert"):
        docs.add([1, 2, 5], np.ones((3, 2)))

    assert docs.count() == 1


def test_a_three_stage_plan_is_one_funnel_in_python_and_psql(db, execute, rng):
    vectors = rng.standard_normal((500, 32), dtype=np.float32)
    docs = db.create_collection("docs", dims=32, nesting_dims=(8, 16, 32), shortlist_dims=8)
    docs.add(np.arange(500), vectors)
    half, full = mrl_db.Precision.float16, mrl_db.Precision.float32
    plan = mrl_db.Plan(
        "hnsw",
        100,
        (mrl_db.Stage(8, half, 100), mrl_db.Stage(16, half, 30), mrl_db.Stage(32, full, 10)),
    )

    hits = docs.search(vectors[3], k=10, plan=plan)
    docs.set_plan(plan)
    stored = docs.search(vectors[3], k=10)
    rows = execute(
        "SELECT id, distance FROM mrl.search_docs((SELECT embedding FROM docs WHERE id = 3), 10)"
    )

    assert [stage.rows_in for stage in hits.trace.stages] == [None, None, 30]
    assert hits.ids.tolist() == stored.ids.tolist() == [row[0] for row in rows]
    np.testing.assert_allclose(hits.distances, [row[1] for row in rows])
    assert db.open("docs").plan == plan
    docs.set_plan(None)
    assert len(docs.plan.stages) == 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("low_dim", ["column", "index"])
def test_psql_and_python_find_the_same(db, execute, rng, metric, low_dim):
    vectors = rng.standard_normal((400, 20), dtype=np.float32)
    execute("CREATE TABLE articles (id text PRIMARY KEY, embedding vector(20))")
    docs = db.attach("articles", nesting_dims=(10, 20), metric=metric, low_dim=low_dim)
    docs.add([f"k{i}" for i in range(400)], vectors)
    docs.create_index(kind="hnsw")

    for query in vectors[:5]:
        hits = docs.search(query, k=7, shortlist=60)
        rows = execute(
            "SELECT * FROM mrl.search_articles(%s::vector, k => 7, shortlist => 60)",
            [str(query.tolist())],
        )
        assert [row[0] for row in rows] == hits.ids.tolist()
        np.testing.assert_allclose([row[1] for row in rows], hits.distances, rtol=1e-6, atol=1e-7)


def test_the_sql_function_changes_no_setting_and_finds_k(db, execute, dsn, rng):
    import psycopg

    docs = db.create_collection("docs", dims=16, nesting_dims=(8, 16))
    docs.add(np.arange(3000), rng.standard_normal((3000, 16), dtype=np.float32))
    docs.create_index(kind="hnsw")
    docs.delete(np.arange(2900))

    with psycopg.connect(dsn) as connection:
        connection.execute("SET hnsw.ef_search = 7")
        rows = connection.execute(
            "SELECT * FROM mrl.search_docs((SELECT embedding FROM docs LIMIT 1), k => 50)"
        ).fetchall()
        assert len(rows) == 50
        assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("7",)
        assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("off",)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("mrl.search_docs('[1,2]')", "query has 2 dims, collection .docs. has 3"),
        ("mrl.search_docs(NULL)", "0 dims"),
        ("mrl.search_docs('[1,2,3]', 0)", "wanted at least 1"),
        ("mrl.search_docs('[0,0,0]')", "zero vector"),
    ],
)
def test_the_sql_function_refuses_bad_input(db, execute, call, said):
    import psycopg

    db.create_collection("docs", dims=3)

    with pytest.raises(psycopg.Error, match=said):
        execute(f"SELECT * FROM {call}")


def test_a_row_written_by_psql_is_found(db, execute):
    docs = db.create_collection("docs", dims=3)
    execute("INSERT INTO docs (id, embedding) VALUES (4, '[1,2,3]')")

    assert docs.search([1.0, 2.0, 3.0], k=1).ids.tolist() == [4]
    execute("DELETE FROM docs WHERE id = 4")
    assert docs.search([1.0, 2.0, 3.0], k=1).ids.tolist() == []


def test_collections_are_listed_opened_and_dropped(db, execute):
    db.create_collection("b", dims=3)
    db.create_collection("a", dims=3, metric="l2")

    assert db.list() == ["a", "b"]
    assert db.open("a").metric is Metric.l2
    db.drop("a")
    assert db.list() == ["b"]
    assert execute("SELECT to_regclass('a')") == [(None,)]
    assert execute("SELECT count(*) FROM pg_proc WHERE proname = 'search_a'") == [(0,)]
