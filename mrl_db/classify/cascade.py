"""The cascade: a classifier for each of a model's nesting dims, asked in turn until one is sure (adaptive classification,
arXiv:2205.13147).

Fitted in four steps, each on rows that the ones before did not see: heads on X; a temperature for each head, then a front of stopping rules
by Pareto search, on one half of the calibration rows; the rule's proof on the other half. The proof assumes nothing but that the rows to
come are like the calibration rows: a betting bound (`mrl_db.recall.bounds`), tested from the dearest rule to cheaper ones until one
fails.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.classify import heads as kinds
from mrl_db.classify.heads import ClassMeanHead, LinearHead, NeighbourHead
from mrl_db.classify.stopping import Rule, cheapest_proven, measure, pareto, stages_of
from mrl_db.model.errors import NotFittedError, ShapeError, TargetNotMetError, ValueRangeError
from mrl_db.model.nesting import check_nesting_dims
from mrl_db.recall.bounds import mean_exceeds, mean_lower_bound, mean_upper_bound

_FORMAT = 1
_SHARES = np.geomspace(0.01, 2.0, 48)  # of the room above the thresholds that are aimed at
_HEADS = ("linear", "tied", "class_mean", "neighbours")


@dataclass(frozen=True, slots=True)
class Answer:
    """labels (n,): as they were given to fit(). dims (n,): what each row needed. confidence (n,): the calibrated probability of its label.

    abstained (n,): rows that no head was sure enough of, where the cascade was fitted with max_error; their label is the best guess all the
    same.
    """

    labels: NDArray[Any]
    dims: NDArray[np.int64]
    confidence: NDArray[np.float64]
    abstained: NDArray[np.bool_]

    def __len__(self) -> int:
        """Rows."""
        return len(self.labels)


def joined(answers: Sequence[Answer]) -> Answer:
    """Returns the answers for rows one after another."""
    fields = ("labels", "dims", "confidence", "abstained")
    return Answer(
        *(np.concatenate([getattr(answer, name) for answer in answers]) for name in fields)
    )


def _expected(sure: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What thresholds are searched with in place of 0 and 1: half of whether a head is wrong, half of how likely it says that is.

    Calibrated confidences say nothing else on average, and have none of a coin's noise; the observed half holds them to the facts.
    """
    return (wrong + (1.0 - sure)) / 2


@dataclass(frozen=True, slots=True)
class Report:
    """What the rule was proven to keep, and what it costs, on the calibration rows that chose nothing. Pairs are 95 % bounds of a mean.

    With max_cost it is of a rule that a third of the calibration rows chose; the one that is kept was chosen by all of them.

    target: what was asked for, in words. full_accuracy: of the widest head. oracle_accuracy, oracle_dims: of a cascade that knew for each
    row the first head that is right (the widest where none is). abstained: share. greedy: (mean dims, accuracy) of the paper's pairwise
    thresholds on the same heads. class_dims: for each label, the mean dims that its rows needed.
    """

    target: str
    rows: int
    accuracy: float
    accuracy_bounds: tuple[float, float]
    full_accuracy: float
    dims: float
    dims_bounds: tuple[float, float]
    cost: float
    abstained: float
    oracle_accuracy: float
    oracle_dims: float
    greedy: tuple[float, float]
    class_dims: Mapping[str, float]

    def __str__(self) -> str:
        """Tells it in one line."""
        return (
            f"{self.target}: accuracy {self.accuracy:.4f} ({self.accuracy_bounds[0]:.4f} to {self.accuracy_bounds[1]:.4f}), full dims "
            f"{self.full_accuracy:.4f}, at {self.dims:.1f} dims a row ({self.dims_bounds[0]:.1f} to {self.dims_bounds[1]:.1f}) "
            f"on {self.rows} rows"
        )


class Cascade:
    """Heads at rising dims and the rule that says where to stop.

    dims: rising; the last are the full dims. head: "linear", a softmax regression for each of the dims; "tied", one matrix for all (MRL-E);
    "class_mean"; "neighbours", the k nearest rows. normalise: prefixes are brought to unit length before a linear head sees them. l2: of
    the linear heads' weights. costs: what stopping at each of the dims has cost until then, rising; by default the dims themselves, as each
    head reads only what the ones before did not. Give microseconds where these were measured.
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        head: str = "linear",
        normalise: bool = True,
        l2: float = 1e-5,
        neighbours: int = 10,
        costs: Sequence[float] | None = None,
    ) -> None:
        """Checks the arguments; raises ValueRangeError."""
        if not len(dims):
            raise ValueRangeError("dims is empty, wanted at least one width")
        self.dims = check_nesting_dims(dims, int(dims[-1]))
        if head not in _HEADS:
            raise ValueRangeError(f"head is {head!r}, wanted one of {', '.join(map(repr, _HEADS))}")
        spent = np.asarray(self.dims if costs is None else costs, dtype=np.float64)
        if (
            spent.shape != (len(self.dims),)
            or not np.all(np.isfinite(spent))
            or np.any(np.diff(spent) < 0)
            or spent[0] < 0
        ):
            raise ValueRangeError(
                f"costs is {costs!r}, wanted {len(self.dims)} rising numbers, one for each of dims {self.dims}"
            )
        if not l2 >= 0 or neighbours < 1:
            raise ValueRangeError(
                f"l2 is {l2} and neighbours {neighbours}, wanted at least 0 and 1"
            )
        self.head, self.normalise, self.l2, self.neighbours, self.costs = (
            head,
            normalise,
            l2,
            neighbours,
            spent,
        )
        self.classes: NDArray[Any] | None = None
        self.heads: list[LinearHead | ClassMeanHead | NeighbourHead] = []
        self.thresholds: tuple[float, ...] = ()
        self.abstain_below = 0.0
        self.report: Report | None = None

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

        vectors: (n, full dims) float32. labels: (n,) integers or strings. calibrate: (vectors, labels) of other rows. One of max_loss: the
        accuracy may be below the widest head's by so much (0.005: half a point); this is the default, with 0.005. max_cost: the best
        accuracy at this expected cost. max_error: of the rows that are answered at most this share is wrong; the others are abstained from.
        confidence: with which max_loss and max_error are kept for rows like the calibration rows, whatever their distribution.

        Raises TargetNotMetError when no rule is proven, and says what the best one reaches.
        """
        X, y = self._rows(vectors, labels)  # noqa: N806  # as the field calls them
        known, coded = np.unique(y, return_inverse=True)
        if len(known) < 2:
            raise ValueRangeError(f"labels hold {len(known)} class, wanted at least two")
        self.classes = known
        self.heads = self._fit_heads(X, coded.astype(np.int64), len(known))
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
        """Returns a cascade of heads that were trained elsewhere (`mrl_db.learn.NestedLinear`), which `fit_rule` then makes stop.

        weights: for each of the dims, rising, (dims, classes): logits are prefix @ weight + bias. biases: (classes,) each. classes: the
        labels in the order of the logits. normalise: prefixes are brought to unit length first. Raises ShapeError and ValueRangeError.
        """
        known = np.asarray(classes)
        if known.ndim != 1 or len(known) < 2 or len(np.unique(known)) != len(known):
            raise ShapeError(
                f"classes has shape {known.shape}, wanted at least two different labels in one row"
            )
        if len(weights) != len(biases):
            raise ShapeError(
                f"there are {len(weights)} weights and {len(biases)} biases, wanted one of each for each width"
            )
        fitted: list[LinearHead | ClassMeanHead | NeighbourHead] = []
        for given, added in zip(weights, biases, strict=True):
            weight, bias = (
                np.ascontiguousarray(given, dtype=np.float32),
                np.array(added, dtype=np.float32),
            )
            if weight.ndim != 2 or weight.shape[1] != len(known) or bias.shape != (len(known),):
                raise ShapeError(
                    f"a head has weights {weight.shape} and a bias {bias.shape}, wanted (dims, {len(known)}) and ({len(known)},)"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueRangeError(
                    f"the head at {len(weight)} dims has weights that are not finite"
                )
            fitted.append(LinearHead(len(weight), weight, bias, normalise))
        cascade = Cascade([head.dims for head in fitted], normalise=normalise, costs=costs)
        cascade.classes, cascade.heads = known, fitted
        cascade.thresholds = (float("inf"),) * (len(fitted) - 1)
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
        """Fits temperatures and the stopping rule, to heads that are fitted, on rows that these have not seen; as `fit` does at its end."""
        given = [each is not None for each in (max_loss, max_cost, max_error)]
        if sum(given) > 1:
            raise ValueRangeError(
                "max_loss, max_cost and max_error are three ways to stop; give one"
            )
        if not any(given):
            max_loss = 0.005
        if not 0.5 <= confidence < 1:
            raise ValueRangeError(f"confidence is {confidence}, wanted at least 0.5 and below 1")
        known = self._fitted()
        held, held_labels = self._rows(vectors, labels)
        place = {label: number for number, label in enumerate(known.tolist())}
        # A class that no head has seen is one that all heads get wrong.
        held_coded = np.array(
            [place.get(label, -1) for label in held_labels.tolist()], dtype=np.int64
        )
        if len(held) < 20:
            raise ShapeError(
                f"there are {len(held)} rows to calibrate with, wanted at least 20, some hundreds to prove something"
            )
        order = np.random.default_rng(seed).permutation(len(held))
        chosen, tested = order[: len(held) // 3], order[len(held) // 3 :]
        self._calibrate(held[chosen], held_coded[chosen])
        sure, wrong = self._judged(held[chosen], held_coded[chosen])
        sure_tested, wrong_tested = self._judged(held[tested], held_coded[tested])
        errors = _expected(sure, wrong)
        front = pareto(sure, errors, self.costs)
        self.abstain_below = 0.0
        if max_cost is not None:
            rule, told = self._within(front, max_cost)
        elif max_error is not None:
            rule, told = self._selective(
                front, sure, sure_tested, wrong_tested, max_error, 1 - confidence
            )
        else:
            rule, told = self._lossless(
                front,
                float(errors[:, -1].mean()),
                sure_tested,
                wrong_tested,
                float(max_loss or 0.0),
                1 - confidence,
            )
        self.thresholds = rule.thresholds
        self.report = self._reported(
            told, sure, wrong, sure_tested, wrong_tested, held_labels[tested]
        )
        if (
            max_cost is not None
        ):  # nothing is to be proven: all rows fit the rule that is kept, those of the report included
            self._calibrate(held, held_coded)
            sure, wrong = self._judged(held, held_coded)
            self.thresholds = self._within(
                pareto(sure, _expected(sure, wrong), self.costs), max_cost
            )[0].thresholds
        return self

    # Answers

    def predict(self, vectors: ArrayLike, *, dims: int | None = None) -> Answer:
        """Returns the answer for vectors (n, full dims). dims: asks this one head only, and no cascade."""
        X = self._checked(vectors)  # noqa: N806
        return self.predict_stages(len(X), lambda rows, begin, end: X[rows, begin:end], dims=dims)

    def predict_stages(
        self,
        n: int,
        read: Callable[[NDArray[np.int64], int, int], NDArray[np.float32]],
        *,
        dims: int | None = None,
    ) -> Answer:
        """The same for n rows, read when they are needed: `read(rows, begin, end)` returns their coordinates, (len(rows), end - begin)."""
        known = self._fitted()
        if dims is not None and dims not in self.dims:
            raise ValueRangeError(f"dims is {dims}, the cascade has heads at {self.dims}")
        stages = range(len(self.dims)) if dims is None else [self.dims.index(dims)]
        label, used = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        sure = np.zeros(n)
        left = np.arange(n)
        held = np.empty((n, 0), dtype=np.float32)
        for stage in stages:
            if len(left) == 0:
                break
            width = self.dims[stage]
            held = np.concatenate([held, read(left, held.shape[1], width)], axis=1)
            probability = self.heads[stage].probabilities(held)
            best = probability.argmax(axis=1)
            top = probability[np.arange(len(best)), best]
            label[left], used[left], sure[left] = best, width, top
            if stage == len(self.dims) - 1 or dims is not None:
                break
            goes_on = top < self.thresholds[stage]
            left, held = left[goes_on], held[goes_on]
        return Answer(known[label], used, sure, sure < self.abstain_below)

    def score(self, vectors: ArrayLike, labels: ArrayLike) -> float:
        """Returns the accuracy on rows."""
        X, y = self._rows(vectors, labels)  # noqa: N806
        return float((self.predict(X).labels == y).mean())

    # Fitting

    def _fit_heads(
        self, X: NDArray[np.float32], y: NDArray[np.int64], classes: int
    ) -> list[LinearHead | ClassMeanHead | NeighbourHead]:  # noqa: N803
        fitted: Sequence[LinearHead | ClassMeanHead | NeighbourHead]
        if self.head == "class_mean":
            fitted = kinds.fit_means(X, y, classes, self.dims)
        elif self.head == "neighbours":
            fitted = kinds.fit_neighbours(X, y, classes, self.dims, self.neighbours)
        else:
            fitted = kinds.fit_linear(
                X,
                y,
                classes,
                self.dims,
                tied=self.head == "tied",
                normalise=self.normalise,
                l2=self.l2,
            )
        return list(fitted)

    def _calibrate(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> None:  # noqa: N803
        seen = y >= 0
        fitted: list[LinearHead | ClassMeanHead | NeighbourHead] = []
        for head in self.heads:
            if isinstance(head, (LinearHead, ClassMeanHead)) and seen.any():
                logits = head.logits(X[seen][:, : head.dims])
                fitted.append(replace(head, temperature=kinds.fit_temperature(logits, y[seen])))
            else:
                fitted.append(head)
        self.heads = fitted

    def _judged(
        self, X: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:  # noqa: N803
        """(confidence, whether it is wrong) of each head, (n, heads)."""
        confidence, wrong = (
            np.empty((len(X), len(self.dims))),
            np.empty((len(X), len(self.dims)), dtype=bool),
        )
        for stage, head in enumerate(self.heads):
            probability = head.probabilities(X[:, : head.dims])
            best = probability.argmax(axis=1)
            confidence[:, stage] = probability[np.arange(len(best)), best]
            wrong[:, stage] = best != y
        return confidence, wrong

    def _lossless(
        self,
        front: list[Rule],
        full: float,
        sure: NDArray[np.float64],
        wrong: NDArray[np.bool_],
        max_loss: float,
        alpha: float,
    ) -> tuple[Rule, str]:
        """The cheapest rule proven to be at most max_loss less accurate than the widest head, whose errors on the front's rows are full."""
        rows = np.arange(len(sure))

        def proven(rule: Rule) -> bool:
            # Right where the widest head is wrong: 1; wrong where it is right: 0; else one half. The mean is above (1 - max_loss) / 2.
            stage = stages_of(sure, rule.thresholds)
            better = (1.0 + wrong[:, -1] - wrong[rows, stage]) / 2
            return mean_exceeds(better, (1.0 - max_loss) / 2, alpha)

        # From a rule that stops hardly anybody to the cheapest one that seems to lose little, and beyond it: what is left to 1 above each
        # threshold grows by the same factor from rule to rule.
        aim = next((each for each in reversed(front) if each.errors <= full + max_loss), front[0])
        room = 1.0 - np.minimum(np.array(aim.thresholds), 1.0)
        path = [
            Rule(tuple((1.0 - np.minimum(room * share, 1.0)).tolist()), 0.0, 0.0)
            for share in _SHARES
        ]
        rule = cheapest_proven(path, proven)
        if rule is None:
            # All rows go to the widest head: no loss, and nothing to prove.
            rule = Rule(
                tuple([float("inf")] * (len(self.dims) - 1)),
                float(self.costs[-1]),
                float(wrong[:, -1].mean()),
            )
        return rule, f"at most {100 * max_loss:g} points below full dims"

    def _within(self, front: list[Rule], max_cost: float) -> tuple[Rule, str]:
        affordable = [rule for rule in front if rule.cost <= max_cost]
        if not affordable:
            cheapest = f"the cheapest rule costs {front[-1].cost:g}, the first head alone {self.costs[0]:g}"
            raise TargetNotMetError(f"max_cost is {max_cost:g}, {cheapest}")
        return min(affordable, key=lambda rule: rule.errors), f"expected cost {max_cost:g}"

    def _selective(
        self,
        front: list[Rule],
        sure: NDArray[np.float64],
        sure_tested: NDArray[np.float64],
        wrong_tested: NDArray[np.bool_],
        max_error: float,
        alpha: float,
    ) -> tuple[Rule, str]:
        """The rule that errs least, and the least confidence to answer with for which errors among the answered are proven to be few."""
        if not 0 < max_error < 1:
            raise ValueRangeError(f"max_error is {max_error}, wanted above 0 and below 1")
        # A quarter of a point more errors than the best rule's buys most of what stopping early saves.
        rule = next(each for each in reversed(front) if each.errors <= front[0].errors + 0.0025)
        stage = stages_of(sure, rule.thresholds)
        fewest = min(
            0.9, 1.5 * math.log(1 / alpha) / math.log1p(0.75 * max_error) / len(stage)
        )  # below, no answers without an error prove it
        levels = np.quantile(sure[np.arange(len(stage)), stage], np.linspace(1.0 - fewest, 0.0, 50))
        stage = stages_of(sure_tested, rule.thresholds)
        rows = np.arange(len(stage))
        confidence, wrong = sure_tested[rows, stage], wrong_tested[rows, stage]
        best: float | None = None
        for level in np.unique(levels)[
            ::-1
        ].tolist():  # from the surest on, until one is not proven
            if not mean_exceeds(1.0 - wrong[confidence >= level], 1.0 - max_error, alpha):
                break
            best = level
        if best is None:
            half = float(wrong[confidence >= np.median(confidence)].mean())
            raise TargetNotMetError(
                f"no confidence from which on at most {max_error:g} of the answers are wrong is proven by {len(stage)} rows; of the "
                f"surest half {half:.4f} are wrong: give more calibration rows, or a larger max_error"
            )
        self.abstain_below = best
        return rule, f"at most {100 * max_error:g} % of the answered wrong"

    def _reported(
        self,
        told: str,
        sure: NDArray[np.float64],
        wrong: NDArray[np.bool_],
        sure_tested: NDArray[np.float64],
        wrong_tested: NDArray[np.bool_],
        labels: NDArray[Any],
    ) -> Report:
        from mrl_db.classify.stopping import greedy

        rows = np.arange(len(sure_tested))
        stage = stages_of(sure_tested, self.thresholds)
        abstained = sure_tested[rows, stage] < self.abstain_below
        right = np.asarray(1.0 - wrong_tested[rows, stage], dtype=np.float64)
        answered = right[~abstained] if (~abstained).any() else right
        widths = np.array(self.dims, dtype=np.float64)
        spent = widths[stage] / widths[-1]
        ever = ~wrong_tested
        first = np.where(ever.any(axis=1), ever.argmax(axis=1), len(self.dims) - 1)
        cost, errors = measure(sure_tested, wrong_tested, widths, greedy(sure, wrong))
        return Report(
            target=told,
            rows=len(rows),
            accuracy=float(answered.mean()),
            accuracy_bounds=(mean_lower_bound(answered, 0.025), mean_upper_bound(answered, 0.025)),
            full_accuracy=float(1.0 - wrong_tested[:, -1].mean()),
            dims=float(widths[stage].mean()),
            dims_bounds=(
                mean_lower_bound(spent, 0.025) * widths[-1],
                mean_upper_bound(spent, 0.025) * widths[-1],
            ),
            cost=float(self.costs[stage].mean()),
            abstained=float(abstained.mean()),
            oracle_accuracy=float(ever.any(axis=1).mean()),
            oracle_dims=float(widths[first].mean()),
            greedy=(cost, 1.0 - errors),
            class_dims={
                str(label): float(widths[stage[labels == label]].mean())
                for label in np.unique(labels)
            },
        )

    # The door

    def _fitted(self) -> NDArray[Any]:
        if self.classes is None or not self.heads:
            raise NotFittedError("this cascade is not fitted; call fit(), or load one")
        return self.classes

    def _checked(self, vectors: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(vectors)
        if array.ndim != 2 or array.shape[1] != self.dims[-1] or array.dtype.kind != "f":
            raise ShapeError(
                f"vectors are {array.dtype} of shape {array.shape}, wanted floats (n, {self.dims[-1]})"
            )
        array = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(array).all():
            raise ValueRangeError("vectors hold NaN or infinity")
        return array

    def _rows(
        self, vectors: ArrayLike, labels: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        X, y = self._checked(vectors), np.asarray(labels)  # noqa: N806
        if y.ndim != 1 or len(y) != len(X) or len(y) == 0 or y.dtype.kind not in "iuUO":
            raise ShapeError(
                f"labels are {y.dtype} of shape {y.shape} for {len(X)} vectors, wanted integers or strings, one each"
            )
        if y.dtype.kind == "O" and not all(isinstance(label, str) for label in y.tolist()):
            raise ValueRangeError("labels hold objects, wanted integers or strings")
        return X, y.astype(str) if y.dtype.kind == "O" else y

    # To bytes and back

    def to_bytes(self) -> bytes:
        """Returns the fitted cascade as an .npz file: arrays, and JSON for the rest; nothing in it is code."""
        known = self._fitted()
        arrays: dict[str, Any] = {
            "classes": known,
            "thresholds": np.array(self.thresholds),
            "costs": self.costs,
        }
        for place, head in enumerate(self.heads):
            fields = {name: getattr(head, name) for name in head.__dataclass_fields__}
            arrays.update(
                {f"head{place}.{name}": np.asarray(value) for name, value in fields.items()}
            )
        about = {
            "format": _FORMAT,
            "dims": self.dims,
            "head": self.head,
            "normalise": self.normalise,
            "l2": self.l2,
            "neighbours": self.neighbours,
            "abstain_below": self.abstain_below,
            "report": None if self.report is None else asdict(self.report),
        }
        held = io.BytesIO()
        np.savez_compressed(held, about=np.array(json.dumps(about)), **arrays)
        return held.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Cascade:
        """Returns the cascade that `to_bytes` wrote; raises ValueRangeError when it is none."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays["about"]))
            if about["format"] != _FORMAT:
                raise ValueRangeError(
                    f"the cascade has format {about['format']}, this version reads {_FORMAT}"
                )
            cascade = Cascade(
                about["dims"],
                head=about["head"],
                normalise=about["normalise"],
                l2=about["l2"],
                neighbours=about["neighbours"],
                costs=arrays["costs"].tolist(),
            )
            cascade.classes = arrays["classes"]
            cascade.thresholds = tuple(arrays["thresholds"].tolist())
            cascade.abstain_below = about["abstain_below"]
            kind: Any = {"class_mean": ClassMeanHead, "neighbours": NeighbourHead}.get(
                about["head"], LinearHead
            )
            for place in range(len(cascade.dims)):
                fields = {name: arrays[f"head{place}.{name}"] for name in kind.__dataclass_fields__}
                cascade.heads.append(
                    kind(
                        **{
                            name: value.item() if value.ndim == 0 else value
                            for name, value in fields.items()
                        }
                    )
                )
            if about["report"] is not None:
                told = about["report"]
                pairs = {
                    name: tuple(told[name]) for name in ("accuracy_bounds", "dims_bounds", "greedy")
                }
                cascade.report = Report(**{**told, **pairs})
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            if isinstance(error, ValueRangeError):
                raise
            raise ValueRangeError(f"this is no cascade of ours: {error}") from None
        return cascade


__all__ = ["Answer", "Cascade", "Report"]
