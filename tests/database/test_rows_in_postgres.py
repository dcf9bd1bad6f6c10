"""`load(rows="postgres")`: codes here, vectors there."""

import uuid

import clusters
import numpy as np
import pytest
from clusters import DIMS, recall

from mrl_db import graph_plan
from mrl_db.engines.native import rescoring


@pytest.fixture
def clustered(rng):
    return clusters.made(rng)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_rows_whose_vectors_stay_in_postgres_are_found_as_those_in_memory(db, clustered, metric):
    queries, rows = clustered
    docs = db.create_collection("docs", dims=DIMS, metric=metric)
    docs.add(np.arange(2_500), rows)
    of = {}
    for where in ("memory", "postgres"):
        docs.load(cache=False, rows=where)
        of[where] = recall(docs, queries)

    assert of["postgres"] >= max(0.95, of["memory"] - 0.02), of


@pytest.mark.parametrize("key_type", ["bigint", "text", "uuid"])
def test_what_codes_cannot_tell_apart_is_asked_of_postgres(db, clustered, monkeypatch, key_type):
    queries, rows = clustered
    keys = {
        "bigint": np.arange(2_500),
        "text": [f"row {number}" for number in range(2_500)],
        "uuid": [uuid.UUID(int=number) for number in range(2_500)],
    }[key_type]
    docs = db.create_collection("docs", dims=DIMS, key_type=key_type)
    docs.add(keys, rows)
    docs.load(cache=False, rows="postgres")
    exact = docs.search(queries, k=10, exact=True)
    plan = graph_plan(dims=DIMS, effort=320)

    together = docs.search(queries, k=10, plan=plan)
    monkeypatch.setattr(rescoring, "_VECTOR_BYTES", 1)  # each query by itself
    one_by_one = docs.search(queries, k=10, plan=plan)

    np.testing.assert_array_equal(together.ids, one_by_one.ids)
    np.testing.assert_allclose(together.distances, exact.distances, rtol=1e-6)
    last = together.trace.stages[-1]
    assert plan.stages[-2].keep < last.rows_in
    assert last.rows_out == 10


def test_rows_that_are_gone_leave_their_places_to_others(db, clustered, execute):
    queries, rows = clustered
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(2_500), rows)
    docs.load(rows="postgres", max_staleness=600, cache=False)
    asked = queries[:2]
    near = docs.search(asked[0], k=40).ids.tolist()
    execute("DELETE FROM docs WHERE id = ANY(%s)", [near])

    hits = docs.search(asked, k=10)

    exact = docs.search(asked, k=10, exact=True)
    np.testing.assert_array_equal(hits.ids, exact.ids)
    again = near[0], rows[near[0]].tolist()
    execute("INSERT INTO docs (id, embedding) VALUES (%s, %s)", again)
    assert near[0] in docs.search(asked[0], k=10, max_staleness=0).ids
