"""Rows that are nearly copies of each other: a stage keeps what its codes cannot tell apart, and a walk reaches all of them."""

import numpy as np
import pytest

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
