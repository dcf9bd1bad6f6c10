"""How good answers are: recall, average precision, nDCG, and whether the nearest row has the right label.

Every function takes the answers of n queries and returns one value a query, float64 (n,), so that a mean is never all that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.hits import Hits
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.recall.bounds import mean_lower_bound, mean_upper_bound


@dataclass(frozen=True, slots=True)
class Recall:
    """The recall of a number of queries: mean, 5th percentile, minimum, and between which bounds the mean of all queries lies.

    low, high: each at 95 % confidence, whatever the distribution (`mrl_db.recall.bounds`).
    """

    queries: int
    mean: float
    p05: float
    minimum: float
    low: float
    high: float

    def __str__(self) -> str:
        """Tells it in one line."""
        return (
            f"mean {self.mean:.4f} ({self.low:.4f} to {self.high:.4f}), 5th percentile {self.p05:.3f}, minimum {self.minimum:.3f} "
            f"over {self.queries} queries"
        )


def summarise(recalls: NDArray[np.float64], least: float = 0.0) -> Recall:
    """Returns what recalls, one for each query and in random order, say of all queries.

    least: below 0 where what some queries miss counts more than once, so that a mean comes out right.
    """
    if len(recalls) == 0:
        raise ShapeError("no queries, wanted at least one")
    return Recall(
        queries=len(recalls),
        mean=max(0.0, float(recalls.mean())),
        p05=max(0.0, percentile05(recalls)),
        minimum=max(0.0, float(recalls.min())),
        low=max(0.0, mean_lower_bound(recalls, 0.05, least)),
        high=max(0.0, mean_upper_bound(recalls, 0.05, least)),
    )


def percentile05(values: NDArray[np.float64]) -> float:
    """Returns the largest value that at least 95 % of the values reach."""
    return float(np.sort(values)[int(0.05 * len(values))])


def recall_at_k(hits: Hits, exact: Hits, *, tolerance: float = 1e-6) -> NDArray[np.float64]:
    """Returns the recall of each query, float64 (n,): the share of its k answers that are as near as the k-th true one.

    hits, exact: of the same queries and k; exact from `search(exact=True)`. An answer counts when it is among the exact ids, or when its
    distance is not above the exact k-th by more than the tolerance: a tie is as right as the row that it ties with.
    """
    if hits.ids.shape[:-1] != exact.ids.shape[:-1]:
        raise ShapeError(
            f"hits have shape {hits.ids.shape} and exact ones {exact.ids.shape}, wanted the same queries"
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
    """The same of plain arrays: (n, k) each, or (k,) of one query."""
    if true_ids.shape[-1] == 0:
        return np.ones(max(1, int(np.prod(true_ids.shape[:-1]))))
    found, distances = np.atleast_2d(ids), np.atleast_2d(distances)
    true_ids, kth = np.atleast_2d(true_ids), np.atleast_2d(true_distances)[:, -1:]
    right = distances <= kth + tolerance
    for query in np.flatnonzero(
        ~right.all(axis=1)
    ):  # NaN distances, and rounding beyond the tolerance
        wanted = set(true_ids[query].tolist())
        right[query] |= np.array([key in wanted for key in found[query].tolist()], dtype=bool)
    share: NDArray[np.float64] = (
        np.minimum(right.sum(axis=1), true_ids.shape[1]) / true_ids.shape[1]
    )
    return share


def average_precision(
    found: ArrayLike, wanted: ArrayLike, k: int = 10, *, relevant: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Returns AP@k of each query by class labels, float64 (n,); its mean is mAP@k.

    found: labels of the answers, the nearest first, (n, at least k). wanted: the label of each query, (n,). relevant: how many rows of each
    query's class there are, (n,): where they are fewer than k, all of them at the top give 1; without it, k relevant answers give 1, as in
    the paper's code (arXiv:2205.13147, retrieval). AP@k = sum over ranks i <= k of precision@i where rank i is relevant, over min(k,
    relevant).

    >>> average_precision([["cat", "dog", "cat"]], ["cat"], k=3, relevant=[2]).round(4).tolist()
    [0.8333]
    """
    labels, asked = np.atleast_2d(np.asarray(found)), np.atleast_1d(np.asarray(wanted))
    if labels.ndim != 2 or len(labels) != len(asked) or labels.shape[1] < k or k < 1:
        raise ShapeError(
            f"labels of answers have shape {labels.shape} for {len(asked)} queries, wanted (n, at least k = {k})"
        )
    right = labels[:, :k] == asked[:, np.newaxis]
    precision = np.cumsum(right, axis=1) / np.arange(1, k + 1)
    most = np.full(len(asked), k) if relevant is None else np.minimum(np.asarray(relevant), k)
    scores: NDArray[np.float64] = np.divide(
        (precision * right).sum(axis=1), most, out=np.zeros(len(asked)), where=most > 0
    )
    return scores


def ndcg(
    found: Sequence[Sequence[Any]] | NDArray[Any],
    judgements: Sequence[Mapping[Any, float]],
    k: int = 10,
) -> NDArray[np.float64]:
    """Returns nDCG@k of each query, float64 (n,).

    found: ids of the answers, the nearest first, (n, at least k where there are so many rows). judgements: for each query the gain of each
    judged id; others gain nothing. DCG = sum of gain / log2(rank + 1) (Järvelin and Kekäläinen 2002, as trec_eval computes it). A query
    without a positive gain is refused: it would be 0 / 0.

    >>> ndcg([["b", "a"]], [{"a": 1.0}], k=2).round(4).tolist()
    [0.6309]
    """
    if len(found) != len(judgements):
        raise ShapeError(
            f"answers of {len(found)} queries and judgements of {len(judgements)}, wanted the same queries"
        )
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    scores = np.empty(len(judgements))
    for query, (ids, gains) in enumerate(zip(found, judgements, strict=True)):
        ideal = np.sort([gain for gain in gains.values() if gain > 0])[::-1][:k]
        if len(ideal) == 0:
            raise ValueRangeError(f"query {query} has no judgement above 0; leave it out")
        got = np.array(
            [
                gains.get(key, 0.0)
                for key in (ids.tolist() if isinstance(ids, np.ndarray) else ids)[:k]
            ]
        )
        scores[query] = (got * discounts[: len(got)]).sum() / (
            ideal * discounts[: len(ideal)]
        ).sum()
    return scores


def nearest_neighbour_accuracy(found: ArrayLike, wanted: ArrayLike) -> float:
    """Returns the share of queries whose nearest row has their label: 1-NN accuracy. found: labels of the answers, (n, k) or (n,)."""
    labels, asked = np.asarray(found), np.asarray(wanted)
    nearest = labels[:, 0] if labels.ndim == 2 else labels
    if nearest.shape != asked.shape or len(asked) == 0:
        raise ShapeError(
            f"labels of answers have shape {labels.shape}, of queries {asked.shape}, wanted (n, k) and (n,)"
        )
    return float((nearest == asked).mean())
