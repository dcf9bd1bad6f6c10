"""Classifiers of a prefix: linear, nearest class mean, k nearest rows. Each gives probabilities for prefixes of its dims.

A head sees the prefix as a search does: cut, and at unit length where `normalise` says so (the rule of MRL under cosine). Nested linear
heads are softmax regressions, one for each width (MRL), or one weight matrix of which each width takes the first rows (MRL-E,
arXiv:2205.13147, section 3): W(m) = W[:m]. Fitted by L-BFGS (SciPy) on the convex loss: sum over widths of c_m (cross-entropy + l2/2
|W(m)|^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import MissingDependencyError
from mrl_db.model.metric import Metric
from mrl_db.model.nesting import prefix

_MOST_STEPS = 200


class Head(Protocol):
    """A classifier of prefixes of `dims` dims."""

    dims: int

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes) for prefixes (n, dims) as they were cut, not yet at unit length."""
        ...


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Softmax of prefix @ weight + bias. weight: (dims, classes) float32."""

    dims: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    normalise: bool
    temperature: float = 1.0

    def logits(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes), before the temperature."""
        return np.asarray(
            as_seen(prefixes, self.normalise) @ self.weight + self.bias, dtype=np.float64
        )

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes)."""
        return softmax(self.logits(prefixes) / self.temperature)


@dataclass(frozen=True, slots=True)
class ClassMeanHead:
    """Nearest class mean: softmax of the inner products with the classes' mean directions, over the temperature."""

    dims: int
    means: NDArray[np.float32]
    temperature: float = 0.05

    def logits(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes), before the temperature."""
        return np.asarray(as_seen(prefixes, True) @ self.means.T, dtype=np.float64)

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes)."""
        return softmax(self.logits(prefixes) / self.temperature)


@dataclass(frozen=True, slots=True)
class NeighbourHead:
    """k nearest rows by cosine, each of weight exp(similarity / temperature). rows: (n, dims) at unit length; labels: their classes."""

    dims: int
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int
    k: int
    temperature: float = 0.05

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes)."""
        out = np.zeros((len(prefixes), self.classes))
        k = min(self.k, len(self.rows))
        for begin in range(0, len(prefixes), 1024):
            similar = as_seen(prefixes[begin : begin + 1024], True) @ self.rows.T
            nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
            close = np.take_along_axis(similar, nearest, axis=1).astype(np.float64)
            weights = np.exp((close - close.max(axis=1, keepdims=True)) / self.temperature)
            weights /= weights.sum(axis=1, keepdims=True)
            block = out[begin : begin + 1024]
            np.add.at(block, (np.arange(len(block))[:, np.newaxis], self.labels[nearest]), weights)
        return out


def as_seen(prefixes: NDArray[np.float32], normalise: bool) -> NDArray[np.float32]:
    """Returns prefixes as a head sees them."""
    return prefix(prefixes, prefixes.shape[-1], Metric.cosine) if normalise else prefixes


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the softmax of each row.

    >>> softmax(np.array([[0.0, np.log(3.0)]])).round(2).tolist()
    [[0.25, 0.75]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def fit_linear(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    dims: Sequence[int],
    *,
    tied: bool,
    normalise: bool,
    l2: float,
    importance: Sequence[float] | None = None,
) -> list[LinearHead]:
    """Returns a head for each of the dims, rising. labels: 0 to classes - 1. tied: one matrix for all (MRL-E), whose bias they share.

    importance: c_m, the weight of each width's loss where they are tied; 1 by default.
    """
    cuts = [as_seen(vectors[:, :width], normalise) for width in dims]
    if not tied:
        return [
            _fitted([cut], [width], labels, classes, [1.0], l2, normalise)[0]
            for cut, width in zip(cuts, dims, strict=True)
        ]
    return _fitted(
        cuts,
        dims,
        labels,
        classes,
        [1.0] * len(dims) if importance is None else list(importance),
        l2,
        normalise,
    )


def _fitted(
    cuts: Sequence[NDArray[np.float32]],
    dims: Sequence[int],
    labels: NDArray[np.int64],
    classes: int,
    importance: Sequence[float],
    l2: float,
    normalise: bool,
) -> list[LinearHead]:
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise MissingDependencyError(
            "fitting heads needs SciPy; pip install 'mrl_db[learn]'"
        ) from None
    widest = dims[-1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return nested_loss(flat, cuts, labels, classes, importance, l2)

    start = np.zeros((widest + 1) * classes)
    found: Any = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_STEPS, "maxcor": 20}
    )
    matrix = found.x.reshape(widest + 1, classes).astype(np.float32)
    return [
        LinearHead(width, np.ascontiguousarray(matrix[:width]), matrix[widest].copy(), normalise)
        for width in dims
    ]


def nested_loss(
    flat: NDArray[np.float64],
    cuts: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
    importance: Sequence[float],
    l2: float,
) -> tuple[float, NDArray[np.float64]]:
    """Returns the loss of tied nested softmax regressions and its gradient. flat: weights (widest, classes), then the bias, in one row.

    The gradient of a cross-entropy by the logits is softmax - one-hot; a width's reaches the first rows of the one matrix.
    """
    matrix = flat.reshape(-1, classes)
    weight, bias = matrix[:-1], matrix[-1]
    gradient = np.zeros_like(matrix)
    rows = np.arange(len(labels))
    total = 0.0
    for cut, share in zip(cuts, importance, strict=True):
        width = cut.shape[1]
        probability = softmax(
            (cut @ weight[:width].astype(np.float32) + bias.astype(np.float32)).astype(np.float64)
        )
        total += share * float(-np.log(np.maximum(probability[rows, labels], 1e-300)).mean())
        total += share * l2 / 2 * float(np.square(weight[:width]).sum())
        probability[rows, labels] -= 1.0
        error = (probability / len(labels)).astype(np.float32)
        gradient[:width] += share * ((cut.T @ error).astype(np.float64) + l2 * weight[:width])
        gradient[-1] += share * error.sum(axis=0)
    return total, gradient.ravel()


def fit_means(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], classes: int, dims: Sequence[int]
) -> list[ClassMeanHead]:
    """Returns nearest-class-mean heads: the mean direction of each class at each of the dims."""
    heads = []
    for width in dims:
        cut = as_seen(vectors[:, :width], True)
        sums = np.zeros((classes, width), dtype=np.float32)
        np.add.at(sums, labels, cut)
        heads.append(ClassMeanHead(width, as_seen(sums, True)))
    return heads


def fit_neighbours(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    dims: Sequence[int],
    k: int,
) -> list[NeighbourHead]:
    """Returns k-nearest-rows heads over all the rows."""
    return [
        NeighbourHead(width, as_seen(vectors[:, :width], True), labels, classes, k)
        for width in dims
    ]


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the temperature that makes held-out labels likeliest (Guo et al. 2017, arXiv:1706.04599): golden section on its logarithm."""

    def cost(log_temperature: float) -> float:
        probability = softmax(logits / np.exp(log_temperature))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(probability, 1e-300)).mean())

    low, high, ratio = -5.0, 5.0, (5**0.5 - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) <= cost(right) else (left, high)
    return float(np.exp((low + high) / 2))
