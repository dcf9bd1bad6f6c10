"""What a stopping rule is chosen for: a loss of accuracy, a share of errors, or a cost.

The first two are proven on rows that chose nothing, whatever their distribution: by a betting bound
(`mrl_db.recall.bounds`), from the dearest rule to cheaper ones until one fails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrl_db.classify.stopping import Rule, cheapest_proven, stages_of
from mrl_db.model.errors import TargetNotMetError, ValueRangeError
from mrl_db.recall.bounds import mean_exceeds

_SHARES = np.geomspace(0.01, 2.0, 48)  # of the room above the thresholds that are aimed at
_WORTH_A_SHORT_WAY = 0.0025  # errors more than the best rule's: buys most of what stopping saves


@dataclass(frozen=True, slots=True)
class Judged:
    """How heads do on labelled rows.

    Attributes:
        confidence: (n, heads), of each head in its answer.
        wrong: (n, heads), whether that is wrong.
    """

    confidence: NDArray[np.float64]
    wrong: NDArray[np.bool_]

    @property
    def expected_errors(self) -> NDArray[np.float64]:
        """What thresholds are searched with in place of 0 and 1: half observed, half predicted.

        Calibrated confidences say the same on average, without a coin's noise; the observed half
        holds them to the facts.
        """
        return (self.wrong + (1.0 - self.confidence)) / 2

    def at(
        self, thresholds: Sequence[float]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
        """Returns where each row stops, with which confidence, and whether it is wrong there."""
        stage = stages_of(self.confidence, thresholds)
        rows = np.arange(len(stage))
        return stage, self.confidence[rows, stage], self.wrong[rows, stage]


def rule_for_loss(
    front: Sequence[Rule],
    chosen: Judged,
    tested: Judged,
    costs: NDArray[np.float64],
    max_loss: float,
    alpha: float,
) -> Rule:
    """Returns the cheapest rule proven to be at most max_loss less accurate than the widest head.

    Args:
        front: rules from the dearest to the cheapest, found on the chosen rows.
        chosen, tested: heads on the rows that chose the front, and on those that prove.
        costs: of stopping at each head.
        max_loss: 0.01 is a point.
        alpha: the probability of a rule that loses more.
    """

    def proven(rule: Rule) -> bool:
        # Right where the widest head is wrong: 1; wrong where it is right: 0; else one half.
        # The loss is at most max_loss when the mean is above (1 - max_loss) / 2.
        wrong = tested.at(rule.thresholds)[2]
        better = (1.0 + tested.wrong[:, -1] - wrong) / 2
        return mean_exceeds(better, (1.0 - max_loss) / 2, alpha)

    # From a rule that stops hardly anybody to the cheapest one that seems to lose little, and
    # beyond: what is left to 1 above each threshold grows by one factor from rule to rule.
    errors = float(chosen.expected_errors[:, -1].mean()) + max_loss
    aim = next((rule for rule in reversed(front) if rule.errors <= errors), front[0])
    room = 1.0 - np.minimum(np.array(aim.thresholds), 1.0)
    path = [
        Rule(tuple((1.0 - np.minimum(room * share, 1.0)).tolist()), 0.0, 0.0) for share in _SHARES
    ]
    # All rows to the widest head: no loss, and nothing to prove.
    last = len(costs) - 1
    full = Rule((math.inf,) * last, float(costs[-1]), float(tested.wrong[:, -1].mean()))
    return cheapest_proven(path, proven) or full


def rule_within(front: Sequence[Rule], costs: NDArray[np.float64], max_cost: float) -> Rule:
    """Returns the rule of the front that errs least at this mean cost; raises TargetNotMetError."""
    affordable = [rule for rule in front if rule.cost <= max_cost]
    if not affordable:
        raise TargetNotMetError(
            f"max_cost is {max_cost:g}, the cheapest rule costs {front[-1].cost:g}, "
            f"the first head alone {costs[0]:g}"
        )
    return min(affordable, key=lambda rule: rule.errors)


def rule_for_error(
    front: Sequence[Rule], chosen: Judged, tested: Judged, max_error: float, alpha: float
) -> tuple[Rule, float]:
    """Returns the rule that errs least, and the least confidence to answer with.

    From that confidence on errors among the answered rows are proven to be at most max_error. The
    arguments are those of `rule_for_loss`.

    Raises:
        ValueRangeError: max_error is not between 0 and 1.
        TargetNotMetError: no confidence is proven to be enough.
    """
    if not 0 < max_error < 1:
        raise ValueRangeError(f"max_error is {max_error}, wanted above 0 and below 1")
    errors = front[0].errors + _WORTH_A_SHORT_WAY
    rule = next(rule for rule in reversed(front) if rule.errors <= errors)
    _, sure, _ = chosen.at(rule.thresholds)
    # Below this share, not even answers without an error are a proof.
    fewest = min(0.9, 1.5 * math.log(1 / alpha) / math.log1p(0.75 * max_error) / len(sure))
    levels = np.unique(np.quantile(sure, np.linspace(1.0 - fewest, 0.0, 50)))[::-1].tolist()
    _, confidence, wrong = tested.at(rule.thresholds)
    least = None
    for level in levels:  # from the surest on, until one is not proven
        if not mean_exceeds(1.0 - wrong[confidence >= level], 1.0 - max_error, alpha):
            break
        least = level
    if least is None:
        half = float(wrong[confidence >= np.median(confidence)].mean())
        raise TargetNotMetError(
            f"no confidence from which on at most {max_error:g} of the answers are wrong is proven "
            f"by {len(wrong)} rows; of the surest half {half:.4f} are wrong: "
            "give more calibration rows, or a larger max_error"
        )
    return rule, least
