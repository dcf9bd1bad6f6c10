"""Rows that are nearly copies of each other: a stage keeps what its codes cannot tell apart, and a walk reaches all of them."""

from itertools import pairwise

import numpy as np
import pytest

from mrl_db import graph_plan

DIMS, SPREAD = 96, 3000


def crowds(size, noise, count, rng):
    """Groups of `size` rows about one vector each, at a distance of about `noise` from it."""
    centres = rng.standard_normal((count, 1, DIMS)) / np.sqrt(DIMS)
    steps = rng.standard_normal((count, size, DIMS)) / np.sqrt(DIMS)
    return (centres + noise * steps).reshape(-1, DIMS), centres.reshape(-1, DIMS)


@pytest.mark.parametrize(("size", "noise"), [(12, 0.02), (50, 0.2), (300, 0.02), (300, 0.1)])
@pytest.mark.parametrize(
    ("metric", "grown"),
    [("cosine", False), ("inner_product", False), ("l2", False), ("cosine", True)],
)
def test_copies_among_other_rows_are_told_apart(server, metric, size, noise, grown):
    rng = np.random.default_rng(5)
    basis = rng.standard_normal((24, DIMS)) / np.sqrt(24)
    others = rng.standard_normal((SPREAD, 24)) @ basis / np.sqrt(DIMS)
    near, centres = crowds(size, noise, 600 // size, rng)
    vectors = np.concatenate([others, centres, near]).astype(np.float32)
    if metric == "inner_product":  # who asks is first only among rows of one length
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = len(others) if grown else len(vectors)
    docs = server.create_collection("crowds", dims=DIMS, shortlist_dims=48, metric=metric)
    docs.add(np.arange(before), vectors[:before])
    docs.load(cache=False)
    for first in range(before, len(vectors), 100):
        last = min(first + 100, len(vectors))
        docs.add(np.arange(first, last), vectors[first:last])
    ids = np.arange(len(vectors) - len(near), len(vectors), 6)

    true = docs.search(vectors[ids], exact=True).ids
    hits = docs.search(vectors[ids], engine="native").ids
    server.drop("crowds")

    assert np.mean(hits[:, 0] == ids) >= 0.9
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(hits, true, strict=True)]) >= 0.9


@pytest.mark.parametrize("asked", ["far from all rows", "in a loose group"])
def test_a_longer_walk_finds_no_less(server, asked):
    rng = np.random.default_rng(5)
    basis = rng.standard_normal((40, 384)) / np.sqrt(40)
    rows = rng.standard_normal((5_000, 40)) @ basis
    if asked == "far from all rows":
        rows, queries = (
            rows + 0.2 * rng.standard_normal(rows.shape),
            rng.standard_normal((300, 384)),
        )
    else:  # steps in more directions than the projection has
        groups = rng.standard_normal((10, 1, 40)) @ basis + 0.7 * rng.standard_normal(
            (10, 230, 384)
        )
        rows = np.concatenate([rows, groups[:, :200].reshape(-1, 384)])
        queries = groups[:, 200:].reshape(-1, 384)
    docs = server.create_collection("loose", dims=384)
    docs.add(np.arange(len(rows)), rows)
    docs.load(cache=False)
    true = docs.search(queries, exact=True).ids

    found = {}
    for effort in (80, 120, 160, 240, 320, 640):
        ids = docs.search(queries, plan=graph_plan(dims=384, effort=effort)).ids
        found[effort] = np.mean([len({*a} & {*b}) / 10 for a, b in zip(ids, true, strict=True)])
    server.drop("loose")

    recalls = list(found.values())
    assert all(later >= earlier - 0.01 for earlier, later in pairwise(recalls)), found
    assert recalls[0] >= 0.95, found
