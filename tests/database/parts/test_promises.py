"""What parts promise of merged answers, and that exact ones are one server's."""

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from parted import DIMS, EXACT, KEYS, N, assert_same, keys, tied

import mrl_db
from mrl_db import parts

QUERIES = int(os.environ.get("MRL_DB_PART_QUERIES", "600"))


def test_a_promise_is_measured_on_merged_answers_and_kept_by_all(three, servers, rng):
    docs = three
    promise = docs.tune(recall=0.9, budget_seconds=2, seed=3)

    assert promise.parts == 3
    assert promise.rows == N
    assert docs.promise.stale is None
    assert docs.promise.rows == N
    assert "recall" in docs.search(tied(rng, 1)[0]).trace.promise
    measured = docs.recall(sample=100, seed=5)
    assert measured.mean >= 0.9
    with mrl_db.connect(servers[0]) as db:
        alone = db.open("docs")
        assert alone.promise is None  # of merged answers, not of this server's
        assert alone.search(tied(rng, 1)[0]).trace.promise is None
    with parts.open_servers(servers, "docs") as again:
        assert again.promise.target == promise.target
        again.delete(where={})
        assert "server 0" in again.promise.stale


def test_a_promise_over_the_parts_of_a_table_is_not_the_whole_tables(db, table, split):
    promise = split.tune(recall=0.9, budget_seconds=2, seed=3)
    assert (promise.parts, promise.engine) == (3, "native")
    assert split.promise.stale is None
    assert split.recall(sample=60, seed=1).mean >= 0.9

    table.load(route="flat", cache=False)

    assert table.promise is None
    assert table.loaded.followed_plan == promise.plan
    table.unload()


@settings(max_examples=6)
@given(st.data())
def test_merged_exact_answers_are_one_servers_over_many_lives(server, data):
    """Ties, deletions and writes in between; MRL_DB_PART_QUERIES=100000 for longer."""
    seed = data.draw(st.integers(0, 2**31))
    key_type = data.draw(st.sampled_from(sorted(KEYS)))
    count = data.draw(st.integers(1, 5))
    rng = np.random.default_rng(seed)
    with mrl_db.connect(server.dsn) as db:
        if "lives" in db:
            db.drop("lives")
        docs = db.create_collection("lives", dims=DIMS, metric="l2", key_type=key_type)
        docs.add(keys(key_type, range(N)), tied(rng, N))
        with parts.open_threads(db, "lives", parts=count, route="flat", cache=False) as split:
            for _ in range(2):
                gone = rng.choice(N, 20, replace=False)
                docs.delete(keys(key_type, gone))
                docs.upsert(keys(key_type, rng.choice(N, 20, replace=False)), tied(rng, 20))
                queries = tied(rng, QUERIES // 12)
                k = int(rng.integers(1, 120))
                assert_same(
                    split.search(queries, k=k, plan=EXACT), docs.search(queries, k=k, exact=True)
                )
        db.drop("lives")
