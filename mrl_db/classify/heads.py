"""Classifiers of a prefix: linear, nearest class mean, nearest rows.

Each gives probabilities for prefixes of its dims. A head sees the prefix as a search does: cut,
and at unit length where `normalise` says so (the rule of MRL under cosine). Nested linear heads
are softmax regressions, one for each width (MRL), or one weight matrix of which each width takes
the first rows (MRL-E, arXiv:2205.13147, section 3): W(m) = W[:m]. Fitted by L-BFGS (SciPy) on the
convex loss: sum over widths of c_m (cross-entropy + l2/2 |W(m)|^2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.model.errors import MissingDependencyError, ShapeError, ValueRangeError
from mrl_db.model.metric import Metric
from mrl_db.model.nesting import prefix

HeadName = Literal["linear", "tied", "class_mean", "neighbours"]
HEADS: tuple[HeadName, ...] = get_args(HeadName)

_MOST_STEPS = 200
_BLOCK = 1024
_LOG_TEMPERATURES = (-5.0, 5.0)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Softmax of (prefix @ weight + bias) / temperature.

    Attributes:
        dims: of the prefixes.
        weight: (dims, classes) float32.
        bias: (classes,) float32.
        normalise: whether prefixes are brought to unit length.
        temperature: above 1 makes it less sure.
    """

    dims: int
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    normalise: bool
    temperature: float = 1.0

    def logits(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes), before the temperature."""
        seen = as_seen(prefixes, self.normalise)
        return np.asarray(seen @ self.weight + self.bias, dtype=np.float64)

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes) for prefixes (n, dims) as they were cut, not yet at unit length."""
        return softmax(self.logits(prefixes) / self.temperature)


@dataclass(frozen=True, slots=True)
class ClassMeanHead:
    """Nearest class mean: softmax of inner products with mean directions, over the temperature.

    Attributes:
        dims: of the prefixes.
        means: (classes, dims) float32, at unit length.
    """

    dims: int
    means: NDArray[np.float32]
    temperature: float = 0.05

    def logits(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes), before the temperature."""
        return np.asarray(as_seen(prefixes, True) @ self.means.T, dtype=np.float64)

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes) for prefixes (n, dims)."""
        return softmax(self.logits(prefixes) / self.temperature)


@dataclass(frozen=True, slots=True)
class NeighbourHead:
    """The nearest rows by cosine, each of weight exp(similarity / temperature).

    Attributes:
        dims: of the prefixes.
        rows: (n, dims) float32 at unit length.
        labels: (n,) int64, their classes.
        classes: how many there are.
        k: how many rows count.
    """

    dims: int
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: int
    k: int
    temperature: float = 0.05

    def probabilities(self, prefixes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns (n, classes) for prefixes (n, dims)."""
        probability = np.zeros((len(prefixes), self.classes))
        k = min(self.k, len(self.rows))
        for begin in range(0, len(prefixes), _BLOCK):
            similar = as_seen(prefixes[begin : begin + _BLOCK], True) @ self.rows.T
            nearest = np.argpartition(-similar, k - 1, axis=1)[:, :k]
            close = np.take_along_axis(similar, nearest, axis=1).astype(np.float64)
            weights = softmax(close / self.temperature)
            block = probability[begin : begin + _BLOCK]
            np.add.at(block, (np.arange(len(block))[:, np.newaxis], self.labels[nearest]), weights)
        return probability


Head = LinearHead | ClassMeanHead | NeighbourHead


def head_class(name: HeadName) -> type[Head]:
    """Returns the class of the heads of a cascade."""
    if name == "class_mean":
        return ClassMeanHead
    return NeighbourHead if name == "neighbours" else LinearHead


def fit_heads(
    name: HeadName,
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    dims: Sequence[int],
    *,
    normalise: bool,
    l2: float,
    neighbours: int,
) -> list[Head]:
    """Returns a head of the named kind for each of the dims; labels are 0 to classes - 1."""
    heads: Sequence[Head]
    if name == "class_mean":
        heads = fit_means(vectors, labels, classes, dims)
    elif name == "neighbours":
        cuts = [as_seen(vectors[:, :width], True) for width in dims]
        heads = [NeighbourHead(cut.shape[1], cut, labels, classes, neighbours) for cut in cuts]
    else:
        tied = name == "tied"
        heads = fit_linear(vectors, labels, classes, dims, tied=tied, normalise=normalise, l2=l2)
    return list(heads)


def fit_means(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], classes: int, dims: Sequence[int]
) -> list[ClassMeanHead]:
    """Returns nearest-class-mean heads: the mean direction of each class at each of the dims."""
    heads = []
    for width in dims:
        sums = np.zeros((classes, width), dtype=np.float32)
        np.add.at(sums, labels, as_seen(vectors[:, :width], True))
        heads.append(ClassMeanHead(width, as_seen(sums, True)))
    return heads


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
    """Returns a linear head for each of the dims, rising.

    Args:
        vectors: (n, full dims) float32.
        labels: (n,), 0 to classes - 1.
        classes: how many there are.
        dims: widths of the heads.
        tied: one matrix for all (MRL-E), whose bias they share.
        normalise: prefixes are brought to unit length first.
        l2: penalty on the weights.
        importance: c_m, the weight of each width's loss where they are tied; 1 by default.
    """
    cuts = [as_seen(vectors[:, :width], normalise) for width in dims]
    shares = [1.0] * len(dims) if importance is None else list(importance)
    groups = [(cuts, shares)] if tied else [([cut], [1.0]) for cut in cuts]
    heads = []
    for group, weights in groups:
        matrix = _fitted(group, labels, classes, weights, l2)
        for cut in group:
            weight = np.ascontiguousarray(matrix[: cut.shape[1]])
            heads.append(LinearHead(cut.shape[1], weight, matrix[-1].copy(), normalise))
    return heads


def _fitted(
    cuts: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
    importance: Sequence[float],
    l2: float,
) -> NDArray[np.float32]:
    """Returns the weights of the widest cut, and below them the bias, (dims + 1, classes)."""
    solution = _scipy_optimize().minimize(
        lambda flat: nested_loss(flat, cuts, labels, classes, importance, l2),
        np.zeros((cuts[-1].shape[1] + 1) * classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS, "maxcor": 20},
    )
    return np.asarray(solution.x.reshape(-1, classes), dtype=np.float32)


def nested_loss(
    flat: NDArray[np.float64],
    cuts: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
    importance: Sequence[float],
    l2: float,
) -> tuple[float, NDArray[np.float64]]:
    """Returns the loss of tied nested softmax regressions and its gradient.

    The gradient of a cross-entropy by the logits is softmax - one-hot; a width's reaches the first
    rows of the one matrix.

    Args:
        flat: weights (widest, classes), then the bias, in one row.
        cuts: the vectors as each head sees them, rising in dims.
        labels: (n,), 0 to classes - 1.
        classes: how many there are.
        importance: the weight of each width's loss.
        l2: penalty on the weights.
    """
    matrix = flat.reshape(-1, classes)
    weight, bias = matrix[:-1], matrix[-1]
    gradient = np.zeros_like(matrix)
    rows = np.arange(len(labels))
    total = 0.0
    for cut, share in zip(cuts, importance, strict=True):
        width = cut.shape[1]
        logits = cut @ weight[:width].astype(np.float32) + bias.astype(np.float32)
        probability = softmax(logits.astype(np.float64))
        total += share * cross_entropy(probability, labels)
        total += share * l2 / 2 * float(np.square(weight[:width]).sum())
        probability[rows, labels] -= 1.0
        error = (probability / len(labels)).astype(np.float32)
        gradient[:width] += share * ((cut.T @ error).astype(np.float64) + l2 * weight[:width])
        gradient[-1] += share * error.sum(axis=0)
    return total, gradient.ravel()


def linear_heads(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], classes: int, *, normalise: bool
) -> list[LinearHead]:
    """Returns heads that were trained elsewhere; `Cascade.from_heads` says what they are.

    Raises:
        ShapeError: weights and biases that do not fit.
        ValueRangeError: weights that are not finite.
    """
    if len(weights) != len(biases):
        raise ShapeError(
            f"there are {len(weights)} weights and {len(biases)} biases, "
            "wanted one of each for each width"
        )
    heads = []
    for weight, bias in zip(weights, biases, strict=True):
        matrix = np.ascontiguousarray(weight, dtype=np.float32)
        offsets = np.array(bias, dtype=np.float32)
        if matrix.ndim != 2 or matrix.shape[1] != classes or offsets.shape != (classes,):
            raise ShapeError(
                f"a head has weights {matrix.shape} and a bias {offsets.shape}, "
                f"wanted (dims, {classes}) and ({classes},)"
            )
        if not (np.isfinite(matrix).all() and np.isfinite(offsets).all()):
            raise ValueRangeError(f"the head at {len(matrix)} dims has weights that are not finite")
        heads.append(LinearHead(len(matrix), matrix, offsets, normalise))
    return heads


def calibrated(
    heads: Sequence[Head], vectors: NDArray[np.float32], labels: NDArray[np.int64]
) -> list[Head]:
    """Returns the heads with the temperatures that suit labelled rows; labels below 0 are left out.

    Neighbours keep theirs: it also says how much a near row counts more than a far one.
    """
    known = labels >= 0
    fitted: list[Head] = []
    for head in heads:
        if known.any() and not isinstance(head, NeighbourHead):
            logits = head.logits(vectors[known][:, : head.dims])
            head = replace(head, temperature=fit_temperature(logits, labels[known]))
        fitted.append(head)
    return fitted


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the temperature that makes held-out labels likeliest (arXiv:1706.04599)."""
    solution = _scipy_optimize().minimize_scalar(
        lambda log: cross_entropy(softmax(logits / np.exp(log)), labels),
        bounds=_LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(solution.x))


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


def cross_entropy(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the mean of -log of what each row's label was given; probability: (n, classes)."""
    own = probability[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-300)).mean())


def _scipy_optimize() -> ModuleType:
    try:
        from scipy import optimize
    except ImportError:
        raise MissingDependencyError("fitting needs SciPy; pip install 'mrl_db[learn]'") from None
    return optimize  # type: ignore[no-any-return]
