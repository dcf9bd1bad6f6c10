"""The SQL engine, and the functions of schema mrl that psql's users call: one text for both."""

import clustered
import numpy as np
import psycopg
import pytest
from clustered import DIMS, N
from psycopg.types.json import Jsonb

import mrl_db
from mrl_db import Plan, Precision, Stage, _kernels, graph_plan
from mrl_db.engines.sql import SqlEngine
from mrl_db.evaluate.metrics import recall_at_k
from mrl_db.model import filters
from mrl_db.postgres import catalog
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import PoolSession

FRESH = 100
F16, F32, INT8 = Precision.float16, Precision.float32, Precision.int8
WALK = Plan("hnsw", 16, (Stage(16, F16, 14), Stage(DIMS, F32, 10)))


@pytest.fixture(scope="module")
def rows():
    return clustered.made(FRESH)


@pytest.fixture
def docs(db, rows):
    return clustered.indexed(db, rows[0])


def test_sql_python_and_the_compiled_module_have_the_same_metrics(db, execute):
    rows = execute("SELECT name, operator, prefix_operator, unit_prefixes FROM mrl.metrics()")

    assert rows == [
        (m.value, m.operator, m.prefix_operator, m.normalised_prefix) for m in mrl_db.Metric
    ]
    assert list(_kernels.Metric.__members__) == [m.value for m in mrl_db.Metric]


@pytest.fixture
def engine(docs, dsn):
    session = PoolSession(dsn)
    yield SqlEngine(session, catalog.describe(session, "docs"))
    session.close()


def request_of(engine, where=None, columns=()):
    types = {name: column.type for name, column in engine.info.columns.items()}
    return Request(engine.info, filters.parse(where, types), columns)


def literal(vector):
    return "[" + ",".join(map(str, np.asarray(vector).tolist())) + "]"


def searched(execute, query, k=10):
    statement = "SELECT id FROM mrl.search_docs(%s::vector, %s)"
    return [key for (key,) in execute(statement, (literal(query), k))]


def test_a_plan_finds_the_same_in_the_search_function_and_in_the_engine(docs, rows, execute):
    for plan in (
        WALK,
        Plan("seqscan", 1, (Stage(16, F16, 30), Stage(DIMS, F32, 10))),
        Plan("hnsw", 100, (Stage(16, F16, 80), Stage(32, F16, 30), Stage(DIMS, F32, 10))),
        Plan("seqscan", 1, (Stage(DIMS, F32, 10),)),
        None,
    ):
        docs.set_plan(plan)
        for query in rows[1][:5]:
            assert searched(execute, query) == docs.search(query).ids.tolist()
            assert searched(execute, query, 25) == docs.search(query, k=25).ids.tolist()


def test_odd_names_stay_names(db, execute, rng):
    """In a template every % of a name is doubled, or it would be taken for a mark."""
    execute(
        'CREATE TABLE "t%1$s %s" ("k%%""y" bigint PRIMARY KEY, "v%4$s" vector(8), "c%s" integer)'
    )
    docs = db.attach(
        'public."t%1$s %s"', name="odd%2$s", key='k%%"y', vector="v%4$s", shortlist_dims=4
    )
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    docs.add(np.arange(50), vectors, **{"c%s": np.arange(50)})

    hits = docs.search(vectors[7], k=3, where={"c%s": {"$gte": 5}}, columns=["c%s"])

    assert hits.ids[0] == hits.columns["c%s"][0] == 7
    statement = 'SELECT id FROM mrl."search_odd%%2$s"(%s::vector, 3)'
    unfiltered = docs.search(vectors[7], k=3).ids.tolist()
    assert [key for (key,) in execute(statement, [literal(vectors[7])])] == unfiltered


def test_an_open_handle_follows_a_table_that_is_renamed(docs, rows, execute):
    before = docs.search(rows[1][0]).ids.tolist()
    execute("CREATE SCHEMA elsewhere; ALTER TABLE docs RENAME TO papers")
    execute("ALTER TABLE papers SET SCHEMA elsewhere")

    assert docs.search(rows[1][0], where={"year": {"$gte": 0}}).ids.tolist() == before
    assert docs.search(rows[1][0]).ids.tolist() == before


def test_an_engine_whose_table_was_renamed_makes_its_statements_anew(engine, rows, execute):
    request = request_of(engine)
    before = engine.search(request, rows[1][:3], WALK).ids.tolist()
    execute("ALTER TABLE docs RENAME TO papers")

    assert engine.search(request, rows[1][:3], WALK).ids.tolist() == before
    execute("DROP TABLE papers")
    with pytest.raises(mrl_db.CollectionNotFoundError, match="lost its table"):
        engine.search(request, rows[1][:3], WALK)


def test_a_hidden_row_is_as_if_it_were_not_there(engine, rows):
    request = request_of(engine, columns=("year",))
    exact = Plan("seqscan", 1, (Stage(DIMS, F32, 10),))

    hits = engine.search(request, rows[0][:20], exact, hidden=list(range(20)))
    every = engine.search(request, rows[0][:20], Plan("seqscan", 1, (Stage(DIMS, F32, 11),)))

    assert hits.ids.shape == hits.columns["year"].shape == (20, 10)
    for own in range(20):
        others = [key for key in every.ids[own].tolist() if key != own]
        assert hits.ids[own].tolist() == others
    assert (hits.columns["year"] == hits.ids % 10).all()


def test_a_batch_is_the_same_over_several_connections(engine, rows):
    request = request_of(engine, {"year": {"$lt": 7}})

    one = engine.search(request, rows[1], WALK)
    several = engine.search(request, rows[1], WALK, threads=3)

    np.testing.assert_array_equal(one.ids, several.ids)
    np.testing.assert_array_equal(one.distances, several.distances)


def test_what_a_plan_itself_finds_is_not_filled_up(engine, rows):
    request = request_of(engine, {"year": 3})
    short = Plan("seqscan", 1, (Stage(16, F16, 200), Stage(DIMS, F32, 200)))
    few = request_of(engine, {"year": {"$in": [3]}})
    narrow = Plan("hnsw", 1, (Stage(16, F16, 900), Stage(DIMS, F32, 900)))

    assert engine.search(request, rows[1][:1], short).ids.shape == (1, 200)
    assert engine.search(few, rows[1][:1], narrow).ids.shape == (1, 400)
    assert engine.search(few, rows[1][:1], narrow, fill=False).ids.shape[1] <= 400


def test_the_default_plan_is_the_servers(engine, execute):
    for k, shortlist, keep in [(1, None, 200), (10, None, 200), (60, None, 1060), (50, 20, 50)]:
        plan = engine.plan(k, shortlist)
        effort = min(1000, max(40, keep))
        assert plan == Plan("hnsw", effort, (Stage(16, F16, keep), Stage(DIMS, F32, k)))
    for k in (1, 9, 10, 11, 52, 53, 100, 1000, 10**6, 2**31 - 1):
        keep = min(max(200, min(20 * k, k + 1000), k), 2**31 - 1)
        assert execute("SELECT mrl.default_keep(%s)", [k]) == [(keep,)]


def test_a_plan_of_another_engine_or_another_width_is_refused(engine):
    with pytest.raises(mrl_db.PlanError, match="native engine's"):
        engine.check(graph_plan(dims=DIMS))
    with pytest.raises(mrl_db.PlanError, match=f"ends at 32 dims.*has {DIMS}"):
        engine.check(Plan("hnsw", 40, (Stage(16, F16, 20), Stage(32, F32, 10))))
    with pytest.raises(mrl_db.PlanError, match="float16"):
        engine.check(Plan("hnsw", 40, (Stage(16, INT8, 20), Stage(DIMS, F32, 10))))


def test_what_a_walk_misses_of_rows_counts_more_often(engine):
    """Four times up to ef_search 40, twice from 100 on; a scan has no walk."""
    for effort, times in [(1, 4.0), (40, 4.0), (70, 3.0), (100, 2.0), (1000, 2.0)]:
        plan = Plan("hnsw", effort, WALK.stages)
        assert engine.misses_for_rows(plan) == pytest.approx(times)
    assert engine.misses_for_rows(Plan("seqscan", 1, WALK.stages)) == 1.0


def test_a_stored_plan_changes_no_setting_for_good(docs, rows, dsn):
    docs.set_plan(Plan("seqscan", 1, (Stage(16, F16, 1000), Stage(DIMS, F32, 10))))
    names = ("work_mem", "hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples")

    with psycopg.connect(dsn, options="-c work_mem=100kB") as connection:
        connection.execute("SELECT '[1]'::vector")

        def settings():
            return [connection.execute(f"SHOW {name}").fetchone() for name in names]

        before = settings()
        statement = "SELECT * FROM mrl.search_docs(%s::vector)"
        assert len(connection.execute(statement, [literal(rows[1][0])]).fetchall()) == 10
        assert settings() == before
        statement = "SELECT * FROM mrl.explain('docs', %s::vector)"
        assert len(connection.execute(statement, [literal(rows[1][0])]).fetchall()) == 2
        assert settings() == before


@pytest.mark.superuser
def test_search_functions_restore_as_a_role_that_may_set_nothing(docs, rows, execute, dsn):
    """A SET clause of another extension's setting would need that library, or a superuser."""
    made = execute("SELECT pg_get_functiondef('mrl.search_docs'::regproc)")[0][0]
    execute(
        "DROP ROLE IF EXISTS restorer; CREATE ROLE restorer; "
        "GRANT CREATE, USAGE ON SCHEMA mrl TO restorer; DROP FUNCTION mrl.search_docs"
    )

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET ROLE restorer")
        connection.execute(made)

    assert searched(execute, rows[1][0]) == docs.search(rows[1][0]).ids.tolist()
    execute("DROP OWNED BY restorer CASCADE; DROP ROLE restorer")


def test_recall_in_sql_is_that_of_the_search_function(docs, rows, execute):
    literals = [literal(query) for query in rows[1][:60]]
    docs.set_plan(WALK)

    given = execute("SELECT * FROM mrl.recall('docs', 10, 60, %s::vector[])", (literals,))[0]
    of_rows = execute("SELECT * FROM mrl.recall('docs', queries => 30)")[0]

    want = recall_at_k(docs.search(rows[1][:60]), docs.search(rows[1][:60], exact=True))
    assert given[:2] == (60, pytest.approx(want.mean(), abs=0.02))
    assert given[3] == pytest.approx(want.min(), abs=0.1)
    assert of_rows[0] == 30
    assert 0.3 < of_rows[1] <= 1.0
    with pytest.raises(Exception, match="wanted at least 1"):
        execute("SELECT * FROM mrl.recall('docs', 0)")


def test_a_scan_keeps_its_shortlist_in_memory(db, dsn):
    """Else all rows are sorted on disk once it outgrows work_mem: three times as slow."""
    n, dims, keep = 4000, 384, 1500
    rng = np.random.default_rng(3)
    wide = db.create_collection("wide", dims=dims, nesting_dims=(64, dims))
    wide.add(np.arange(n), rng.standard_normal((n, dims)).astype(np.float32))
    plan = Jsonb(Plan("seqscan", 1, (Stage(64, F16, keep), Stage(dims, F32, 10))).to_json())
    query = literal(rng.standard_normal(dims))

    with psycopg.connect(dsn, options="-c work_mem=1MB") as connection:
        (statement,) = connection.execute(
            "SELECT mrl.filled(mrl.search_statement('wide', %s), %s, %s, '10', '10')",
            (plan, plan, f"'{query}'"),
        ).fetchone()
        explained = str(connection.execute("EXPLAIN (ANALYZE) " + statement).fetchall())

    assert "top-N heapsort" in explained
    assert "external" not in explained


def test_a_search_is_explained_in_sql(docs, rows, execute):
    docs.set_plan(Plan("hnsw", 100, (Stage(16, F16, 80), Stage(32, F16, 30), Stage(DIMS, F32, 10))))

    stages = execute("SELECT * FROM mrl.explain('docs', %s::vector)", (literal(rows[1][0]),))

    assert [stage[0] for stage in stages] == [1, 2, 3]
    assert [stage[2:5] for stage in stages] == [(N, 80, 32), (80, 30, 64), (30, 10, 256)]
    assert all(stage[5] >= 0 for stage in stages)


@pytest.mark.parametrize("route", ["hnsw", "seqscan"])
def test_what_was_lost_in_sql(docs, rows, execute, route):
    docs.set_plan(Plan(route, 16, (Stage(16, F16, 14), Stage(32, F16, 11), Stage(DIMS, F32, 10))))
    seen = set()
    for query in rows[1][:25]:
        true = docs.search(query, k=12, exact=True).ids.tolist()
        want = [*map(str, true), "-5"]
        fates = execute("SELECT * FROM mrl.lost('docs', %s::vector, %s)", (literal(query), want))
        hits = searched(execute, query)

        assert fates[-1][2] == "not in the collection"
        for position, (key, stage, reason, rank, keep) in enumerate(fates[:-1]):
            seen.add(reason.split(" ")[0])
            assert (reason == "found") == (int(key) in hits)
            if reason.startswith("not among"):
                assert position >= 10
                assert rank == position + 1
            elif reason.startswith("a keep"):
                assert rank > keep == (14, 11)[stage - 1]
    assert "a" in seen
    assert route == "hnsw" or "the" not in seen  # a scan has no walk that could miss


def test_a_stored_plan_that_scans_is_run_as_one_by_the_search_function(docs, rows, execute):
    docs.set_plan(Plan("seqscan", 1, (Stage(16, F16, N), Stage(DIMS, F32, 10))))

    assert searched(execute, rows[1][0]) == docs.search(rows[1][0], exact=True).ids.tolist()
    looks_at = "SELECT looks_at FROM mrl.explain('docs', %s::vector)"
    assert execute(looks_at, [literal(rows[1][0])])[0] == ("16 float16, by seqscan",)
