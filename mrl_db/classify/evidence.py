"""What a stopping rule delivers, measured on calibration rows that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.classify.stopping import greedy, measure
from mrl_db.classify.targets import Judged
from mrl_db.recall.bounds import mean_lower_bound, mean_upper_bound

_ALPHA = 0.025  # of each side: pairs of bounds hold with 95 %


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was asked for, what a rule keeps of it and its cost; pairs are 95 % bounds of a mean.

    With max_cost it is of a rule that a third of the calibration rows chose; the one that is kept
    was chosen by all of them.

    Attributes:
        target: what was asked for, in words.
        rows: how many it was measured on.
        accuracy, accuracy_bounds: of the rows that are answered.
        full_accuracy: of the widest head.
        dims, dims_bounds: that a row needs on average.
        cost: likewise, in the unit of `Cascade(costs=)`.
        abstained: share of the rows.
        oracle_accuracy, oracle_dims: of a cascade that knew for each row the first head that is
            right (the widest where none is).
        greedy: (mean dims, accuracy) of the paper's pairwise thresholds on the same heads.
        class_dims: for each label, the mean dims that its rows needed.
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
        low, high = self.accuracy_bounds
        fewest, most = self.dims_bounds
        return (
            f"{self.target}: accuracy {self.accuracy:.4f} ({low:.4f} to {high:.4f}), full dims "
            f"{self.full_accuracy:.4f}, at {self.dims:.1f} dims a row ({fewest:.1f} to {most:.1f}) "
            f"on {self.rows} rows"
        )


def gather(
    target: str,
    chosen: Judged,
    tested: Judged,
    labels: NDArray[Any],
    *,
    thresholds: Sequence[float],
    abstain_below: float,
    dims: Sequence[int],
    costs: NDArray[np.float64],
) -> Evidence:
    """Returns the evidence for a rule.

    Args:
        target: what was asked for, in words.
        chosen: heads on the rows that chose the rule; they choose the pairwise thresholds, too.
        tested: heads on the rows that are measured.
        labels: of the tested rows.
        thresholds, abstain_below: the rule.
        dims, costs: of each head.
    """
    stage, confidence, wrong = tested.at(thresholds)
    abstained = confidence < abstain_below
    right = np.asarray(1.0 - wrong, dtype=np.float64)
    answered = right[~abstained] if not abstained.all() else right
    widths = np.array(dims, dtype=np.float64)
    shares = widths[stage] / widths[-1]
    ever = ~tested.wrong
    first = np.where(ever.any(axis=1), ever.argmax(axis=1), len(dims) - 1)
    pairwise = greedy(chosen.confidence, chosen.wrong)
    mean_dims, errors = measure(tested.confidence, tested.wrong, widths, pairwise)
    return Evidence(
        target=target,
        rows=len(stage),
        accuracy=float(answered.mean()),
        accuracy_bounds=(mean_lower_bound(answered, _ALPHA), mean_upper_bound(answered, _ALPHA)),
        full_accuracy=float(1.0 - tested.wrong[:, -1].mean()),
        dims=float(widths[stage].mean()),
        dims_bounds=(
            mean_lower_bound(shares, _ALPHA) * widths[-1],
            mean_upper_bound(shares, _ALPHA) * widths[-1],
        ),
        cost=float(costs[stage].mean()),
        abstained=float(abstained.mean()),
        oracle_accuracy=float(ever.any(axis=1).mean()),
        oracle_dims=float(widths[first].mean()),
        greedy=(mean_dims, 1.0 - errors),
        class_dims={
            str(label): float(widths[stage[labels == label]].mean()) for label in np.unique(labels)
        },
    )
