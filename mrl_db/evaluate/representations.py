"""What a representation is worth at fewer dims and lower precision, against the full vectors.

Plain and exact: rows are cut, brought to a precision and back, and scanned by brute force; no
index, no plan. What a plan delivers is measured by `Collection.recall`.
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
    """How rows answer at some dims and precision.

    Attributes:
        dims: Width of the prefix.
        precision: Of what is compared.
        bytes_per_row: Of the cut row.
        recall: Of the k nearest by the full vectors.
        shortlist_recall: Of these, within the shortlist.
        mean_average_precision: By labels, or None without them.
        ndcg: By judgements, or None without them.
        accuracy: Of the nearest row's label, or None without labels.
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

    Args:
        rows: (n, full) float32.
        queries: (m, full) float32.
        dims: Widths, each 1 to full.
        metric: How vectors are compared.
        k: Answers.
        shortlist: Answers among which the k true ones are looked for.
        precisions: Of what is compared.
        labels: Classes of the rows, (n,); with `query_labels` or not at all.
        query_labels: Classes of the queries, (m,).
        ids: Of the rows, as judgements name them.
        judgements: For each query the gain of ids.
        own_rows: Where the queries are rows, which: each is left out of its own answers.

    Raises:
        ShapeError: Rows and queries do not match.
        ValueRangeError: Dims are none of the vectors', or an argument lacks its companion.
    """
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    same_width = rows.ndim == queries.ndim == 2 and rows.shape[1] == queries.shape[1]
    if not same_width or len(queries) == 0:
        raise ShapeError(
            f"rows have shape {rows.shape} and queries {queries.shape}, "
            "wanted (n, dims) and (m, dims)"
        )
    if (labels is None) != (query_labels is None):
        raise ValueRangeError(
            "labels= and query_labels= come together: classes of rows and of queries"
        )
    if judgements is not None and ids is None:
        raise ValueRangeError("judgements= name rows by ids=; give these, too")
    chosen = Metric.of(metric)
    own = None if own_rows is None else np.asarray(own_rows)
    length = min(max(shortlist, k), len(rows) - (own is not None))
    true = nearest(rows, queries, chosen, min(k, length), own)
    qualities = []
    for width in dims:
        if not 1 <= width <= rows.shape[1]:
            raise ValueRangeError(f"dims is {width}, the vectors have {rows.shape[1]}")
        for precision in map(Precision, precisions):
            cut = as_stored(rows[:, :width], precision)
            listed = nearest(cut, queries[:, :width], chosen, length, own)
            answers = listed[:, : true.shape[1]]
            mean_precision, accuracy, gain = None, None, None
            if labels is not None and query_labels is not None:
                mean_precision, accuracy = _by_labels(
                    answers, np.asarray(labels), np.asarray(query_labels), own is not None
                )
            if judgements is not None and ids is not None:
                keys = [[ids[row] for row in each] for each in answers.tolist()]
                gain = float(ndcg(keys, judgements, k).mean())
            qualities.append(
                Quality(
                    dims=width,
                    precision=precision,
                    bytes_per_row=precision.bytes(width),
                    recall=recall_of_ids(answers, true),
                    shortlist_recall=recall_of_ids(listed, true),
                    mean_average_precision=mean_precision,
                    ndcg=gain,
                    accuracy=accuracy,
                )
            )
    return qualities


def _by_labels(
    answers: NDArray[np.int64], labels: NDArray[Any], query_labels: NDArray[Any], own: bool
) -> tuple[float, float]:
    """Mean average precision, and accuracy. own: whether each query is one of the rows."""
    relevant = (labels[np.newaxis] == query_labels[:, np.newaxis]).sum(axis=1) - own
    scores = average_precision(labels[answers], query_labels, answers.shape[1], relevant=relevant)
    return float(scores.mean()), float((labels[answers[:, 0]] == query_labels).mean())


def nearest(
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    metric: Metric,
    k: int,
    own: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Returns the k nearest rows of each query by brute force.

    Args:
        rows: (n, dims) float32.
        queries: (m, dims) float32.
        metric: How vectors are compared.
        k: Answers.
        own: Where the queries are rows, which, (m,): each is left out of its own answers.

    Returns:
        Positions of rows, (m, k), ties by position.
    """
    scan = kernels.exact_scan(metric, queries, k + (own is not None))
    scan.scan(np.ascontiguousarray(rows))
    answers = np.empty((len(queries), k), dtype=np.int64)
    for query in range(len(queries)):
        distances, positions = scan.hits(query)
        order = positions[np.lexsort((positions, distances))]
        answers[query] = (order if own is None else order[order != own[query]])[:k]
    return answers


def recall_of_ids(answers: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Returns the mean share of the true rows, (m, k), that are among the answers, (m, any)."""
    return float((true[:, :, np.newaxis] == answers[:, np.newaxis]).any(axis=2).mean())


def as_stored(rows: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
    """Returns rows as a precision keeps them, in float32 again.

    int8 and int4 are equal steps, by each row's largest value. A bit is the sign about the mean,
    times what makes the inner product with the row itself right (RaBitQ, arXiv:2405.12497).
    """
    match precision:
        case Precision.float32:
            return rows
        case Precision.float16:
            return rows.astype(np.float16).astype(np.float32)
        case Precision.int8 | Precision.int4:
            return _in_equal_steps(rows, 2 ** (precision.bits - 1) - 1)
        case Precision.bit:
            return _as_bits(rows)


def _in_equal_steps(rows: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.divide(steps, largest, out=np.zeros_like(largest), where=largest > 0)
    inverse = np.divide(largest, steps)
    return np.asarray(np.rint(rows * scale) * inverse, dtype=np.float32)


def _as_bits(rows: NDArray[np.float32]) -> NDArray[np.float32]:
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


def energy(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns shares of the squared length: in the first dims, and in the best directions.

    Both are (dims,), for each number of dims; the best directions are those of a PCA.
    """
    exact = rows.astype(np.float64)
    squares = np.square(exact).sum(axis=0)
    values, _ = principal_directions(exact.T @ exact)
    return np.cumsum(squares) / squares.sum(), np.cumsum(values) / values.sum()
