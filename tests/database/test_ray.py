"""Parts in actors of a real Ray on this machine; MRL_DB_ACTOR_KILLS=200 for longer."""

import os
import signal
import threading

import numpy as np
import pytest
from extension.clients import wait_for

import mrl_db
from mrl_db import parts
from mrl_db.parts.ray import ActorPart

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
DIMS, N = 16, 300
EXACT = mrl_db.Plan("flat", 1, (mrl_db.Stage(DIMS, mrl_db.Precision.float32, 10),))
KILLS = int(os.environ.get("MRL_DB_ACTOR_KILLS", "2"))


@pytest.fixture(scope="module")
def cluster():
    """The Ray that the first `open_actors` starts, ended with the tests."""
    yield
    ray.shutdown()


@pytest.fixture
def vectors(rng):
    return rng.integers(-1, 2, (4 * N, DIMS)).astype(np.float32) + 3 * np.eye(1, DIMS, dtype="f4")


@pytest.fixture
def table(db, vectors):
    docs = db.create_collection("docs", dims=DIMS, metric="l2", columns={"year": "integer"})
    docs.add(np.arange(N), vectors[:N], year=np.arange(N) % 5)
    return docs


@pytest.fixture
def actors(cluster, dsn, table):
    with parts.open_actors(dsn, "docs", parts=2, route="flat", timeout=120.0) as actors:
        yield actors


def running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def assert_same(hits, want):
    assert hits.ids.tolist() == want.ids.tolist()
    np.testing.assert_allclose(hits.distances, want.distances, atol=2e-6)


def assert_past_ray(actors, queries, monkeypatch):
    """Searches go by connections to the actors, without a call of Ray's."""
    with monkeypatch.context() as patch:
        patch.setattr(ActorPart, "_by_ray", None)
        assert actors.search(queries, plan=EXACT).ids.shape == (len(queries), 10)


def test_actors_answer_as_one_follow_writes_and_survive_kills(actors, table, vectors, monkeypatch):
    queries = vectors[N : N + 20]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    for options in ({"k": 10}, {"k": 120}, {"where": {"year": 2}, "columns": ["year"]}):
        assert_same(
            actors.search(queries, plan=EXACT, **options),
            table.search(queries, exact=True, **options),
        )
    assert_past_ray(actors, queries, monkeypatch)
    actors.add(np.arange(N, N + 30), vectors[N : N + 30], year=np.full(30, 1))
    table.delete(np.arange(0, 60, 2))
    assert_same(actors.search(queries, plan=EXACT), table.search(queries, exact=True))
    assert [part.part for part in actors.search(queries[0]).trace.parts] == [(0, 2), (1, 2)]
    assert actors.explain(queries[0], plan=EXACT).stages[0].rows_in == table.count()
    assert sum(state.rows for state in actors.status()) == table.count()
    with pytest.raises(mrl_db.NotLoadedError, match="not loaded|load"):
        actors.search(queries, plan=mrl_db.graph_plan(dims=DIMS))

    # kill -9 while others search and write: each call answers, and completely
    crew = actors._holding.crew.parts
    stop, wrong, searched = threading.Event(), [], []

    def search():
        while not stop.is_set():
            hits = actors.search(vectors[3 * N :], k=1, plan=EXACT)
            searched.append(1)
            if hits.ids.shape != (N, 1) or hits.missing:
                wrong.append(hits)

    searcher = threading.Thread(target=search)
    searcher.start()
    for kill in range(KILLS):
        part = crew[kill % 2]
        os.kill(ray.get(part.actor.process.remote()), signal.SIGKILL)
        # whole numbers, whose sums are the same in float32 and float64
        new = vectors[2 * N : 2 * N + 10] + (kill + 3) * np.eye(1, DIMS, 5, dtype="f4")
        fresh = np.arange(10_000 + 10 * kill, 10_010 + 10 * kill)
        table.add(fresh, new, year=np.full(10, 7))
        assert_same(actors.search(queries, plan=EXACT), table.search(queries, exact=True))
        hits = actors.search(new[0], k=1, where={"year": 7}, plan=EXACT)
        assert hits.ids[0] in fresh
        assert hits.distances[0] == 0
    stop.set()
    searcher.join()
    assert searched
    assert wrong == []
    assert_past_ray(actors, queries, monkeypatch)


def test_without_a_way_past_ray_its_calls_are_made(actors, table, vectors, monkeypatch):
    queries = np.repeat(vectors[:40], 500, axis=0)  # more than goes past it anyway
    for part in actors._holding.crew.parts:
        monkeypatch.setattr(part._caller, "begin", lambda _: None)
    for some in (queries[:3], queries):
        assert_same(actors.search(some, plan=EXACT), table.search(some, exact=True))


def test_an_actor_that_hangs_or_is_gone_for_good_is_named_or_left_out(actors, table, vectors):
    process = ray.get(actors._holding.crew.parts[0].actor.process.remote())
    os.kill(process, signal.SIGSTOP)
    try:
        for _ in range(3):  # over the connection that was there, and without one
            with pytest.raises(mrl_db.PartUnavailableError, match="part 0 of 2.*timeout=") as late:
                actors.search(vectors[0], timeout=0.5)
            assert late.value.parts == (0,)
        hits = actors.search(vectors[0], k=2 * N, partial=True, plan=EXACT, timeout=2.0)
        assert (hits.missing, 0 < len(hits) < N) == ((0,), True)
    finally:
        os.kill(process, signal.SIGCONT)
    assert_same(
        actors.search(vectors[:3], plan=EXACT, timeout=60), table.search(vectors[:3], exact=True)
    )

    process = ray.get(actors._holding.crew.parts[1].actor.process.remote())
    ray.kill(actors._holding.crew.parts[1].actor, no_restart=True)
    wait_for(lambda: not running(process))

    with pytest.raises(mrl_db.PartUnavailableError, match="part 1 of 2.*actor is gone") as raised:
        actors.search(vectors[0], timeout=60)
    assert raised.value.parts == (1,)
    hits = actors.search(vectors[0], k=2 * N, partial=True, plan=EXACT)
    assert hits.missing == (1,)
    assert 0 < len(hits) < N
    states = actors.status()
    assert states[0].rows == len(hits)
    assert "gone" in states[1].error
