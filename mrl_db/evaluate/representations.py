"""What a representation is worth at fewer dims and lower precision: recall, mAP@k, nDCG@k and 1-NN accuracy, each against the full vectors.

Plain and exact: rows are cut, brought to a precision and back, and scanned by brute force; no index, no plan. What a plan delivers is
measured by `Collection.recall`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db import kernels
from mrl_db.evaluate.metrics import average_precision, ndcg
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.metric import Metric
from mrl_db.model.pca import principal_directions
from mrl_db.model.precision import Precision


@dataclass(frozen=True, slots=True)
class Quality:
    """How rows answer at some dims and precision. recall: of the k nearest by the full vectors. shortlist_recall: … within the shortlist.

    mean_average_precision and accuracy need labels, ndcg needs judgements; else they are None.
    """

    dims: int
    precision: Precision
    bytes_per_row: int
    recall: float
    shortlist_recall: float
    mean_average_precision: float | None = None
    ndcg: float | None = None
    accuracy: float | None = None


def by_dims(
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    dims: Sequence[int],
    *,
    metric: Metric | str = Metric.cosine,
    k: int = 10,
    shortlist: int = 100,
    precisions: Sequence[Precision | str] = (Precision.float32,),
    labels: ArrayLike | None = None,
    query_labels: ArrayLike | None = None,
    ids: Sequence[Any] | None = None,
    judgements: Sequence[Mapping[Any, float]] | None = None,
    own_rows: Sequence[int] | None = None,
) -> list[Quality]:
    """Returns the quality at each of the dims and precisions.

    rows: (n, full) float32, queries: (m, full). shortlist: answers among which the k true ones are looked for. labels (n,), query_labels
    (m,): classes. ids: of the rows, as judgements name them, one mapping of id to gain for each query. own_rows: where the queries are
    rows, which, so that each is left out of its own answers.
    """
    rows, queries = (
        np.ascontiguousarray(rows, dtype=np.float32),
        np.ascontiguousarray(queries, dtype=np.float32),
    )
    if (
        rows.ndim != 2
        or queries.ndim != 2
        or rows.shape[1] != queries.shape[1]
        or len(queries) == 0
    ):
        raise ShapeError(
            f"rows have shape {rows.shape} and queries {queries.shape}, wanted (n, dims) and (m, dims)"
        )
    if (labels is None) != (query_labels is None):
        raise ValueRangeError(
            "labels= and query_labels= come together: classes of rows and of queries"
        )
    if judgements is not None and ids is None:
        raise ValueRangeError("judgements= name rows by ids=; give these, too")
    chosen, own = Metric.of(metric), None if own_rows is None else np.asarray(own_rows)
    length = min(max(shortlist, k), len(rows) - (own is not None))
    true = nearest(rows, queries, chosen, min(k, length), own)
    found = []
    for width in dims:
        if not 1 <= width <= rows.shape[1]:
            raise ValueRangeError(f"dims is {width}, the vectors have {rows.shape[1]}")
        for precision in precisions:
            kind = Precision(precision)
            listed = nearest(
                as_stored(rows[:, :width], kind), queries[:, :width], chosen, length, own
            )
            first = listed[:, : true.shape[1]]
            scores, accuracy, gains = None, None, None
            if labels is not None:
                known, asked = np.asarray(labels), np.asarray(query_labels)
                relevant = (known[np.newaxis] == asked[:, np.newaxis]).sum(axis=1) - (
                    own is not None
                )
                scores = float(
                    average_precision(known[first], asked, first.shape[1], relevant=relevant).mean()
                )
                accuracy = float((known[first[:, 0]] == asked).mean())
            if judgements is not None and ids is not None:
                gains = float(
                    ndcg(
                        [[ids[row] for row in answer] for answer in first.tolist()], judgements, k
                    ).mean()
                )
            found.append(
                Quality(
                    width,
                    kind,
                    kind.bytes(width),
                    _share(first, true),
                    _share(listed, true),
                    scores,
                    gains,
                    accuracy,
                )
            )
    return found


def nearest(
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    metric: Metric,
    k: int,
    own: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Returns the k nearest rows of each query by brute force, (m, k), ties by number; without each query's own row where own says it."""
    scan = kernels.exact_scan(metric, queries, k + (own is not None))
    scan.scan(np.ascontiguousarray(rows))
    found = np.empty((len(queries), k), dtype=np.int64)
    for query in range(len(queries)):
        distances, positions = scan.hits(query)
        order = positions[np.lexsort((positions, distances))]
        found[query] = order[order != own[query]][:k] if own is not None else order[:k]
    return found


def as_stored(rows: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """Returns rows as a precision keeps them, in float32 again.

    int8 and int4: equal steps, by each row's largest value. bit: signs about the mean, times what makes the inner product with the row
    itself right (RaBitQ, arXiv:2405.12497).
    """
    if precision is Precision.float32:
        return rows
    if precision is Precision.float16:
        return rows.astype(np.float16).astype(np.float32)
    if precision is Precision.bit:
        mean = rows.mean(axis=0)
        centred = rows - mean
        sums = np.abs(centred).sum(axis=1, keepdims=True)
        factor = np.divide(
            np.square(centred).sum(axis=1, keepdims=True),
            sums,
            out=np.zeros_like(sums),
            where=sums > 0,
        )
        return np.asarray(mean + np.where(centred >= 0, factor, -factor), dtype=np.float32)
    steps = 127 if precision is Precision.int8 else 7
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.divide(steps, largest, out=np.zeros_like(largest), where=largest > 0)
    inverse = np.divide(largest, steps)
    return np.asarray(np.rint(rows * scale) * inverse, dtype=np.float32)


def energy(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns, for each number of dims, the share of the squared length in the first dims; and in the best directions, those of a PCA."""
    exact = rows.astype(np.float64)
    squares = np.square(exact).sum(axis=0)
    values, _ = principal_directions(exact.T @ exact)
    return np.cumsum(squares) / squares.sum(), np.cumsum(values) / values.sum()


def _share(found: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    return float((true[:, :, np.newaxis] == found[:, np.newaxis]).any(axis=2).mean())
