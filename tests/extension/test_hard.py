"""Hard data: what an index finds by default where rows crowd, fill their space, or differ in length."""

from __future__ import annotations

import os

import numpy as np
import pytest
from extension.tables import OPERATORS, fill, nearest

TIMES = int(os.environ.get("MRL_DB_HARD_TIMES", "1"))  # as many rows
QUERIES = 30


def distances(metric, query, rows):
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "ip":
        return -(rows @ query)
    if metric == "l2":
        return np.linalg.norm(rows - query, axis=1)
    return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def found(session, rows, queries, metric="cosine"):
    """Returns the share of the ten true neighbours that a new index finds, and what it says of its default."""
    rows, queries = rows.astype(np.float32), queries.astype(np.float32)
    fill(session, rows, column=f"vector({rows.shape[1]})")
    session.execute(f"CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_{metric}_ops)")
    right = 0
    for query in queries:
        each = distances(metric, query, rows)
        kth = np.partition(each, 9)[9]
        ids = nearest(session, query, operator=OPERATORS[metric])
        right += (each[ids] <= kth + 1e-6 * max(1, abs(kth))).sum()
    return right / (10 * len(queries)), session.execute(
        "SELECT default_effort, default_recall, default_queries FROM mrl_index_info('docs_mrl')"
    ).fetchone()


def directions(rng, *shape):
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_thousands_of_near_copies_are_told_apart(connection):
    """More than a walk can be widened for: then all lines are looked at."""
    rng = np.random.default_rng(3)
    near = directions(rng, 64) + 0.02 * directions(rng, 4000 * TIMES + QUERIES, 64)
    rows = np.concatenate([directions(rng, 1000, 64), near[QUERIES:]])

    recall, _ = found(connection, rows, near[:QUERIES])

    assert recall >= 0.96


def test_loose_groups_beyond_the_projection_are_told_apart(connection):
    """Steps as long as the rows, of which the projection to 240 dims cuts off a share: lines are off by more than they are of real rows."""
    rng = np.random.default_rng(4)
    others = directions(rng, 2000 * TIMES, 30) @ rng.standard_normal((30, 384))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    group = directions(rng, 384) + directions(rng, 600 * TIMES + QUERIES, 384)

    recall, _ = found(connection, np.concatenate([others, group[QUERIES:]]), group[:QUERIES])

    assert recall >= 0.95


def test_queries_far_from_all_rows_find_the_nearest(connection):
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((2600 * TIMES, 30)) @ rng.standard_normal((30, 384)) + 2.0

    recall, _ = found(connection, rows, directions(rng, QUERIES, 384))

    assert recall >= 0.95


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_largest_inner_products_of_rows_of_any_length_are_found(connection, sigma):
    rng = np.random.default_rng(6)
    made = rng.standard_normal((4000 * TIMES + QUERIES, 20)) @ rng.standard_normal((20, 64))
    rows, queries = made[QUERIES:], made[:QUERIES]
    rows = (
        rows * rng.lognormal(0, sigma, (len(rows), 1)) / np.linalg.norm(rows, axis=1, keepdims=True)
    )

    recall, _ = found(connection, rows, queries, "ip")

    assert recall >= 0.96


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_heavy_tails_are_walked_far_enough(connection, metric):
    made = np.random.default_rng(7).standard_t(1.5, (4000 * TIMES + QUERIES, 64))

    recall, _ = found(connection, made[QUERIES:], made[:QUERIES], metric)

    assert recall >= 0.96


def test_rows_that_fill_their_space_are_walked_far_enough_or_scanned(connection):
    made = np.random.default_rng(8).uniform(-1, 1, (4000 * TIMES + QUERIES, 64))

    recall, (effort, measured, queries) = found(connection, made[QUERIES:], made[:QUERIES], "l2")

    assert recall >= 0.96
    assert effort > 64
    assert measured >= 0.96
    assert queries == 128
