"""Rows in tight clusters, and what a loaded collection finds of them."""

import numpy as np

DIMS, CLUSTERS = 64, 40


def made(rng):
    """(queries, rows): of 40 centres far from each other, hardly told apart by int8 codes."""
    centres = 3 * rng.standard_normal((CLUSTERS, DIMS))
    rows = centres[rng.integers(0, CLUSTERS, 2_600)] + 0.3 * rng.standard_normal((2_600, DIMS))
    rows = rows.astype(np.float32)
    return rows[:100], rows[100:]


def recall(docs, queries):
    """The share of the ten nearest that the native engine finds."""
    exact = docs.search(queries, k=10, exact=True).ids
    found = docs.search(queries, k=10, engine="native").ids
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
