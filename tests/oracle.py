"""Float64 and integer twins of the kernels, and brute force: what fast paths are judged by."""

from __future__ import annotations

import numpy as np

UNIT_ROUNDOFF = 2.0**-24  # of float32


def gamma(n):
    """Bound on the relative error of a float32 sum of n products (Higham, ASNA, section 3.1)."""
    return (n + 2) * UNIT_ROUNDOFF / (1 - (n + 2) * UNIT_ROUNDOFF)


def inner_product(query, rows):
    """Returns (sums, sums of magnitudes)."""
    products = rows.astype(np.float64) * query.astype(np.float64)
    return products.sum(axis=1), np.abs(products).sum(axis=1)


def squared_l2(query, rows):
    return np.square(rows.astype(np.float64) - query.astype(np.float64)).sum(axis=1)


def cosine_distance(query, rows):
    q, r = query.astype(np.float64), rows.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - np.clip(r @ q / (np.linalg.norm(q) * np.linalg.norm(r, axis=1)), -1.0, 1.0)


def inner_product_int8(query, rows):
    return (rows.astype(np.int64) * query.astype(np.int64)).sum(axis=1)


def hamming(query, rows):
    return np.unpackbits(rows ^ query, axis=1).sum(axis=1).astype(np.int64)


def inner_product_bit(planes, rows):
    return sum(
        (np.unpackbits(rows & plane, axis=1).sum(axis=1).astype(np.int64) << p)
        for p, plane in enumerate(planes)
    )


def distance(metric, query, rows):
    """Returns float64 distances as pgvector's operator for the metric defines them."""
    if metric == "cosine":
        return cosine_distance(query, rows)
    if metric == "inner_product":
        return -inner_product(query, rows)[0]
    return np.sqrt(squared_l2(query, rows))


def nearest(metric, query, ids, rows, k):
    """Returns the k (distance, id) pairs by brute force: by distance, ties by id, NaN last."""
    found = distance(metric, query, rows)
    order = sorted(
        range(len(ids)),
        key=lambda i: (np.isnan(found[i]), 0.0 if np.isnan(found[i]) else found[i], ids[i]),
    )
    return [(found[i], ids[i]) for i in order[:k]]


def assert_same_answer(hits, want, tolerance=2e-6):
    """Holds hits to brute force: the same distances, and ids but for ties within rounding."""
    assert len(hits.ids) == len(want)
    wanted = np.array([distance for distance, _ in want])
    np.testing.assert_allclose(hits.distances, wanted, rtol=2e-6, atol=tolerance)
    for rank, (distance, key) in enumerate(want):
        if hits.ids[rank] != key:
            near = np.isclose(wanted, distance, rtol=2e-6, atol=tolerance).sum()
            at_the_end = rank == len(want) - 1 or np.isclose(
                wanted[-1], distance, rtol=2e-6, atol=tolerance
            )
            assert near > 1 or at_the_end, (
                rank,
                hits.ids[rank],
                key,
                hits.distances[rank],
                distance,
            )
