"""What became of rows that a search should find: the stage that lost each, and what would save it.

Nothing is modelled. The plan is run again, up to the stage and with other keeps, and its output is
looked at. So it holds for any engine, with filters and deletions, and a plan with the keep that is
named finds the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import Engine
from mrl_db.hits import Trace
from mrl_db.model.filters import AllOf
from mrl_db.model.plan import Plan
from mrl_db.postgres.request import Request
from mrl_db.recall.source import Source

Outcome = Literal["found", "absent", "outranked", "walk", "stage"]
Run = Callable[[Plan], Sequence[Any]]
"""Runs a plan for one query and returns the keys that it finds, the nearest first."""

_LISTED = 1000  # ranks of rows that are not among the answers are counted up to here


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one row.

    Attributes:
        id: Its key.
        outcome: "found"; "absent": there is no such row; "outranked": k matching rows are nearer;
            "walk": the route did not meet it, though its first stage would have kept it; "stage":
            the stage had no room for it.
        stage: Number of the plan's stage, from 0.
        rank: From 1, in that stage, or among all rows.
        keep: The least that would have saved it there; None where none does.
        effort: Likewise, where the walk did not meet it.
    """

    id: Any
    outcome: Outcome
    stage: int | None = None
    rank: int | None = None
    keep: int | None = None
    effort: int | None = None

    def __str__(self) -> str:
        if self.outcome == "found":
            return f"{self.id!r}: found, rank {self.rank}"
        if self.outcome == "absent":
            return f"{self.id!r}: not in the collection"
        if self.outcome == "outranked":
            rank = self.rank or f"beyond {_LISTED}, or the filter leaves it out"
            return f"{self.id!r}: not lost; its true rank is {rank}"
        if self.outcome == "walk":
            remedy = f"effort {self.effort} would" if self.effort else "no effort would"
            return f"{self.id!r}: not met by the walk of stage 0; {remedy} have met it"
        return (
            f"{self.id!r}: lost by stage {self.stage}, where its rank is {self.rank}; "
            f"keep {self.keep} would have saved it"
        )


def explain(
    engine: Engine,
    source: Source,
    request: Request,
    query: NDArray[np.float32],
    plan: Plan,
    keys: Sequence[Any] = (),
) -> Trace:
    """Returns how one search goes, and the fate of rows that it should find.

    Args:
        engine: Synchronised.
        source: Where the rows are.
        request: The filter.
        query: (dims,) float32.
        plan: Checked.
        keys: Of the rows.
    """
    trace = engine.explain(request, query, plan)
    if not keys:
        return trace

    def run(plan: Plan) -> list[Any]:
        hits = engine.search(request, query[np.newaxis], plan, threads=1, fill=False)
        return list(hits.ids[0].tolist())

    present = source.present(replace(request, where=AllOf(())), list(keys))
    rows_in_all = source.count(replace(request, where=AllOf(())))
    return replace(trace, fates=tuple(fates(run, plan, keys, present, rows_in_all)))


def fates(
    run: Run, plan: Plan, keys: Sequence[Any], present: set[Any], rows_in_all: int
) -> list[Fate]:
    """Returns the fate of each of some rows.

    Args:
        run: Runs plans.
        plan: The search.
        keys: Of the rows.
        present: Those of the keys that are in the collection.
        rows_in_all: Rows of the collection.
    """
    rank_of = {key: rank for rank, key in enumerate(run(plan), 1)}
    true_rank_of: dict[Any, int] | None = None
    results = []
    for key in keys:
        if key in rank_of:
            results.append(Fate(key, "found", len(plan.stages) - 1, rank_of[key]))
        elif key not in present:
            results.append(Fate(key, "absent"))
        else:
            if true_rank_of is None:
                nearest = run(_exact(plan, max(plan.k, _LISTED)))
                true_rank_of = {key: rank for rank, key in enumerate(nearest, 1)}
            rank = true_rank_of.get(key)
            if rank is None or rank > plan.k:
                results.append(Fate(key, "outranked", rank=rank))
            else:
                results.append(_loss(run, plan, key, rows_in_all))
    return results


def _loss(run: Run, plan: Plan, key: Any, rows_in_all: int) -> Fate:
    """The fate of a row that is among the k nearest and not among the answers."""
    if plan.route == "mrl":
        widest = min(plan.most_effort, max(rows_in_all, plan.effort))
        effort = _least(
            plan.effort, widest, lambda effort: _passes(run, key, replace(plan, effort=effort))
        )
        return Fate(key, "walk", 0, effort=effort)
    for number, stage in enumerate(plan.stages[:-1]):
        if _passes(run, key, up_to(plan, number, stage.keep)):
            continue
        if (
            number == 0
            and plan.walks
            and _passes(run, key, up_to(plan.without_walk, 0, stage.keep))
        ):
            widest = min(plan.most_effort, max(rows_in_all, plan.effort))
            effort = _least(plan.effort, widest, partial(_met, run, plan, key))
            return Fate(key, "walk", 0, effort=effort)
        most = rows_in_all if number == 0 else plan.stages[number - 1].keep
        keep = _least(stage.keep, most, partial(_kept, run, plan, key, number))
        return Fate(key, "stage", number, keep, keep)
    # Every stage passes it, so it ties with the k-th answer.
    return Fate(key, "outranked", len(plan.stages) - 1, plan.k)


def _passes(run: Run, key: Any, plan: Plan) -> bool:
    return key in run(plan)


def _met(run: Run, plan: Plan, key: Any, effort: int) -> bool:
    return _passes(run, key, up_to(replace(plan, effort=effort), 0, plan.stages[0].keep))


def _kept(run: Run, plan: Plan, key: Any, number: int, keep: int) -> bool:
    return _passes(run, key, up_to(plan, number, keep))


def up_to(plan: Plan, number: int, keep: int) -> Plan:
    """Returns the plan that ends with stage `number` keeping `keep`, and returns all of these."""
    stage, last = plan.stages[number], plan.stages[-1]
    stages = (*plan.stages[:number], replace(stage, keep=keep), replace(last, keep=keep))
    return replace(plan, stages=stages)


def _exact(plan: Plan, k: int) -> Plan:
    return replace(plan.without_walk, stages=(replace(plan.stages[-1], keep=k),))


def _least(failed: int, most: int, passes: Callable[[int], bool]) -> int | None:
    """The least value in (failed, most] that passes, or None: doubles, then bisects."""
    low, high = failed, min(most, 2 * failed)
    while high < most and not passes(high):
        low, high = high, min(most, 2 * high)
    if high <= low or (high == most and not passes(high)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
