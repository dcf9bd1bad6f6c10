"""Chooses the cheapest plan that reaches a recall, and stores the promise.

Plans are explored on some queries and timed. The fastest is then tested on others, which nothing
was chosen by, in dearer and cheaper forms, and the cheapest form that is proven is kept. Recall
falls from each form to the next cheaper one, so all forms that miss the target are cheaper than
some form that just misses it. What seems to prove one of them seems to prove that one too: to be
wrong about any is to be wrong about it. So one test's confidence holds for the form that is kept,
however many were looked at (as in fixed sequence testing; "Learn then test", arXiv:2110.01052). The
bound behind it assumes nothing about how recall is distributed (`mrl_db.recall.bounds`).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import TunableEngine
from mrl_db.faces.progress import Progress
from mrl_db.model.errors import PromiseWarning, ShapeError, TargetNotMetError, ValueRangeError
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise, Statistic, Target, quantiles
from mrl_db.postgres.request import Request
from mrl_db.recall import promises
from mrl_db.recall.bounds import is_hopeless, mean_lower_bound, proves
from mrl_db.recall.explorer import FIRST_ALPHA, Explorer, Measured
from mrl_db.recall.measurement import Recalls, recalls_of, summarise
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.sample import Sample, sample_to_tune
from mrl_db.recall.source import Source

CONFIDENCE = 0.95
# The fastest plan's forms take FIRST_ALPHA; the rest is for another route's, if none is proven.
_SECOND_ALPHA = 1 - CONFIDENCE - FIRST_ALPHA
_AT_ONCE = 250  # queries, before it is looked whether they are enough
_CHEAPEST, _DEAREST = 0.35, 16.0  # forms, times the plan that seemed to be right


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plan shall reach, and how it is looked for.

    Attributes:
        target: The recall; None: as much as the time allows.
        statistic: Of the recall that is promised.
        p95_ms: Milliseconds that 95 % of the searches shall keep within; None: any.
        k: Answers of a search.
        queries: (n, dims) to measure on; None: those of the log, or rows.
        seconds: How long it may take, about.
        seed: Of the draw of queries.
    """

    target: Target | None
    statistic: Statistic
    p95_ms: float | None
    k: int
    queries: NDArray[np.float32] | None = None
    seconds: float = 60.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The plan that was chosen, with its evidence.

    Attributes:
        plan: The cheapest that is proven.
        target: What it is proven to reach.
        recalls: Of the checking queries.
        microseconds: The mean time of a search.
        p95_microseconds: The time that 95 % of the searches keep within.
    """

    plan: Plan
    target: Target
    recalls: Recalls
    microseconds: float
    p95_microseconds: float


def checked_target(
    recall: float | None, statistic: Statistic, p95_ms: float | None
) -> Target | None:
    """Returns the target of `Collection.tune`'s arguments; None where only the time is given.

    Raises:
        ValueRangeError: They cannot be meant.
    """
    if recall is None and p95_ms is None:
        raise ValueRangeError("tune() takes recall= or p95_ms=, or both")
    if statistic not in get_args(Statistic):
        raise ValueRangeError(f"statistic is {statistic!r}, wanted 'mean' or 'p05'")
    if p95_ms is not None and not (_is_number(p95_ms) and p95_ms > 0):
        raise ValueRangeError(f"p95_ms is {p95_ms!r}, wanted milliseconds above 0")
    if recall is None:
        return None
    if not (_is_number(recall) and 0 < recall < 1):
        raise ValueRangeError(
            f"recall is {recall!r}, wanted above 0 and below 1; search(exact=True) has recall 1"
        )
    return Target(float(recall), statistic)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tune(
    engine: TunableEngine,
    source: Source,
    request: Request,
    log: QueryLog,
    wish: Wish,
    progress: Progress | None = None,
) -> tuple[Promise, tuple[Measured, ...]]:
    """Chooses a plan of an engine and stores its promise.

    Args:
        engine: Synchronised; its searches are to follow the plan.
        source: Where the rows are, and the promise is kept.
        request: The collection, unfiltered.
        log: Earlier queries.
        wish: What the plan shall reach.
        progress: Called with (plans so far, None).

    Returns:
        The promise, and all plans that were explored.

    Raises:
        ShapeError: There are fewer than k rows.
        TargetNotMetError: No plan is fast enough.
        ValueRangeError: The queries are too few to prove the target.
    """
    info, k = request.info, wish.k
    rows_in_all = source.count(request)
    if rows_in_all == 0:
        raise ShapeError(f'collection "{info.name}" is empty; tune it when it has rows')
    space = engine.plan_space(k, rows_in_all)
    explored, checked = sample_to_tune(
        source,
        request,
        space,
        log,
        target=wish.target,
        k=k,
        queries=wish.queries,
        rows_in_all=rows_in_all,
        seconds=wish.seconds,
        seed=wish.seed,
    )
    explorer = Explorer(
        engine,
        request,
        space,
        explored,
        seconds=wish.seconds / 3,
        target=wish.target,
        checked=len(checked),
        progress=progress,
    )
    if wish.target is not None:
        choice = choose(explorer, checked, wish.target, wish.p95_ms)
    else:
        assert wish.p95_ms is not None  # checked_target
        choice = choose_within(explorer, checked, wish.p95_ms, wish.statistic)
    if checked.kind == "rows" and choice.plan.route == "mrl":
        _warn_of_rows()
    promise = Promise(
        engine=engine.name,
        target=choice.target,
        k=k,
        plan=choice.plan,
        confidence=CONFIDENCE,
        recall=summarise(choice.recalls),
        kind=checked.kind,
        microseconds=choice.microseconds,
        p95_microseconds=choice.p95_microseconds,
        rows=rows_in_all,
        as_of=None,  # until it is stored
        distances=quantiles(checked.distances[:, -1]),
        parts=engine.parts,
    )
    return promises.keep(source, info.name, promise), explorer.tried


def _warn_of_rows() -> None:
    """How much an index finds its own rows too easily was measured on one set (docs/recall.md)."""
    warnings.warn(
        "measured on stored rows, which the index mrl finds more easily than new queries: on rows "
        "without clusters new ones may find far less; give queries=",
        PromiseWarning,
        stacklevel=4,
    )


def choose(
    explorer: Explorer, checked: Sample, target: Target, p95_ms: float | None = None
) -> Choice:
    """Returns the fastest plan that is proven to meet the target.

    Args:
        explorer: Made for the target.
        checked: Queries of the same kind as the explorer's, none of which is among them.
        target: The recall.
        p95_ms: Milliseconds that 95 % of the searches shall keep within.

    Raises:
        TargetNotMetError: The plan takes longer than p95_ms.
    """
    proven = _fastest_proven(explorer, checked, target)
    # Where nothing is proven the plan is the exact one, of which there is nothing to prove.
    plan, recalls = proven or (explorer.space.exact, Recalls.ones(len(checked)))
    choice = _choice(explorer, target, plan, recalls)
    if p95_ms is not None and choice.p95_microseconds > 1000 * p95_ms:
        within = choose_within(explorer, checked, p95_ms, target.statistic)
        raise TargetNotMetError(
            f"the fastest plan that meets {target} takes {choice.p95_microseconds / 1000:.3g} ms "
            f"(95th percentile), p95_ms={p95_ms:g} allows less; within that the best reaches "
            f"{within.target.recall:.4f}: {within.plan}"
        )
    return choice


def choose_within(
    explorer: Explorer, checked: Sample, p95_ms: float, statistic: Statistic
) -> Choice:
    """Returns the plan with the best recall among those fast enough, and what it provably reaches.

    Raises:
        TargetNotMetError: None is fast enough.
    """
    limit = 1000 * p95_ms
    best: Plan | None = None
    for plan in explorer.space.ladder():
        explorer.time([plan])
        if explorer.p95_microseconds(plan) > limit:
            if best is not None or explorer.mean_microseconds(plan) > limit:
                break
            continue  # one slow search among few
        best = plan
        if not plan.exact and explorer.recalls(plan).weighted.min() == 1.0:
            break
    if best is None:
        fastest = min(map(explorer.p95_microseconds, explorer.timed), default=math.nan)
        raise TargetNotMetError(
            f"no plan keeps within p95_ms={p95_ms:g}; the fastest takes {fastest / 1000:.3g} ms "
            "(95th percentile)"
        )
    recalls = (
        Recalls.ones(len(checked))
        if best.exact
        else recalls_of(explorer.engine, explorer.request, best, checked)
    )
    return _choice(explorer, Target(_reached(recalls, statistic), statistic), best, recalls)


def _reached(recalls: Recalls, statistic: Statistic) -> float:
    """The largest target, to three digits, that these recalls prove."""
    values, alpha = recalls.weighted, 1 - CONFIDENCE
    if statistic == "mean":
        low = mean_lower_bound(values, alpha, recalls.least)
        return max(0.0, math.floor(1000 * low) / 1000)
    levels = sorted({value for value in values.tolist() if value > 0}, reverse=True)
    proven = (value for value in levels if proves(values, Target(value, statistic), alpha))
    return next(proven, 0.0)


def _fastest_proven(
    explorer: Explorer, checked: Sample, target: Target
) -> tuple[Plan, Recalls] | None:
    """The cheapest proven form of the fastest plan, or of another route's."""
    plans = explorer.fastest()
    second = next((plan for plan in plans if plan.route != plans[0].route), None)
    for plan, alpha in ((plans[0], FIRST_ALPHA), (second, _SECOND_ALPHA)):
        if plan is None or plan.exact:
            return None
        proven = cheapest_proven(explorer, checked, target, plan, alpha)
        if proven is not None:
            return proven
    return None


def cheapest_proven(
    explorer: Explorer, checked: Sample, target: Target, plan: Plan, alpha: float
) -> tuple[Plan, Recalls] | None:
    """Returns the cheapest proven form of a plan, with its recalls; None where none is proven.

    It is searched for from the plan itself: in growing steps to dearer forms, then by halves.
    """
    space = explorer.space
    cheaper, dearer = (
        math.floor(abs(math.log(scale)) / math.log(space.finest)) for scale in (_CHEAPEST, _DEAREST)
    )
    scales = [space.finest**step for step in range(-cheaper, dearer + 1)]
    forms = list(dict.fromkeys(space.scaled(plan, scale) for scale in scales))
    # Forms below `low` are not proven; the cheapest that is, if any, is `best`, at `high`.
    low, high = 0, len(forms)
    best: tuple[Plan, Recalls] | None = None
    position, step = forms.index(plan) if plan in forms else len(forms) // 2, 4
    while low < high:
        recalls = _proof(explorer, checked, target, forms[position], alpha)
        if recalls is None:
            low = position + 1
        else:
            high, best = position, (forms[position], recalls)
        if best is None:
            position, step = min(len(forms) - 1, position + step), 2 * step
        else:
            position = (low + high) // 2
    return best


def _proof(
    explorer: Explorer, checked: Sample, target: Target, plan: Plan, alpha: float
) -> Recalls | None:
    """The recalls that prove the target, or None; queries go on until it is proven or hopeless."""
    recalls: Recalls | None = None
    for begin in range(0, len(checked), _AT_ONCE):
        part = checked.part(begin, min(begin + _AT_ONCE, len(checked)))
        more = recalls_of(explorer.engine, explorer.request, plan, part)
        recalls = more if recalls is None else recalls.followed_by(more)
        if proves(recalls.weighted, target, alpha, len(checked), recalls.least):
            return recalls
        if is_hopeless(recalls.weighted, target):
            return None
    return None


def _choice(explorer: Explorer, target: Target, plan: Plan, recalls: Recalls) -> Choice:
    explorer.time([plan])
    mean, p95 = explorer.mean_microseconds(plan), explorer.p95_microseconds(plan)
    return Choice(plan, target, recalls, mean, p95)


__all__ = ["Wish", "checked_target", "choose", "choose_within", "tune"]
