"""What became of the rows that a search was to find: the stage that lost each, its rank there, and the keep that would have saved it.

Nothing is modelled: the plan is run again, up to the stage and with other keeps, and what comes out is looked at. So it is said of either
engine, with filters, deletions and all, and running the plan with the keep that is named finds the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from mrl_db.model.plan import MAX_EFFORT, MAX_HOPS, Plan

Outcome = Literal["found", "absent", "outranked", "walk", "stage"]
Run = Callable[[Plan], Sequence[Any]]
"""Runs a plan for the query and returns the ids that it finds, the nearest first."""

_LISTED = 1000  # ranks of rows that are not among the answers are told up to here


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one wanted row.

    outcome: "found"; "absent": no such row; "outranked": k matching rows are nearer; "walk": the route did not meet it, though its first
    stage would have kept it; "stage": the stage had no room for it. stage: number of the plan's stage, from 0. rank: from 1, in that stage,
    or among all rows. keep, effort: the least that would have saved it there; None where none does.
    """

    id: Any
    outcome: Outcome
    stage: int | None = None
    rank: int | None = None
    keep: int | None = None
    effort: int | None = None

    def __str__(self) -> str:
        """Tells it in one line."""
        if self.outcome == "found":
            return f"{self.id!r}: found, rank {self.rank}"
        if self.outcome == "absent":
            return f"{self.id!r}: not in the collection"
        if self.outcome == "outranked":
            true = (
                f"its true rank is {self.rank}"
                if self.rank
                else f"its true rank is beyond {_LISTED}, or the filter leaves it out"
            )
            return f"{self.id!r}: not lost; {true}"
        if self.outcome == "walk":
            remedy = f"effort {self.effort} would" if self.effort else "no effort would"
            return f"{self.id!r}: not met by the walk of stage 0; {remedy} have met it"
        return f"{self.id!r}: lost by stage {self.stage}, where its rank is {self.rank}; keep {self.keep} would have saved it"


def fates(run: Run, plan: Plan, want: Sequence[Any], present: set[Any], rows: int) -> list[Fate]:
    """Returns the fate of each wanted id. present: those of them that are in the collection. rows: how many the collection has."""
    answers = list(run(plan))
    rank = {key: place for place, key in enumerate(answers, 1)}
    true: list[Any] | None = None
    found = []
    for key in want:
        if key in rank:
            found.append(Fate(key, "found", len(plan.stages) - 1, rank[key]))
        elif key not in present:
            found.append(Fate(key, "absent"))
        else:
            if true is None:
                true = list(run(_exact(plan, max(plan.k, _LISTED))))
            place = true.index(key) + 1 if key in true else None
            if place is None or place > plan.k:
                found.append(Fate(key, "outranked", rank=place))
            else:
                found.append(_loss(run, plan, key, rows))
    return found


def _loss(run: Run, plan: Plan, key: Any, rows: int) -> Fate:
    """Of a row that is among the k nearest and was not found."""
    for number, stage in enumerate(plan.stages[:-1]):
        if key in run(up_to(plan, number, stage.keep)):
            continue
        if (
            number == 0
            and plan.route in ("graph", "hnsw")
            and key in run(up_to(without_walk(plan), 0, stage.keep))
        ):
            limit = min(MAX_HOPS, max(rows, plan.effort)) if plan.route == "graph" else MAX_EFFORT
            effort = _least(plan.effort, limit, partial(_walked, run, plan, key))
            return Fate(key, "walk", 0, effort=effort)
        most = rows if number == 0 else plan.stages[number - 1].keep
        keep = _least(stage.keep, most, partial(_kept, run, plan, key, number))
        return Fate(key, "stage", number, keep, keep)
    # All stages before the last pass it when they are the last but one to run; so it ties with the k-th answer.
    return Fate(key, "outranked", len(plan.stages) - 1, plan.k)


def _walked(run: Run, plan: Plan, key: Any, effort: int) -> bool:
    return key in run(up_to(replace(plan, effort=effort), 0, plan.stages[0].keep))


def _kept(run: Run, plan: Plan, key: Any, number: int, keep: int) -> bool:
    return key in run(up_to(plan, number, keep))


def up_to(plan: Plan, number: int, keep: int) -> Plan:
    """Returns the plan that ends with stage `number` keeping `keep`, and returns all that it keeps."""
    before = plan.stages[:number]
    return replace(
        plan,
        stages=(
            *before,
            replace(plan.stages[number], keep=keep),
            replace(plan.stages[-1], keep=keep),
        ),
    )


def without_walk(plan: Plan) -> Plan:
    """Returns the plan whose first stage looks at every row."""
    return replace(plan, route="flat" if plan.native else "seqscan", effort=1, margin=None)


def _exact(plan: Plan, k: int) -> Plan:
    return Plan("flat" if plan.native else "seqscan", 1, (replace(plan.stages[-1], keep=k),))


def _least(failed: int, most: int, passes: Callable[[int], bool]) -> int | None:
    """The least value above `failed`, and at most `most`, that passes; None when that does not. Doubles, then bisects."""
    low, high = failed, min(most, 2 * failed)
    while high < most and not passes(high):
        low, high = high, min(most, 2 * high)
    if high <= low or (high == most and not passes(high)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high
