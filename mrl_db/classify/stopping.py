"""Where a cascade stops: thresholds on confidence, found by Pareto search.

At stage s a row stops when its confidence reaches t_s; the last stage takes what is left. With the
thresholds of all other stages fixed, the best t_s for cost + price * errors is exact: rows that
reach stage s are sorted by confidence, and stopping the surest j of them changes cost and errors
by sums over these j. Descending coordinate by coordinate, for many prices, from both ends, leaves
a front of (cost, errors); pairs that are fitted one after another, as in the paper
(arXiv:2205.13147, appendix), cannot trade a stage's errors for another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PRICES = np.geomspace(0.3, 3000, 40)  # of an error, in the cost of the widest stage
_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """Thresholds of all stages but the last, with what they give where they were found.

    Attributes:
        thresholds: (stages - 1,), the least confidence that stops.
        cost: on average.
        errors: share of the rows.
    """

    thresholds: tuple[float, ...]
    cost: float
    errors: float


def stages_of(confidence: NDArray[np.float64], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Returns the stage at which each row stops. confidence: (n, stages)."""
    sure = confidence[:, :-1] >= np.asarray(thresholds)
    return np.asarray(np.where(sure.any(axis=1), sure.argmax(axis=1), confidence.shape[1] - 1))


def measure(
    confidence: NDArray[np.float64],
    wrong: NDArray[Any],
    costs: NDArray[np.float64],
    thresholds: Sequence[float],
) -> tuple[float, float]:
    """Returns (mean cost, share of errors) of a rule.

    Args:
        confidence, wrong, costs: as for `pareto`.
        thresholds: of all stages but the last.
    """
    stage = stages_of(confidence, thresholds)
    return float(costs[stage].mean()), float(wrong[np.arange(len(stage)), stage].mean())


def pareto(
    confidence: NDArray[np.float64], wrong: NDArray[Any], costs: NDArray[np.float64]
) -> list[Rule]:
    """Returns rules none of which is both dearer and worse than another, the dearest first.

    Args:
        confidence: (n, stages), of each head.
        wrong: (n, stages), whether it errs, or how likely.
        costs: (stages,), of stopping at each stage, all that it took until then.
    """
    last = confidence.shape[1] - 1
    rules: dict[tuple[float, ...], Rule] = {}

    def note(thresholds: NDArray[np.float64]) -> None:
        key = tuple(thresholds.tolist())
        if key not in rules:
            rules[key] = Rule(key, *measure(confidence, wrong, costs, key))

    note(np.full(last, np.inf))
    for start in (np.full(last, np.inf), np.full(last, 0.0)):
        thresholds = start.copy()
        # Prices rise from one start and fall from the other; each begins where the last ended.
        for price in _PRICES if start[0] == 0.0 else _PRICES[::-1]:
            for _ in range(_SWEEPS):
                before = thresholds.copy()
                for stage in range(last):
                    thresholds[stage] = _best(
                        confidence, wrong, costs, thresholds, stage, price * costs[-1]
                    )
                    note(thresholds)
                if np.array_equal(before, thresholds):
                    break
    return _front(list(rules.values()))


def _best(
    confidence: NDArray[np.float64],
    wrong: NDArray[Any],
    costs: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    stage: int,
    price: float,
) -> float:
    """The best threshold of a stage, the others fixed; infinity when it is best to stop nobody."""
    reached = ~(confidence[:, :stage] >= thresholds[:stage]).any(axis=1)
    own, failed = confidence[reached], wrong[reached]
    if len(own) == 0:
        return float(thresholds[stage])
    later = thresholds.copy()
    later[: stage + 1] = np.inf
    goes_on = stages_of(own, later)
    rows = np.arange(len(own))
    gain = (costs[goes_on] + price * failed[rows, goes_on]) - (
        costs[stage] + price * failed[:, stage]
    )  # of stopping here
    order = np.argsort(-own[:, stage], kind="stable")
    sums, sure = np.cumsum(gain[order]), own[order, stage]
    allowed = np.append(sure[1:] < sure[:-1], True)  # rows of one confidence stop together
    if not (allowed & (sums > 0)).any():
        return float("inf")
    position = int(np.argmax(np.where(allowed, sums, -np.inf)))
    # Between the surest row that goes on and the least sure one that stops.
    return float(sure[position : position + 2].mean()) if position + 1 < len(sure) else 0.0


def greedy(confidence: NDArray[np.float64], wrong: NDArray[np.bool_]) -> tuple[float, ...]:
    """Returns the paper's thresholds: for each pair of stages, the value with which it errs least.

    Of 100 values in [0.1, 1], the smallest such.
    """
    thresholds = []
    for stage in range(confidence.shape[1] - 1):
        values = np.linspace(0.1, 1.0, 100)
        errors = [
            np.where(confidence[:, stage] >= value, wrong[:, stage], wrong[:, stage + 1]).mean()
            for value in values
        ]
        thresholds.append(float(values[int(np.argmin(errors))]))
    return tuple(thresholds)


def _front(rules: list[Rule]) -> list[Rule]:
    best, front = np.inf, []
    for rule in sorted(rules, key=lambda rule: (rule.cost, rule.errors)):
        if rule.errors < best:
            best = rule.errors
            front.append(rule)
    return front[::-1]


def cheapest_proven(rules: Sequence[Rule], proven: Callable[[Rule], bool]) -> Rule | None:
    """Returns the last rule before the first that is not proven, or None.

    The rules come from the dearest on: "Learn then test", arXiv:2110.01052.
    """
    last = None
    for rule in rules:
        if not proven(rule):
            break
        last = rule
    return last
