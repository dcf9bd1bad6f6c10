"""How good answers are: recall, average precision, nDCG, and 1-NN accuracy.

Recall, precision and nDCG come as one value a query, float64 (n,): a mean hides the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.hits import Hits
from mrl_db.model.errors import ShapeError, ValueRangeError


def percentile05(values: NDArray[np.float64]) -> float:
    """Returns the largest value that at least 95 % of the values reach."""
    return float(np.sort(values)[int(0.05 * len(values))])


def recall_at_k(hits: Hits, exact: Hits, *, tolerance: float = 1e-6) -> NDArray[np.float64]:
    """Returns the recall of each query: the share of its k answers as near as the k-th true one.

    An answer counts when it is among the exact ids, or when its distance is not above the exact
    k-th by more than the tolerance: a tie is as right as the row that it ties with.

    Args:
        hits: Of n queries, or of one.
        exact: Of the same queries and k, from `search(exact=True)`.
        tolerance: Of distances.

    Returns:
        float64 (n,).

    Raises:
        ShapeError: The hits are of other queries.
    """
    if hits.ids.shape[:-1] != exact.ids.shape[:-1]:
        raise ShapeError(
            f"hits have shape {hits.ids.shape} and exact ones {exact.ids.shape}, "
            "wanted the same queries"
        )
    return recall_of(hits.ids, hits.distances, exact.ids, exact.distances, tolerance=tolerance)


def recall_of(
    ids: NDArray[Any],
    distances: NDArray[np.float64],
    true_ids: NDArray[Any],
    true_distances: NDArray[np.float64],
    *,
    tolerance: float = 1e-6,
) -> NDArray[np.float64]:
    """Returns what `recall_at_k` does, from plain arrays: (n, k) each, or (k,) of one query."""
    if true_ids.shape[-1] == 0:
        return np.ones(max(1, int(np.prod(true_ids.shape[:-1]))))
    ids, distances = np.atleast_2d(ids), np.atleast_2d(distances)
    true_ids, kth = np.atleast_2d(true_ids), np.atleast_2d(true_distances)[:, -1:]
    right = distances <= kth + tolerance
    # Distances that are NaN, or rounded by more than the tolerance, are right by their ids.
    for query in np.flatnonzero(~right.all(axis=1)):
        nearest = set(true_ids[query].tolist())
        right[query] |= np.array([key in nearest for key in ids[query].tolist()], dtype=bool)
    k = true_ids.shape[1]
    return np.asarray(np.minimum(right.sum(axis=1), k) / k, dtype=np.float64)


def average_precision(
    found: ArrayLike, wanted: ArrayLike, k: int = 10, *, relevant: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Returns AP@k of each query by class labels; its mean is mAP@k.

    AP@k is the sum over ranks i <= k of precision@i where rank i is relevant, over
    min(k, relevant).

    Args:
        found: Labels of the answers, the nearest first, (n, at least k).
        wanted: The label of each query, (n,).
        k: Answers that count.
        relevant: How many rows of each query's class there are, (n,): where they are fewer than k,
            all of them at the top give 1. Without it, k relevant answers give 1, as in the paper's
            code (arXiv:2205.13147, retrieval).

    Returns:
        float64 (n,).

    Raises:
        ShapeError: Answers and queries do not match, or there are fewer than k answers.

    >>> average_precision([["cat", "dog", "cat"]], ["cat"], k=3, relevant=[2]).round(4).tolist()
    [0.8333]
    """
    labels, query_labels = np.atleast_2d(np.asarray(found)), np.atleast_1d(np.asarray(wanted))
    if labels.ndim != 2 or len(labels) != len(query_labels) or labels.shape[1] < k or k < 1:
        raise ShapeError(
            f"labels of answers have shape {labels.shape} for {len(query_labels)} queries, "
            f"wanted (n, at least k = {k})"
        )
    right = labels[:, :k] == query_labels[:, np.newaxis]
    precision = np.cumsum(right, axis=1) / np.arange(1, k + 1)
    most = (
        np.full(len(query_labels), k) if relevant is None else np.minimum(np.asarray(relevant), k)
    )
    sums = (precision * right).sum(axis=1)
    return np.asarray(
        np.divide(sums, most, out=np.zeros(len(query_labels)), where=most > 0), dtype=np.float64
    )


def ndcg(
    found: Sequence[Sequence[Any]] | NDArray[Any],
    judgements: Sequence[Mapping[Any, float]],
    k: int = 10,
) -> NDArray[np.float64]:
    """Returns nDCG@k of each query.

    DCG is the sum of gain / log2(rank + 1) (Järvelin and Kekäläinen 2002, as in trec_eval).

    Args:
        found: Ids of the answers, the nearest first, (n, at least k where there are so many rows).
        judgements: For each query the gain of each judged id; others gain nothing.
        k: Answers that count.

    Returns:
        float64 (n,).

    Raises:
        ShapeError: Answers and judgements are not of the same queries.
        ValueRangeError: A query has no gain above 0: nDCG would be 0 / 0.

    >>> ndcg([["b", "a"]], [{"a": 1.0}], k=2).round(4).tolist()
    [0.6309]
    """
    if len(found) != len(judgements):
        raise ShapeError(
            f"answers of {len(found)} queries and judgements of {len(judgements)}, "
            "wanted the same queries"
        )
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    scores = np.empty(len(judgements))
    for query, (answers, gain_of) in enumerate(zip(found, judgements, strict=True)):
        ideal = np.sort([gain for gain in gain_of.values() if gain > 0])[::-1][:k]
        if len(ideal) == 0:
            raise ValueRangeError(f"query {query} has no judgement above 0; leave it out")
        ids = answers.tolist() if isinstance(answers, np.ndarray) else answers
        gains = np.array([gain_of.get(key, 0.0) for key in ids[:k]])
        best = ideal @ discounts[: len(ideal)]
        scores[query] = gains @ discounts[: len(gains)] / best
    return scores


def nearest_neighbour_accuracy(found: ArrayLike, wanted: ArrayLike) -> float:
    """Returns 1-NN accuracy: the share of queries whose nearest row has their label.

    Args:
        found: Labels of the answers, the nearest first, (n, k) or (n,).
        wanted: The label of each query, (n,).

    Raises:
        ShapeError: They do not match.
    """
    labels, query_labels = np.asarray(found), np.asarray(wanted)
    nearest = labels[:, 0] if labels.ndim == 2 else labels
    if nearest.shape != query_labels.shape or len(query_labels) == 0:
        raise ShapeError(
            f"labels of answers have shape {labels.shape}, of queries {query_labels.shape}, "
            "wanted (n, k) and (n,)"
        )
    return float((nearest == query_labels).mean())
