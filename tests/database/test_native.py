"""The native engine over a collection: loading, writing, filters, refusals."""

import os
import threading

import numpy as np
import pytest

import mrl_db
from mrl_db import Plan, Precision, Stage, flat_plan, graph_plan
from mrl_db.evaluate.metrics import recall_at_k

DIMS, N = 48, 2000
F32, INT8 = Precision.float32, Precision.int8


@pytest.fixture
def vectors(rng):
    centres = rng.standard_normal((40, DIMS))
    return (centres[rng.integers(0, 40, N)] + 0.6 * rng.standard_normal((N, DIMS))).astype(
        np.float32
    )


@pytest.fixture
def docs(db, vectors):
    docs = db.create_collection(
        "docs", dims=DIMS, nesting_dims=(16, 48), columns={"year": "integer", "title": "text"}
    )
    docs.add(np.arange(N), vectors, year=np.arange(N) % 100, title=[f"row {i}" for i in range(N)])
    return docs


def recall(hits, exact):
    return np.mean(
        [
            len(set(a) & set(b)) / len(b)
            for a, b in zip(hits.ids.tolist(), exact.ids.tolist(), strict=True)
        ]
    )


def test_auto_takes_the_native_engine_once_rows_are_loaded(docs, vectors):
    assert docs.search(vectors[3]).trace.engine == "sql"

    docs.load()

    assert docs.search(vectors[3]).trace.engine == "native"
    assert docs.search(vectors[3], engine="sql").trace.engine == "sql"
    assert docs.search(vectors[3], shortlist=50).trace.engine == "sql"
    assert docs.loaded.rows == N
    docs.unload()
    assert docs.loaded is None
    assert docs.search(vectors[3]).trace.engine == "sql"


@pytest.mark.parametrize(
    "options", [{}, {"build": "fast"}, {"route": "flat"}, {"rows": "postgres"}, {"threads": 1}]
)
def test_every_way_to_load_finds_the_neighbours(docs, vectors, rng, options):
    docs.load(**options)
    queries = vectors[rng.integers(0, N, 50)] + 0.1 * rng.standard_normal((50, DIMS)).astype(
        np.float32
    )

    hits = docs.search(queries, k=10)
    exact = docs.search(queries, k=10, exact=True)

    assert recall(hits, exact) >= 0.95
    one = docs.search(queries[0], k=10)
    assert one.ids.tolist() == hits.ids[0].tolist()
    np.testing.assert_array_equal(one.distances, hits.distances[0])


def test_the_trace_tells_rows_and_time_of_every_stage(docs, vectors):
    docs.load(effort=50)

    trace = docs.search(vectors[0], k=10).trace

    assert [stage.name for stage in trace.stages] == [
        str(s) if i else f"graph, {s}" for i, s in enumerate(docs.loaded.followed_plan.stages)
    ]
    assert [stage.rows_out for stage in trace.stages] == [20, 11, 10]
    assert trace.stages[1].rows_in == 20
    assert trace.stages[0].rows_in > 20
    assert all(stage.microseconds > 0 for stage in trace.stages)
    assert "graph, projection 48 int4" in str(trace)


def test_writes_through_the_collection_are_found_at_once(docs, vectors, rng):
    docs.load()
    new = rng.standard_normal((300, DIMS)).astype(np.float32)

    docs.add(np.arange(N, N + 300), new)
    assert [docs.search(v, k=1).ids[0] for v in new] == list(range(N, N + 300))
    docs.upsert([5], new[:1])
    assert set(docs.search(new[0], k=2).ids.tolist()) == {5, N}
    assert 5 not in docs.search(vectors[5], k=50).ids
    assert docs.delete([N, N + 1]) == 2
    assert docs.search(new[0], k=1).ids[0] == 5
    assert docs.delete(where={"year": {"$lt": 50}}) == 1000  # row 5 among them: its year stayed
    assert (
        docs.search(vectors[0], k=N).ids.size
        == docs.loaded.rows
        == docs.count()
        == N + 300 - 2 - 1000
    )
    hits = docs.search(vectors[:100], k=10)
    assert recall(hits, docs.search(vectors[:100], k=10, exact=True)) >= 0.95


def test_a_write_that_fails_changes_nothing_here(docs, vectors):
    docs.load()

    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([N, 3], vectors[:2])

    assert docs.loaded.rows == N
    assert N not in docs.search(vectors[0], k=50).ids


def test_what_was_ingested_is_found(docs, rng):
    docs.load(route="flat")
    new = rng.standard_normal((500, DIMS)).astype(np.float32)

    docs.ingest(np.arange(N, N + 500), new, index=False)

    assert docs.search(new, k=1).ids[:, 0].tolist() == list(range(N, N + 500))
    assert docs.loaded.rows == N + 500


@pytest.mark.parametrize("route", ["graph", "flat"])
@pytest.mark.parametrize(
    "where",
    [{"year": {"$lt": 50}}, {"year": {"$lt": 10}}, {"year": 3}, {"title": "row 77"}, {"year": -1}],
)
def test_filters_give_k_rows_whenever_k_match(docs, vectors, route, where):
    docs.load(route=route)
    queries = vectors[:40]

    hits = docs.search(queries, k=30, where=where, columns="year")
    exact = docs.search(queries, k=30, where=where, exact=True)

    assert hits.ids.shape == exact.ids.shape == (40, min(30, docs.count(where)))
    assert hits.ids.size == 0 or recall(hits, exact) >= 0.95
    assert hits.columns["year"].tolist() == (hits.ids % 100).tolist()


def test_a_filters_rows_are_asked_for_again_after_a_write(docs, vectors):
    docs.load()
    assert len(docs.search(vectors[0], k=10, where={"title": "row 3"}).ids) == 1

    docs.add([N], vectors[:1], title=["row 3"])

    assert sorted(docs.search(vectors[0], k=10, where={"title": "row 3"}).ids.tolist()) == [3, N]


def test_rows_left_in_postgres_give_true_distances(docs, vectors):
    docs.load(rows="postgres")

    hits = docs.search(vectors[:20], k=5)

    assert docs.loaded.vector_bytes == 0
    for query, found in zip(vectors[:20].astype(np.float64), hits, strict=True):
        rows = vectors[found.ids].astype(np.float64)
        cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        np.testing.assert_allclose(found.distances, 1 - cosines, atol=1e-12)
    docs.delete([int(hits.ids[0, 0])])
    assert hits.ids[0, 0] not in docs.search(vectors[0], k=5).ids


def test_memory_is_refused_before_a_row_is_read(docs):
    with pytest.raises(mrl_db.MemoryLimitError, match=r"2000 rows take .* max_memory= allows"):
        docs.load(max_memory=100_000)

    assert docs.loaded is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"route": "flat"},
        {"rows": "postgres"},
        {"plan": flat_plan(dims=DIMS, precision=INT8, low_dims=16)},
        {"plan": flat_plan(dims=DIMS, precision=INT8, space="projection")},
        {"plan": flat_plan(dims=DIMS, precision=Precision.bit, space="projection")},
    ],
)
def test_memory_is_what_the_formula_says(docs, options):
    """Within a tenth; small arrays are rounded up to cache lines only."""
    from mrl_db.engines.native.memory import footprint

    docs.load(**options)

    expected = footprint(
        N, docs._opened.info, docs.loaded.followed_plan, in_memory=docs.loaded.in_memory
    )
    assert docs.loaded.vector_bytes == pytest.approx(expected.vectors, rel=0.1)
    # The projection and the copies of entry lines are a constant: much where rows are few.
    constant = (
        (2 * 256 + 256) * 64
        if any(stage.space == "projection" for stage in docs.loaded.followed_plan.stages)
        else 0
    )
    assert docs.loaded.bytes - docs.loaded.vector_bytes == pytest.approx(
        expected.resident + constant, rel=0.1
    )


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "l2"])
@pytest.mark.parametrize("precision", [INT8, Precision.bit])
def test_codes_of_the_projection_are_searched(db, metric, precision):
    """Wider than the projection: exact where a stage keeps all rows, close where it keeps few."""
    dims, n = 400, 1500
    rng = np.random.default_rng(11)
    spectrum = (1.0 / np.sqrt(1 + np.arange(dims))).astype(np.float32)
    rows = (rng.standard_normal((n + 250, dims)).astype(np.float32) + 0.5) * spectrum
    queries = rows[n + 200 :]
    docs = db.create_collection("wide", dims=dims, nesting_dims=(64, dims), metric=metric)
    docs.add(np.arange(n), rows[:n])
    plan = flat_plan(dims=dims, precision=precision, space="projection", keep=200)
    docs.load(plan=plan, cache=False)

    for more in (False, True):
        if more:
            docs.upsert(np.arange(n - 100, n + 200), rows[n - 100 : n + 200])
            docs.delete(np.arange(50))
        exact = docs.search(queries, exact=True)
        everything = flat_plan(dims=dims, precision=precision, space="projection", keep=n + 200)
        everything = Plan("flat", 1, (everything.stages[0], everything.stages[-1]))
        hits = docs.search(queries, plan=everything)
        assert np.array_equal(hits.ids, exact.ids)
        assert docs.search(queries[0], plan=everything).ids.tolist() == exact.ids[0].tolist()
        assert recall_at_k(docs.search(queries, plan=plan), exact).mean() > 0.95
        for query in range(3):  # one at a time, as a batch is tiled
            assert (
                docs.search(queries[query], plan=plan).ids.tolist()
                == docs.search(queries, plan=plan).ids[query].tolist()
            )


def test_what_is_not_loaded_is_said(docs, vectors):
    with pytest.raises(mrl_db.NotLoadedError, match=r"is not loaded; call load\(\)"):
        docs.search(vectors[0], engine="native")
    with pytest.raises(mrl_db.NotLoadedError, match="call load"):
        docs.refresh()
    with pytest.raises(mrl_db.NotLoadedError, match="is not loaded"):
        docs.search(vectors[0], plan=graph_plan(dims=DIMS))
    docs.load(route="flat")
    with pytest.raises(
        mrl_db.NotLoadedError, match=r"walks a graph, and none was loaded; load\(plan=…\)"
    ):
        docs.search(vectors[0], plan=graph_plan(dims=DIMS))
    with pytest.raises(mrl_db.NotLoadedError, match="prefix 16 int8 was not loaded"):
        docs.search(vectors[0], plan=flat_plan(dims=DIMS, low_dims=16, precision=INT8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route": "hnsw"}, "wanted 'graph' or 'flat'"),
        ({"rows": "disk"}, "wanted 'memory' or 'postgres'"),
        ({"build": "slow"}, "'default' or 'fast'"),
        ({"threads": 0}, "threads is 0"),
        ({"effort": 0}, "effort is 0"),
        ({"effort": 10, "plan": flat_plan(dims=DIMS)}, "both given"),
        (
            {"plan": Plan("hnsw", 40, (Stage(16, Precision.float16, 50), Stage(DIMS, F32, 10)))},
            "PostgreSQL's",
        ),
        (
            {"plan": Plan("flat", 1, (Stage(16, Precision.float16, 50), Stage(DIMS, F32, 10)))},
            "no float16",
        ),
        (
            {
                "plan": Plan(
                    "flat", 1, (Stage(20, Precision.int4, 50, "projection"), Stage(DIMS, F32, 10))
                )
            },
            "the projection has 48 dims",
        ),
        (
            {"plan": Plan("flat", 1, (Stage(16, Precision.int4, 50), Stage(DIMS, F32, 10)))},
            "int4 codes are of the projection",
        ),
        ({"plan": Plan("flat", 1, (Stage(16, F32, 10),))}, "ends at 16 dims"),
        (
            {
                "plan": Plan(
                    "flat", 1, (Stage(16, Precision.bit, 50, "projection"), Stage(DIMS, F32, 10))
                )
            },
            "the projection has 48 dims",
        ),
        ({"plan": Plan("flat", 1, (Stage(DIMS, F32, 10, "projection"),))}, "no float32"),
    ],
)
def test_bad_ways_to_load_are_refused(docs, options, message):
    with pytest.raises(mrl_db.MrlDbError, match=message):
        docs.load(**options)

    assert docs.loaded is None


@pytest.mark.parametrize("engine", ["auto", "native"])
def test_the_door_is_the_same_for_both_engines(docs, vectors, engine):
    docs.load()
    bad = vectors[0].copy()
    bad[3] = np.nan

    with pytest.raises(mrl_db.ValueRangeError, match="NaN"):
        docs.search(bad, engine=engine)
    with pytest.raises(mrl_db.ValueRangeError, match="zero vector"):
        docs.search(np.zeros(DIMS, dtype=np.float32), engine=engine)
    with pytest.raises(mrl_db.ShapeError, match="47"):
        docs.search(vectors[0][:47], engine=engine)
    with pytest.raises(mrl_db.DtypeError):
        docs.search(np.ones(DIMS, dtype=np.int64), engine=engine)
    with pytest.raises(mrl_db.ValueRangeError, match="k is 0"):
        docs.search(vectors[0], k=0, engine=engine)
    with pytest.raises(mrl_db.ValueRangeError, match="k is True"):
        docs.search(vectors[0], k=True, engine=engine)
    with pytest.raises(mrl_db.ValueRangeError, match="no column 'colour'"):
        docs.search(vectors[0], columns="colour", engine=engine)
    assert docs.search(vectors[0].tolist(), engine=engine).ids[0] == 0
    assert docs.search(vectors[0].astype(np.float64), engine=engine).ids[0] == 0


def test_a_native_plan_is_not_stored_for_the_sql_engine(docs):
    with pytest.raises(mrl_db.PlanError, match="native engine's"):
        docs.set_plan(graph_plan(dims=DIMS))


def test_an_empty_collection_loads_and_grows(db, rng):
    docs = db.create_collection("empty", dims=DIMS, nesting_dims=(16, 48))
    docs.load()
    query = rng.standard_normal(DIMS).astype(np.float32)
    assert docs.search(query).ids.tolist() == []

    vectors = rng.standard_normal((500, DIMS)).astype(np.float32)
    docs.add(np.arange(500), vectors)

    hits = docs.search(vectors, k=1)
    assert (hits.ids[:, 0] == np.arange(500)).mean() >= 0.98


def test_progress_is_told_until_the_end(docs):
    told = []

    docs.load(progress=lambda done, total: told.append((done, total)))

    assert (N, N) in told
    assert told[-1][1] == 100


def test_a_forked_child_searches_on(docs, vectors):
    docs.load()
    expected = docs.search(vectors[:64], k=5, threads=2).ids.tolist()
    child = os.fork()
    if child == 0:  # the engine by itself: connections do not survive a fork
        try:
            same = (
                docs.loaded.search(
                    docs._opened.request(), vectors[:64], docs.loaded.plan(5), threads=2
                ).ids.tolist()
                == expected
            )
        except BaseException:
            same = False
        os._exit(0 if same else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_search_while_others_write(docs, vectors, rng):
    docs.load()
    stop = threading.Event()
    problems = []

    def search():
        while not stop.is_set():
            hits = docs.search(vectors[:8], k=10)
            if hits.ids.shape != (8, 10) or len(set(hits.ids[0].tolist())) != 10:
                problems.append(hits)

    searchers = [threading.Thread(target=search) for _ in range(3)]
    for thread in searchers:
        thread.start()
    for turn in range(20):
        docs.add(
            np.arange(N + 10 * turn, N + 10 * turn + 10),
            rng.standard_normal((10, DIMS)).astype(np.float32),
        )
        docs.delete(np.arange(50 * turn, 50 * turn + 10))
    stop.set()
    for thread in searchers:
        thread.join()

    assert problems == []
    docs.search(vectors[0])  # sees the last write, whenever the threads ended
    assert docs.loaded.rows == N == docs.count()
