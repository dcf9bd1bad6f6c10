"""Maximal marginal relevance: answers near the query and unlike each other.

Carbonell & Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
producing summaries", SIGIR 1998.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.metric import Metric

_FARTHEST = 2.0  # by cosine; a zero vector has no distance


def marginal_order(
    metric: Metric,
    query: NDArray[np.float32],
    vectors: NDArray[np.float32],
    weight: float,
    k: int,
) -> NDArray[np.int64]:
    """Returns the positions of k vectors in the order in which they are chosen.

    The nearest comes first. Each next one has the greatest weight · likeness to the query -
    (1 - weight) · likeness to the most alike of those before; ties by position. Likeness is the
    negative distance.

    Args:
        metric: Of query and vectors.
        query: (dims,).
        vectors: (n, dims), the nearest first.
        weight: 1: as near as can be; 0: as unlike each other as can be.
        k: How many, at most n.
    """
    rows = vectors.astype(np.float64)
    near = -_distances(metric, query.astype(np.float64), rows)
    alike = np.full(len(rows), -np.inf)
    left = np.ones(len(rows), dtype=bool)
    order: list[int] = []
    while len(order) < min(k, len(rows)):
        score = near if not order else weight * near - (1 - weight) * alike
        best = int(np.argmax(np.where(left, score, -np.inf)))
        order.append(best)
        left[best] = False
        alike = np.maximum(alike, -_distances(metric, rows[best], rows))
    return np.array(order, dtype=np.int64)


def _distances(
    metric: Metric, query: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.nan_to_num(metric.distances(query, rows), nan=_FARTHEST)
