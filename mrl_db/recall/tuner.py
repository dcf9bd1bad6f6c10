"""Chooses the cheapest plan that keeps a declared recall.

Plans are explored on some queries and timed; the fastest is then tested on others, which nothing was chosen by (law 6), in dearer and
cheaper forms, and the cheapest that is proven is kept. Recall falls from each form to the next cheaper one, so all forms that miss the
target are cheaper than some form that just misses it, and what seems to prove one of them seems to prove that one too: to be wrong about
any is to be wrong about it, so one test's confidence holds for the form that is kept, however many were looked at (as in fixed sequence
testing; "Learn then test", arXiv:2110.01052). The bound behind it assumes nothing about how recall is distributed
(`mrl_db.recall.bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrl_db.evaluate.metrics import Recall, summarise
from mrl_db.model.errors import TargetNotMetError
from mrl_db.model.plan import Plan
from mrl_db.recall.bounds import mean_lower_bound
from mrl_db.recall.explorer import Explorer, Measured, scaled
from mrl_db.recall.promise import Target
from mrl_db.recall.sample import Sample

CONFIDENCE = 0.95
_FIRST_ALPHA = 0.04  # of the forms of the fastest plan; the rest is for those of another route, where the first proves none
_AT_ONCE = 250  # queries, before it is looked whether they are enough
_CHEAPEST, _DEAREST = 0.35, 16.0  # forms, times the plan that seemed to be right


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan that was chosen, what it was proven to keep, its recall on the checking queries, its times, and all that was tried."""

    plan: Plan
    target: Target
    recall: Recall
    microseconds: float
    p95_microseconds: float
    tried: tuple[Measured, ...]


def choose(
    explorer: Explorer, checked: Sample, target: Target, p95_ms: float | None = None
) -> Choice:
    """Returns the fastest plan that is proven to meet the target; raises TargetNotMetError when it takes longer than p95_ms.

    checked: queries of the same kind as the explorer's, none of which is among them.
    """
    resampled = np.random.default_rng(0).integers(0, len(explorer.sample), len(checked))

    def meets(
        plan: Plan,
    ) -> bool:  # whether the checking queries would prove it, if they were like the exploring ones
        least = explorer.probe.least(plan, explorer.sample)
        return target.proven(explorer.recalls(plan)[resampled], _FIRST_ALPHA, least=least)

    def hopeful(plan: Plan) -> bool:
        return not target.hopeless(explorer.recalls(plan))

    found = _proven(explorer, checked, target, explorer.fastest(meets, hopeful))
    if found is None:  # one stage is exact: there is nothing to test
        found = explorer.exact_plan, np.ones(len(checked))
    choice = _choice(explorer, checked, target, *found)
    if p95_ms is not None and choice.p95_microseconds > 1000 * p95_ms:
        within = choose_within(explorer, checked, p95_ms, target.statistic)
        raise TargetNotMetError(
            f"the fastest plan that meets {target} takes {choice.p95_microseconds / 1000:.3g} ms (95th percentile), p95_ms={p95_ms:g} "
            f"allows less; within that the best reaches {within.target.recall:.4f}: {within.plan}"
        )
    return choice


def choose_within(explorer: Explorer, checked: Sample, p95_ms: float, statistic: str) -> Choice:
    """Returns the plan with the best recall of those that keep within p95_ms (95 % of the searches), and what it is proven to reach."""
    best: Plan | None = None
    for plan in explorer.ladder():
        explorer.time([plan])
        if explorer.p95_microseconds(plan) > 1000 * p95_ms:
            if best is not None or explorer.mean_microseconds(plan) > 1000 * p95_ms:
                break
            continue  # one slow search among few
        best = plan
        if len(plan.stages) > 1 and explorer.recalls(plan).min() == 1.0:
            break
    if best is None:
        fastest = min(
            (explorer.p95_microseconds(plan) for plan in explorer.timed), default=float("nan")
        )
        raise TargetNotMetError(
            f"no plan keeps within p95_ms={p95_ms:g}; the fastest takes {fastest / 1000:.3g} ms (95th percentile)"
        )
    recalls = (
        np.ones(len(checked)) if len(best.stages) == 1 else explorer.probe.recalls(best, checked)
    )
    least = explorer.probe.least(best, checked)
    return _choice(
        explorer, checked, Target(_reached(recalls, statistic, least), statistic), best, recalls
    )


def _reached(recalls: NDArray[np.float64], statistic: str, least: float) -> float:
    """The largest target, to three digits, that these recalls prove."""
    if statistic == "mean":
        return max(
            0.0, float(np.floor(1000 * mean_lower_bound(recalls, 1 - CONFIDENCE, least)) / 1000)
        )
    reached = sorted({each for each in recalls.tolist() if each > 0}, reverse=True)
    return next(
        (value for value in reached if Target(value, statistic).proven(recalls, 1 - CONFIDENCE)),
        0.0,
    )


def _proven(
    explorer: Explorer, checked: Sample, target: Target, plans: Sequence[Plan]
) -> tuple[Plan, NDArray[np.float64]] | None:
    """The cheapest proven form of the fastest plan, or of another route's, with its recall on the checking queries."""
    first = plans[0]
    second = next((plan for plan in plans if plan.route != first.route), None)
    for plan, alpha in ((first, _FIRST_ALPHA), (second, 1 - CONFIDENCE - _FIRST_ALPHA)):
        if plan is None or len(plan.stages) == 1:  # exact: there is nothing to test
            return None
        found = _cheapest_proven(explorer, checked, target, plan, alpha)
        if found is not None:
            return found
    return None


def _cheapest_proven(
    explorer: Explorer, checked: Sample, target: Target, plan: Plan, alpha: float
) -> tuple[Plan, NDArray[np.float64]] | None:
    """The cheapest proven form of a plan: searched for from the plan itself, in growing steps to dearer ones, then by halves."""
    cheaper, dearer = (
        math.floor(abs(math.log(scale)) / math.log(explorer.finest))
        for scale in (_CHEAPEST, _DEAREST)
    )
    scales = [explorer.finest**step for step in range(-cheaper, dearer + 1)]
    forms = list(
        dict.fromkeys(scaled(plan, scale, most=explorer.most_kept(plan)) for scale in scales)
    )
    low, high, best = (
        0,
        len(forms),
        None,
    )  # of the cheapest that may be proven, and of the cheapest that is
    place, step = forms.index(plan) if plan in forms else len(forms) // 2, 4
    while low < high:
        recalls = _tested(explorer, checked, target, forms[place], alpha)
        if recalls is None:
            low = place + 1
        else:
            high, best = place, (forms[place], recalls)
        if best is None:
            place, step = min(len(forms) - 1, place + step), 2 * step
        else:
            place = (low + high) // 2
    return best


def _tested(
    explorer: Explorer, checked: Sample, target: Target, plan: Plan, alpha: float
) -> NDArray[np.float64] | None:
    """The recalls that prove the target, or None; queries are asked until it is proven or hopeless."""
    recalls = np.empty(0)
    for begin in range(0, len(checked), _AT_ONCE):
        recalls = np.concatenate(
            [
                recalls,
                explorer.probe.recalls(
                    plan, checked.part(begin, min(begin + _AT_ONCE, len(checked)))
                ),
            ]
        )
        if target.proven(recalls, alpha, len(checked), explorer.probe.least(plan, checked)):
            return recalls
        if target.hopeless(recalls):
            return None
    return None


def _choice(
    explorer: Explorer, checked: Sample, target: Target, plan: Plan, recalls: NDArray[np.float64]
) -> Choice:
    explorer.time([plan])
    measured = summarise(recalls, explorer.probe.least(plan, checked))
    return Choice(
        plan,
        target,
        measured,
        explorer.mean_microseconds(plan),
        explorer.p95_microseconds(plan),
        explorer.tried,
    )
