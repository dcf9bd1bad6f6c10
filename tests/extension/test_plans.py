"""Collections by an index of kind mrl: made, followed by every search, tuned, dropped."""

import numpy as np
import psycopg
import pytest
from extension.tables import clustered

import mrl_db
from mrl_db.engines.sql import SqlEngine
from mrl_db.model.plan import Plan, Stage
from mrl_db.model.precision import Precision

DIMS = 64
MADE = clustered(4200, DIMS, seed=3)
ROWS, FRESH = MADE[:4000], MADE[4000:]


def walk(effort, k=10):
    return Plan("mrl", effort, (Stage(DIMS, Precision.float32, k),))


@pytest.fixture
def db(new_database):
    with mrl_db.connect(new_database) as database:
        yield database


@pytest.fixture
def docs(db):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(np.arange(len(ROWS)), ROWS, year=np.arange(len(ROWS)) % 100)
    docs.create_index()
    return docs


def sql(db, statement, *values):
    with psycopg.connect(db.dsn, autocommit=True) as session:
        return session.execute(statement, values).fetchall()


def recall(hits, exact):
    pairs = zip(hits.ids, exact.ids, strict=True)
    return np.mean([len(set(a.tolist()) & set(b.tolist())) / len(b) for a, b in pairs])


def test_the_default_is_a_walk_of_the_full_vectors_and_finds_k_rows_by_any_filter(docs):
    exact = docs.search(FRESH, k=10, exact=True)

    hits = docs.search(FRESH, k=10)

    assert (docs.index_kind, docs.plan) == ("mrl", walk(64))
    assert recall(hits, exact) >= 0.95
    assert [stage.name for stage in hits.trace.stages] == [f"mrl, prefix {DIMS} float32, keep 10"]
    few = docs.search(FRESH[0], k=30, where={"year": 7})
    assert len(few.ids) == 30
    assert all(key % 100 == 7 for key in few.ids)
    assert docs.explain(FRESH[0]).stages[0].name.startswith("mrl, ")


def test_the_search_function_and_the_engine_agree_and_effort_is_set_for_one_statement(db, docs):
    docs.set_plan(walk(24))
    query = str(FRESH[1].tolist())

    with psycopg.connect(db.dsn) as session:
        session.execute("SET mrl.effort = 7")
        ids = session.execute("SELECT id FROM mrl.search_docs(%s::vector, 10)", [query])
        assert [row[0] for row in ids] == docs.search(FRESH[1], k=10).ids.tolist()
        assert session.execute("SHOW mrl.effort").fetchone() == ("7",)
    assert "keep 10" in str(docs.plan)
    assert Plan.from_json(sql(db, "SELECT plan FROM mrl.plan")[0][0]) == walk(24)


def test_many_answers_are_found_without_reading_the_catalog_of_collections(db, docs):
    """The index itself says how far it walks: a search asks nobody else."""
    query = str(FRESH[1].tolist())
    search = "SELECT count(*) FROM mrl.search_docs(%s::vector, %s)"
    calls = (
        "SELECT array_agg(funcname ORDER BY funcname) FROM pg_stat_xact_user_functions"
        " WHERE schemaname = 'mrl'"
    )

    with psycopg.connect(db.dsn) as session:
        session.execute("SET track_functions = 'all'")
        for k in (10, 30):
            assert session.execute(search, [query, k]).fetchone() == (k,)
        assert set(session.execute(calls).fetchone()[0]) <= {
            *("search_docs", "settings", "set_back"),
            *("default_walk", "default_effort", "default_keep"),
        }
        assert session.execute("SHOW mrl.effort").fetchone() == ("0",)
        assert session.execute("SHOW mrl.least_effort").fetchone() == ("0",)


def test_effort_buys_recall_and_what_a_walk_lost_is_laid_to_it(docs, postgres_version):
    exact = docs.search(FRESH, k=10, exact=True)

    recalls = [recall(docs.search(FRESH, k=10, plan=walk(e)), exact) for e in (1, 16, 4000)]

    assert recalls == sorted(recalls)
    assert recalls[-1] >= 0.999
    if postgres_version < 17:
        return  # the planner expects IS NOT NULL to take rows out there: no first walk is narrow
    assert recalls[0] < recalls[-1]
    fates = [
        fate
        for query, keys in zip(FRESH[:20], exact.ids.tolist(), strict=False)
        for fate in docs.explain(query, want=keys, k=10, plan=walk(1)).fates
    ]
    lost = [fate for fate in fates if fate.outcome != "found"]
    assert lost
    assert {fate.outcome for fate in lost} == {"walk"}
    assert all(fate.effort > 1 for fate in lost)


def test_a_promise_is_of_its_family_and_kept_for_fresh_queries(docs):
    exact = docs.search(FRESH, k=10, exact=True)

    with pytest.warns(mrl_db.PromiseWarning, match="give queries="):
        promise = docs.tune(recall=0.9, queries=None, budget_seconds=4)

    assert promise.plan.route == "mrl"
    assert recall(docs.search(FRESH, k=10), exact) >= 0.9
    assert any(trial.plan.route == "mrl" for trial in docs.tried)


def test_rows_as_queries_weigh_more_and_less_so_by_wide_walks(docs):
    engine = docs._opened.engines["sql"]
    assert isinstance(engine, SqlEngine)

    weights = [engine.misses_for_rows(walk(effort)) for effort in (16, 130, 265, 400, 4000)]

    assert weights == pytest.approx([5.0, 5.0, 4.0, 3.0, 3.0])


@pytest.mark.parametrize("column", ["vector(64)", "halfvec(64)", "vector"])
@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
def test_attached_columns_of_every_type_and_metric_are_indexed(db, column, metric):
    with psycopg.connect(db.dsn, autocommit=True) as session:
        session.execute(f'CREATE TABLE "my t" (id bigint PRIMARY KEY, embedding {column})')
    dims = {"dims": DIMS} if column == "vector" else {}
    docs = db.attach('"my t"', metric=metric, low_dim="index", **dims)
    docs.add(np.arange(1000), ROWS[:1000])

    docs.create_index()

    assert docs.index_kind == "mrl"
    exact = docs.search(FRESH[:20], k=10, exact=True)
    assert recall(docs.search(FRESH[:20], k=10), exact) >= 0.95
    db.drop("my t")
    assert sql(db, "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%% mrl %%'") == []


def test_an_index_that_a_client_of_sql_made_is_used_and_stays(db):
    with psycopg.connect(db.dsn, autocommit=True) as session:
        session.execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))")
        session.execute("CREATE INDEX mine ON t USING mrl (embedding vector_cosine_ops)")

    docs = db.attach("t", low_dim="index")
    docs.create_index()

    assert docs.index_kind == "mrl"
    assert docs.plan.route == "mrl"
    db.drop("t")
    assert sql(db, "SELECT 'mine'::regclass::text") == [("mine",)]


def test_kinds_stand_side_by_side_and_are_named_in_sql(db, docs):
    docs.create_index(kind="hnsw")
    low = Plan(
        "hnsw",
        100,
        (Stage(DIMS, Precision.float16, 100), Stage(DIMS, Precision.float32, 10)),
    )

    assert docs.index_kind == "mrl"
    assert docs.explain(FRESH[0], plan=low).stages[0].name.startswith("hnsw")
    with pytest.raises(mrl_db.ValueRangeError, match="kind"):
        docs.create_index(kind="ivf")
    with (
        psycopg.connect(db.dsn) as session,
        pytest.raises(psycopg.Error, match="auto, mrl or hnsw"),
    ):
        session.execute("SELECT mrl.create_index('docs', kind => 'ivf')")
    sql(db, "SELECT mrl.create_index('docs', kind => 'mrl')")
    kinds = "SELECT kind FROM mrl.indexes(mrl.find('docs')) ORDER BY kind"
    assert sql(db, kinds) == [("hnsw",), ("mrl",)]


def test_without_the_extension_the_same_calls_build_hnsw(new_database, db):
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("DROP EXTENSION mrl_db")
    docs = db.create_collection("docs", dims=8)
    docs.add([1, 2], ROWS[:2, :8])

    with pytest.raises(mrl_db.ServerError, match='no extension "mrl_db"'):
        docs.create_index(kind="mrl")
    docs.create_index()

    assert docs.index_kind == "hnsw"
    assert docs.search(ROWS[0, :8], k=2).ids.tolist() == [1, 2]
    assert sql(db, "SELECT current_setting('mrl.effort', true)") == [(None,)]


def test_a_metric_that_the_extension_does_not_know_is_indexed_by_hnsw(new_database, db):
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("ALTER EXTENSION mrl_db DROP OPERATOR CLASS vector_l2_ops USING mrl")
        session.execute("DROP OPERATOR CLASS vector_l2_ops USING mrl")
    docs = db.create_collection("docs", dims=8, metric="l2")
    docs.add([1, 2], ROWS[:2, :8])

    with pytest.raises(mrl_db.ServerError, match='no operator class "vector_l2_ops"'):
        docs.create_index(kind="mrl")
    docs.create_index()

    assert docs.index_kind == "hnsw"
    assert docs.search(ROWS[0, :8], k=2).ids.tolist() == [1, 2]
