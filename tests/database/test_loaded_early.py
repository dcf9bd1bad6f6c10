"""A collection that is loaded while it is empty, or nearly so, and grows: searches find as much."""

import clusters
import numpy as np
import pytest
from clusters import DIMS, recall

from mrl_db import graph_plan
from mrl_db.engines.native import catching_up


@pytest.fixture
def clustered(rng):
    return clusters.made(rng)


@pytest.mark.parametrize("where", ["memory", "postgres"])
@pytest.mark.parametrize("loaded_at", [0, 1, 30])
def test_what_comes_after_load_is_found(db, clustered, loaded_at, where):
    queries, rows = clustered
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(loaded_at), rows[:loaded_at])
    docs.load(cache=False, rows=where)
    assert docs.plan.route == "flat"

    for begin, end in ((loaded_at, 400), (400, 1_100), (1_100, 2_500)):
        docs.add(np.arange(begin, end), rows[begin:end])
        assert recall(docs, queries) >= 0.97
        docs.loaded.settle()
        assert recall(docs, queries) >= 0.97


def test_the_default_plan_is_measured_anew_as_rows_grow(db, rng):
    rows = rng.standard_normal((2_500, DIMS)) / (1 + np.arange(DIMS))  # few directions: walks do
    docs = db.create_collection("docs", dims=DIMS)
    docs.load(cache=False)
    scanned = docs.plan

    docs.add(np.arange(2_500), rows.astype(np.float32))
    docs.search(rows[0])
    docs.loaded.settle()

    assert (scanned.route, docs.plan.route) == ("flat", "graph")
    assert docs.search(rows[0]).trace.stages[0].name.startswith("graph")


def test_a_plan_that_was_asked_for_stays_as_rows_grow(db, clustered):
    queries, rows = clustered
    docs = db.create_collection("docs", dims=DIMS)
    docs.load(cache=False, effort=64)

    docs.add(np.arange(2_500), rows)
    docs.search(queries[0])
    docs.loaded.settle()

    assert docs.plan == graph_plan(dims=DIMS, effort=64)
    assert recall(docs, queries) >= 0.97


def test_what_comes_while_an_index_is_built_anew_has_it_built_once_more(db, clustered, monkeypatch):
    _, rows = clustered
    docs = db.create_collection("docs", dims=DIMS)
    docs.load(cache=False)
    catch_up, came = catching_up.catch_up, []

    def after_more(*arguments):
        if not came:
            came.append(docs.add(np.arange(600, 2_500), rows[600:]))
        return catch_up(*arguments)

    monkeypatch.setattr(catching_up, "catch_up", after_more)
    docs.add(np.arange(600), rows[:600])
    docs.search(rows[0])
    docs.loaded.settle()

    assert came
    assert not docs.loaded.live.has_grown
    assert docs.loaded.rows == 2_500
