"""Hard data: what the default plan finds where rows crowd, fill their space, or differ in length."""

import numpy as np
import psycopg
import pytest

import mrl_db


def found(server, vectors, queries, metric="cosine", effort=None):
    """Returns the share of the ten true neighbours that searches by the default plan find, and the plan."""
    dims = vectors.shape[1]
    docs = server.create_collection("hard", dims=dims, shortlist_dims=min(dims, 16), metric=metric)
    try:
        docs.add(np.arange(len(vectors)), vectors.astype(np.float32))
        docs.load(cache=False, effort=effort)
        hits = docs.search(queries, engine="native")
        true = docs.search(queries, exact=True)
        kth = true.distances[:, -1:]
        return (hits.distances <= kth + 3e-7 + 1e-6 * np.abs(kth)).mean(), docs.plan
    finally:
        server.drop("hard")


def directions(rng, *shape):
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_thousands_of_near_copies_are_told_apart(server):
    """More than a walk can be widened for: then all rows are scanned."""
    rng = np.random.default_rng(3)
    near = directions(rng, 64) + 0.02 * directions(rng, 4040, 64)
    others = directions(rng, 1000, 64)

    recall, _ = found(
        server, np.concatenate([others, near[40:]]), near[:40].astype(np.float32), effort=80
    )

    assert recall >= 0.95


def test_loose_groups_beyond_the_projection_are_told_apart(server):
    """Steps as long as the rows, of which the projection to 240 dims cuts off a share: lines are off by more than they are of real rows."""
    rng = np.random.default_rng(4)
    basis = rng.standard_normal((30, 384))
    others = rng.standard_normal((2000, 30)) @ basis
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    group = directions(rng, 384) + directions(rng, 640, 384)

    recall, _ = found(
        server, np.concatenate([others, group[40:]]), group[:40].astype(np.float32), effort=80
    )

    assert recall >= 0.95


def test_queries_far_from_all_rows_find_the_nearest(server):
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((3000, 30)) @ rng.standard_normal((30, 384)) + 2.0
    queries = directions(rng, 60, 384).astype(np.float32)

    recall, _ = found(server, rows, queries, effort=80)

    assert recall >= 0.95


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_largest_inner_products_of_rows_of_any_length_are_found(server, sigma):
    rng = np.random.default_rng(6)
    rows = rng.standard_normal((4000, 20)) @ rng.standard_normal((20, 64))
    rows *= rng.lognormal(0, sigma, (4000, 1)) / np.linalg.norm(rows, axis=1, keepdims=True)
    queries = (rng.standard_normal((60, 20)) @ rng.standard_normal((20, 64))).astype(np.float32)

    recall, _ = found(server, rows, queries, metric="inner_product")

    assert recall >= 0.95


def test_rows_that_fill_their_space_are_scanned_by_default(server):
    rng = np.random.default_rng(7)
    rows, queries = rng.uniform(-1, 1, (4000, 64)), rng.uniform(-1, 1, (60, 64))

    recall, plan = found(server, rows, queries.astype(np.float32), metric="l2")

    assert plan.route == "flat"
    assert recall >= 0.95


def test_vectors_whose_squares_float32_does_not_hold_are_refused(server):
    docs = server.create_collection("tiny", dims=4, metric="l2")
    with pytest.raises(mrl_db.ValueRangeError, match="beyond what PostgreSQL's distances hold"):
        docs.add([1, 2], np.full((2, 4), 1e-30, np.float32))
    with psycopg.connect(server.dsn) as other:  # another client may
        other.execute("INSERT INTO tiny VALUES (1, '[1e-30,1e-30,1e-30,1e-30]')")

    with pytest.raises(mrl_db.ValueRangeError, match="2e-30, wanted 1e-15 to 1e\\+15"):
        docs.load(cache=False)
    server.drop("tiny")
