"""What a cascade answers: each row asks one head after another until one is sure enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.classify.heads import Head

Read = Callable[[NDArray[np.int64], int, int], NDArray[np.float32]]
"""Called with (rows, begin, end): returns coordinates begin to end of these rows, float32."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answers for n rows.

    Attributes:
        labels: (n,), of the kind that `fit` was given.
        dims: (n,) int64, how many dims each row needed.
        confidence: (n,) float64, the calibrated probability of the label.
        abstained: (n,) bool, rows for which no head was sure enough of a cascade that was fitted
            with max_error; their label is the best guess all the same.
    """

    labels: NDArray[Any]
    dims: NDArray[np.int64]
    confidence: NDArray[np.float64]
    abstained: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def joined(answers: Sequence[Answer]) -> Answer:
    """Returns the answers for rows one after another."""
    fields = ("labels", "dims", "confidence", "abstained")
    return Answer(*(np.concatenate([getattr(part, name) for part in answers]) for name in fields))


def ask(
    heads: Sequence[Head], thresholds: Sequence[float], n: int, read: Read
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Asks heads of rising dims about n rows, and reads only the coordinates that are needed.

    Args:
        heads: at least one.
        thresholds: confidence from which on a row stops at each head but the last, which takes all.
        n: how many rows there are.
        read: called once for each head, with the rows that are left and their next coordinates.

    Returns:
        For each row the number of its class, the dims that it needed, and the confidence, each
        (n,).
    """
    classes, dims, confidence = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    left, prefixes = np.arange(n), np.empty((n, 0), dtype=np.float32)
    for head, threshold in zip(heads, (*thresholds, -np.inf), strict=True):
        if len(left) == 0:
            break
        prefixes = np.concatenate([prefixes, read(left, prefixes.shape[1], head.dims)], axis=1)
        best, sure = most_probable(head.probabilities(prefixes))
        classes[left], dims[left], confidence[left] = best, head.dims, sure
        goes_on = sure < threshold
        left, prefixes = left[goes_on], prefixes[goes_on]
    return classes, dims, confidence


def most_probable(
    probability: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the most probable class of each row and its probability, (n,) both."""
    best = probability.argmax(axis=1)
    return best, probability[np.arange(len(best)), best]
