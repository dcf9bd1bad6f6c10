"""The cascade: a classifier for each of a model's nesting dims, asked in turn until one is sure.

Adaptive classification (arXiv:2205.13147), fitted in four steps, each on rows that the ones before
did not see: heads on the training rows; a temperature for each head, then a front of stopping
rules by Pareto search, on a third of the calibration rows; the rule's proof on the rest. The proof
assumes only that rows to come are like the calibration rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.classify import targets
from mrl_db.classify.answers import Answer, Read, ask, most_probable
from mrl_db.classify.evidence import Evidence, gather
from mrl_db.classify.heads import (
    HEADS,
    Head,
    HeadName,
    calibrated,
    fit_heads,
    head_class,
    linear_heads,
)
from mrl_db.classify.stopping import pareto
from mrl_db.classify.targets import Judged
from mrl_db.door_dims import checked_nesting_dims, checked_widths
from mrl_db.model.arrays import arrays_of_file
from mrl_db.model.errors import NotFittedError, ShapeError, ValueRangeError

_FORMAT = 1
_FEWEST_ROWS = 20  # to calibrate with at all
_DEFAULT_LOSS = 0.005


class Cascade:
    """Heads at rising dims and the rule that says where to stop.

    Attributes:
        classes: the labels, in the order of the heads' outputs; None until it is fitted.
        heads: one for each of dims.
        thresholds: confidence from which on a row stops at each head but the last.
        abstain_below: confidence below which an answer is marked as abstained.
        report: the evidence for the rule; None until one is fitted.
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        head: HeadName = "linear",
        normalise: bool = True,
        l2: float = 1e-5,
        neighbours: int = 10,
        costs: Sequence[float] | None = None,
    ) -> None:
        """Makes a cascade, to be fitted.

        Args:
            dims: rising widths; the last one is the full dims.
            head: "linear", a softmax regression for each of the dims; "tied", one matrix for all
                (MRL-E); "class_mean"; "neighbours", the nearest rows.
            normalise: prefixes are brought to unit length before a linear head sees them.
            l2: penalty on the linear heads' weights.
            neighbours: how many nearest rows.
            costs: what stopping at each of the dims has cost until then, rising; by default the
                dims themselves, as each head reads only what the ones before did not. Give
                microseconds where these were measured.

        Raises:
            ValueRangeError: an argument is out of its range; the message says which.
        """
        widths = checked_widths(dims, "dims")
        self.dims = checked_nesting_dims(widths, widths[-1])
        if head not in HEADS:
            raise ValueRangeError(f"head is {head!r}, wanted one of {', '.join(map(repr, HEADS))}")
        if not l2 >= 0 or neighbours < 1:
            raise ValueRangeError(
                f"l2 is {l2} and neighbours {neighbours}, wanted at least 0 and 1"
            )
        self.costs = np.asarray(self.dims if costs is None else costs, dtype=np.float64)
        rising = self.costs.shape == (len(self.dims),) and np.all(np.diff(self.costs) >= 0)
        if not rising or not np.all(np.isfinite(self.costs)) or self.costs[0] < 0:
            raise ValueRangeError(
                f"costs is {costs!r}, wanted {len(self.dims)} rising numbers, "
                f"one for each of dims {self.dims}"
            )
        self.head: HeadName = head
        self.normalise, self.l2, self.neighbours = normalise, l2, neighbours
        self.classes: NDArray[Any] | None = None
        self.heads: list[Head] = []
        self.thresholds: tuple[float, ...] = ()
        self.abstain_below = 0.0
        self.report: Evidence | None = None

    # Fitting

    def fit(
        self,
        vectors: ArrayLike,
        labels: ArrayLike,
        *,
        calibrate: tuple[ArrayLike, ArrayLike],
        max_loss: float | None = None,
        max_cost: float | None = None,
        max_error: float | None = None,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> Cascade:
        """Fits heads, temperatures and the stopping rule; returns itself.

        Give one of max_loss (the default, with 0.005), max_cost and max_error.

        Args:
            vectors: (n, full dims) floats.
            labels: (n,) integers or strings, of at least two classes.
            calibrate: (vectors, labels) of other rows.
            max_loss: the accuracy may be below the widest head's by so much (0.005: half a point).
            max_cost: the best accuracy at this expected cost; nothing is proven.
            max_error: of the rows that are answered at most this share is wrong; the others are
                abstained from.
            confidence: with which max_loss and max_error are kept for rows like the calibration
                rows, whatever their distribution.
            seed: of the split of the calibration rows.

        Raises:
            ShapeError: vectors and labels that do not fit, or too few rows to calibrate with.
            ValueRangeError: NaN or infinity, one class only, or an argument out of its range.
            TargetNotMetError: no rule is proven; the message says what the best one reaches.
            MissingDependencyError: SciPy is not installed.
        """
        X, y = self._labelled(vectors, labels)  # noqa: N806  # as the field calls them
        classes, coded = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueRangeError(f"labels hold {len(classes)} class, wanted at least two")
        self.classes = classes
        self.heads = fit_heads(
            self.head,
            X,
            coded.astype(np.int64),
            len(classes),
            self.dims,
            normalise=self.normalise,
            l2=self.l2,
            neighbours=self.neighbours,
        )
        return self.fit_rule(
            *calibrate,
            max_loss=max_loss,
            max_cost=max_cost,
            max_error=max_error,
            confidence=confidence,
            seed=seed,
        )

    @staticmethod
    def from_heads(
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike],
        classes: ArrayLike,
        *,
        normalise: bool = False,
        costs: Sequence[float] | None = None,
    ) -> Cascade:
        """Returns a cascade of heads trained elsewhere, such as `mrl_db.learn.NestedLinear`.

        Until `fit_rule` has fitted a rule, all rows go to the widest head.

        Args:
            weights: for each of the dims, rising, (dims, classes): logits are prefix @ weight +
                bias.
            biases: (classes,) each.
            classes: the labels in the order of the logits.
            normalise: prefixes are brought to unit length first.
            costs: as in `Cascade`.

        Raises:
            ShapeError: weights, biases and classes that do not fit.
            ValueRangeError: weights that are not finite, or dims that do not rise.
        """
        named = np.asarray(classes)
        if named.ndim != 1 or len(named) < 2 or len(np.unique(named)) != len(named):
            raise ShapeError(
                f"classes has shape {named.shape}, wanted at least two different labels in one row"
            )
        heads = linear_heads(weights, biases, len(named), normalise=normalise)
        cascade = Cascade([head.dims for head in heads], normalise=normalise, costs=costs)
        cascade.classes, cascade.heads = named, list(heads)
        cascade.thresholds = (float("inf"),) * (len(heads) - 1)
        return cascade

    def fit_rule(
        self,
        vectors: ArrayLike,
        labels: ArrayLike,
        *,
        max_loss: float | None = None,
        max_cost: float | None = None,
        max_error: float | None = None,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> Cascade:
        """Fits temperatures and the stopping rule to heads that are there; returns itself.

        Args:
            vectors: of rows that the heads have not seen: `calibrate` of `fit`, which explains the
                other arguments and what is raised.
            labels: theirs.
        """
        if sum(target is not None for target in (max_loss, max_cost, max_error)) > 1:
            raise ValueRangeError("max_loss, max_cost, max_error are three ways to stop; give one")
        for name, value in (
            ("max_loss", max_loss),
            ("max_cost", max_cost),
            ("max_error", max_error),
        ):
            number = isinstance(value, (int, float, np.integer, np.floating))
            if value is not None and not (number and value == value):
                raise ValueRangeError(f"{name} is {value!r:.60}, wanted a number")
        if not 0.5 <= confidence < 1:
            raise ValueRangeError(f"confidence is {confidence}, wanted at least 0.5 and below 1")
        numbers = {label: number for number, label in enumerate(self._fitted().tolist())}
        X, y = self._labelled(vectors, labels)  # noqa: N806
        if len(X) < _FEWEST_ROWS:
            raise ShapeError(
                f"there are {len(X)} rows to calibrate with, "
                f"wanted at least {_FEWEST_ROWS}, some hundreds to prove something"
            )
        # A class that no head has seen is one that all heads get wrong.
        coded = np.array([numbers.get(label, -1) for label in y.tolist()], dtype=np.int64)
        order = np.random.default_rng(seed).permutation(len(X))
        third, rest = order[: len(X) // 3], order[len(X) // 3 :]
        self.heads = calibrated(self.heads, X[third], coded[third])
        chosen, tested = self._judged(X[third], coded[third]), self._judged(X[rest], coded[rest])
        front = pareto(chosen.confidence, chosen.expected_errors, self.costs)
        self.abstain_below = 0.0
        if max_cost is not None:
            rule = targets.rule_within(front, self.costs, max_cost)
            target = f"expected cost {max_cost:g}"
        elif max_error is not None:
            rule, self.abstain_below = targets.rule_for_error(
                front, chosen, tested, max_error, 1 - confidence
            )
            target = f"at most {100 * max_error:g} % of the answered wrong"
        else:
            loss = _DEFAULT_LOSS if max_loss is None else max_loss
            rule = targets.rule_for_loss(front, chosen, tested, self.costs, loss, 1 - confidence)
            target = f"at most {100 * loss:g} points below full dims"
        self.thresholds = rule.thresholds
        self.report = gather(
            target,
            chosen,
            tested,
            y[rest],
            thresholds=self.thresholds,
            abstain_below=self.abstain_below,
            dims=self.dims,
            costs=self.costs,
        )
        if max_cost is not None:
            # Nothing is to be proven: all rows fit the rule that is kept.
            self.heads = calibrated(self.heads, X, coded)
            judged = self._judged(X, coded)
            front = pareto(judged.confidence, judged.expected_errors, self.costs)
            self.thresholds = targets.rule_within(front, self.costs, max_cost).thresholds
        return self

    def _judged(self, X: NDArray[np.float32], coded: NDArray[np.int64]) -> Judged:  # noqa: N803
        pairs = [most_probable(head.probabilities(X[:, : head.dims])) for head in self.heads]
        return Judged(
            np.stack([sure for _, sure in pairs], axis=1),
            np.stack([best != coded for best, _ in pairs], axis=1),
        )

    # Answers

    def predict(self, vectors: ArrayLike, *, dims: int | None = None) -> Answer:
        """Returns the answer for each row.

        Args:
            vectors: (n, full dims) floats.
            dims: asks this one head only, and no cascade.

        Raises:
            NotFittedError: the cascade has no heads.
            ShapeError, ValueRangeError: vectors of other dims, NaN or infinity; dims without a
                head.
        """
        X = self._checked(vectors)  # noqa: N806
        return self.predict_stages(len(X), lambda rows, begin, end: X[rows, begin:end], dims=dims)

    def predict_stages(self, n: int, read: Read, *, dims: int | None = None) -> Answer:
        """Returns the answer for n rows, of which only the coordinates that are needed are read.

        Args:
            n: how many rows there are.
            read: called with (rows, begin, end), returns their coordinates (rows, end - begin)
                float32.
            dims: asks this one head only, and no cascade.
        """
        classes = self._fitted()
        if dims is None:
            coded, used, sure = ask(self.heads, self.thresholds, n, read)
        elif dims in self.dims:
            coded, used, sure = ask([self.heads[self.dims.index(dims)]], (), n, read)
        else:
            raise ValueRangeError(f"dims is {dims}, the cascade has heads at {self.dims}")
        return Answer(classes[coded], used, sure, sure < self.abstain_below)

    def score(self, vectors: ArrayLike, labels: ArrayLike) -> float:
        """Returns the accuracy on rows (n, full dims) with labels (n,)."""
        X, y = self._labelled(vectors, labels)  # noqa: N806
        return float((self.predict(X).labels == y).mean())

    # The door

    def _fitted(self) -> NDArray[Any]:
        if self.classes is None or not self.heads:
            raise NotFittedError("this cascade is not fitted; call fit(), or load one")
        return self.classes

    def _checked(self, vectors: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(vectors)
        if array.ndim != 2 or array.shape[1] != self.dims[-1] or array.dtype.kind != "f":
            raise ShapeError(
                f"vectors are {array.dtype} of shape {array.shape}, "
                f"wanted floats (n, {self.dims[-1]})"
            )
        array = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(array).all():
            raise ValueRangeError("vectors hold NaN or infinity")
        return array

    def _labelled(
        self, vectors: ArrayLike, labels: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        X, y = self._checked(vectors), np.asarray(labels)  # noqa: N806
        if y.ndim != 1 or len(y) != len(X) or len(y) == 0 or y.dtype.kind not in "iuUO":
            raise ShapeError(
                f"labels are {y.dtype} of shape {y.shape} for {len(X)} vectors, "
                "wanted integers or strings, one each"
            )
        if y.dtype.kind == "O" and not all(isinstance(label, str) for label in y.tolist()):
            raise ValueRangeError("labels hold objects, wanted integers or strings")
        return X, y.astype(str) if y.dtype.kind == "O" else y

    # To bytes and back

    def to_bytes(self) -> bytes:
        """Returns the fitted cascade as an .npz file, of arrays and JSON: nothing in it is code."""
        arrays: dict[str, Any] = {
            "classes": self._fitted(),
            "thresholds": np.array(self.thresholds),
            "costs": self.costs,
        }
        for number, head in enumerate(self.heads):
            for name in head.__dataclass_fields__:
                arrays[f"head{number}.{name}"] = np.asarray(getattr(head, name))
        names = ("dims", "head", "normalise", "l2", "neighbours", "abstain_below")
        about = {name: getattr(self, name) for name in names}
        about |= {"format": _FORMAT, "report": self.report and asdict(self.report)}
        file = io.BytesIO()
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Cascade:
        """Returns the cascade that `to_bytes` wrote; raises ValueRangeError when it is none."""
        arrays = arrays_of_file(data, "cascade", "about")
        try:
            about = json.loads(str(arrays["about"]))
            if about["format"] != _FORMAT:
                raise ValueError(f"it has format {about['format']}, this version reads {_FORMAT}")
            given = {name: about[name] for name in ("head", "normalise", "l2", "neighbours")}
            cascade = Cascade(about["dims"], costs=arrays["costs"].tolist(), **given)
            cascade.classes = arrays["classes"]
            cascade.thresholds = tuple(arrays["thresholds"].tolist())
            cascade.abstain_below = about["abstain_below"]
            kind = head_class(cascade.head)
            for number in range(len(cascade.dims)):
                names = kind.__dataclass_fields__
                values = (arrays[f"head{number}.{name}"] for name in names)
                plain: list[Any] = [value if value.ndim else value.item() for value in values]
                cascade.heads.append(kind(*plain))
            if about["report"] is not None:
                pairs = ("accuracy_bounds", "dims_bounds", "greedy")
                about["report"] |= {name: tuple(about["report"][name]) for name in pairs}
                cascade.report = Evidence(**about["report"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueRangeError(f"this is no cascade of ours: {error}") from None
        return cascade
