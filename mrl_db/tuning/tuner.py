"""Chooses the cheapest plan that keeps a declared recall.

Plans are explored on some queries and timed; the chosen one is then tested on others, which nothing was chosen by (law 6). The test goes
from a dearer form of the plan to cheaper ones and ends with the first that fails (fixed sequence testing; "Learn then test",
arXiv:2110.01052), so that the confidence holds for the plan that is kept, however many were looked at. The bound behind it assumes nothing
about how recall is distributed (`mrl_db.evaluate.bounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrl_db.errors import TargetNotMetError
from mrl_db.evaluate.bounds import mean_lower_bound
from mrl_db.evaluate.metrics import Recall, summarise
from mrl_db.plan import Plan
from mrl_db.tuning.explorer import Explorer, Measured, scaled
from mrl_db.tuning.promise import Target
from mrl_db.tuning.sample import Sample

CONFIDENCE = 0.95
_FIRST_ALPHA = 0.04  # of the first sequence of tests; the rest is for a second one, dearer, where the first proves nothing
_AT_ONCE = 250  # queries, before it is looked whether they are enough
_DEARER_SCALES = (16.0, 9.0, 5.5, 4.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan that was chosen, what it was proven to keep, its recall on the checking queries, its times, and all that was tried."""

    plan: Plan
    target: Target
    recall: Recall
    microseconds: float
    p95_microseconds: float
    tried: tuple[Measured, ...]


def choose(explorer: Explorer, checked: Sample, target: Target, p95_ms: float | None = None) -> Choice:
    """Returns the fastest plan that is proven to meet the target; raises TargetNotMetError when it takes longer than p95_ms.

    checked: queries of the same kind as the explorer's, none of which is among them.
    """
    resampled = np.random.default_rng(0).integers(0, len(explorer.sample), len(checked))

    def meets(plan: Plan) -> bool:  # whether the checking queries would prove it, if they were like the exploring ones
        return target.proven(explorer.recalls(plan)[resampled], _FIRST_ALPHA)

    def hopeful(plan: Plan) -> bool:
        return not target.hopeless(explorer.recalls(plan))

    found = _proven(explorer, checked, target, explorer.fastest(meets, hopeful))
    if found is None:  # one stage is exact: there is nothing to test
        found = explorer.exact_plan, np.ones(len(checked))
    choice = _choice(explorer, target, *found)
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
        fastest = min((explorer.p95_microseconds(plan) for plan in explorer.timed), default=float("nan"))
        raise TargetNotMetError(f"no plan keeps within p95_ms={p95_ms:g}; the fastest takes {fastest / 1000:.3g} ms (95th percentile)")
    recalls = np.ones(len(checked)) if len(best.stages) == 1 else explorer.probe.recalls(best, checked)
    return _choice(explorer, Target(_reached(recalls, statistic), statistic), best, recalls)


def _reached(recalls: NDArray[np.float64], statistic: str) -> float:
    """The largest target, to three digits, that these recalls prove."""
    if statistic == "mean":
        return float(np.floor(1000 * mean_lower_bound(recalls, 1 - CONFIDENCE)) / 1000)
    reached = sorted(set(recalls.tolist()), reverse=True)
    return next((value for value in reached if Target(value, statistic).proven(recalls, 1 - CONFIDENCE)), 0.0)


def _proven(explorer: Explorer, checked: Sample, target: Target, plans: Sequence[Plan]) -> tuple[Plan, NDArray[np.float64]] | None:
    """The cheapest form of the fastest plan before the first that fails, with its recall on the checking queries.

    Where none is proven: of dearer forms; or of the fastest plan by another route, where the first has no dearer form.
    """
    most, first = explorer.facts.rows, plans[0]
    second: tuple[Plan, tuple[float, ...]] = first, _DEARER_SCALES
    if scaled(first, _DEARER_SCALES[0], most=most) == scaled(first, explorer.scales[0], most=most):
        other = next((plan for plan in plans if plan.route != first.route), first)
        second = other, explorer.scales
    for (plan, scales), alpha in (((first, explorer.scales), _FIRST_ALPHA), (second, 1 - CONFIDENCE - _FIRST_ALPHA)):
        if len(plan.stages) == 1:  # exact: there is nothing to test
            return None
        best, last = None, None
        for scale in scales:
            form = scaled(plan, scale, most=explorer.facts.rows)
            if form == last:
                continue
            last, recalls = form, _tested(explorer, checked, target, form, alpha)
            if recalls is None:
                break
            best = form, recalls
        if best is not None:
            return best
    return None


def _tested(explorer: Explorer, checked: Sample, target: Target, plan: Plan, alpha: float) -> NDArray[np.float64] | None:
    """The recalls that prove the target, or None; queries are asked until it is proven or hopeless."""
    recalls = np.empty(0)
    for begin in range(0, len(checked), _AT_ONCE):
        recalls = np.concatenate([recalls, explorer.probe.recalls(plan, checked.part(begin, min(begin + _AT_ONCE, len(checked))))])
        if target.proven(recalls, alpha, len(checked)):
            return recalls
        if target.hopeless(recalls):
            return None
    return None


def _choice(explorer: Explorer, target: Target, plan: Plan, recalls: NDArray[np.float64]) -> Choice:
    explorer.time([plan])
    return Choice(plan, target, summarise(recalls), explorer.mean_microseconds(plan), explorer.p95_microseconds(plan), explorer.tried)
