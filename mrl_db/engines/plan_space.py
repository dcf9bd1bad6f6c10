"""Which plans of an engine are worth measuring.

The tuner (`mrl_db.recall`) knows no engine. An engine that can be tuned describes its plans as a
`PlanSpace`: the forms that can win, how a plan grows dearer, how long a timing takes. A space puts
its questions to `Trials`, which run the plans and measure them.

The cost model behind it needs no measurement: a walk's cost grows with its effort, a stage's with
the rows that reach it, and recall grows with all of them. So the cheapest plan of a form that meets
a target is found by bisection (`least`), and only the best of each form are timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from mrl_db.model.plan import Plan

# Ranks of exact answers among prefixes are counted up to here (`mrl_db.recall.sample`), and scans
# of prefixes that keep more are not offered.
MAX_RANK = 2500

Number = TypeVar("Number", int, float)


class Trials(Protocol):
    """Runs plans on a sample of queries and measures them, each plan once."""

    @property
    def late(self) -> bool:
        """Whether the time for new measurements is over."""
        ...

    def meets(self, plan: Plan) -> bool:
        """Returns whether the plan seems to meet the target."""
        ...

    def hopeful(self, plan: Plan) -> bool:
        """Returns whether more queries might still show that the plan meets the target."""
        ...

    def time(self, plans: Sequence[Plan], rounds: int = 3) -> None:
        """Takes the times of plans, in turns, so that noise meets all of them."""
        ...

    def mean_microseconds(self, plan: Plan) -> float:
        """Returns the mean time of one search by a plan that was timed."""
        ...


class PlanSpace(Protocol):
    """The plans of one engine for one collection and one k."""

    explored_queries: int
    """Queries that plans are explored on."""
    checked_queries: tuple[int, int]
    """The fewest and the most queries that the chosen plan is checked on."""
    timed_queries: int
    """Searches that a plan is timed by in each round."""
    final_rounds: int
    """Rounds of timing among the plans in front."""
    finest: float
    """The ratio of cost between one tested form of the chosen plan and the next."""

    @property
    def exact(self) -> Plan:
        """The plan of one stage, which is always right."""
        ...

    @property
    def shortlist_dims(self) -> int | None:
        """Dims of the prefixes that first stages compare; None: they compare codes."""
        ...

    def candidates(self, trials: Trials) -> Iterator[Plan]:
        """Yields plans that meet the target, the cheapest of each form."""
        ...

    def ladder(self) -> Iterator[Plan]:
        """Yields plans from the cheapest to the dearest, each about a quarter dearer."""
        ...

    def scaled(self, plan: Plan, scale: float) -> Plan:
        """Returns a dearer (scale > 1) or cheaper form of a plan."""
        ...


def scaled(plan: Plan, scale: float, *, most: int, most_effort: int) -> Plan:
    """Returns a dearer (scale > 1) or cheaper form of a plan.

    Effort and the keeps beyond k grow by the scale, the margin by its root.

    Args:
        plan: The plan to change.
        scale: Times its cost, about.
        most: Rows that a stage may keep.
        most_effort: The widest search of the plan's route.
    """
    k = plan.k
    stages = [
        replace(stage, keep=max(k, min(most, k + math.ceil((stage.keep - k) * scale))))
        for stage in plan.stages[:-1]
    ]
    effort = max(1, min(most_effort, math.ceil(plan.effort * scale)))
    margin = None if plan.margin is None else plan.margin * math.sqrt(scale)
    return Plan(plan.route, effort, (*stages, plan.stages[-1]), margin)


def steps(first: int, last: int, ratio: float) -> list[int]:
    """Returns rising integers from first to last, each `ratio` times the one before, about.

    >>> steps(4, 10, 1.3)
    [4, 6, 7, 9, 10]
    """
    values, value = [], float(first)
    while value < last:
        values.append(math.ceil(value))
        value = max(value * ratio, value + 1)
    return [*values, last]


def least(
    values: Sequence[Number], meets: Callable[[Number], bool], first: Number | None = None
) -> Number | None:
    """Returns the first of rising values that meets, or None; all values after it must meet too.

    Args:
        values: Rising.
        meets: Dear, and dearer for larger values.
        first: A likely value. The search doubles its steps from there, so that the dearest values
            are tried last.

    >>> least([1, 2, 4, 8, 16], lambda value: value >= 3)
    4
    """
    low, high = 0, len(values) - 1
    if first is not None:
        position = next((at for at, value in enumerate(values) if value >= first), high)
        while position < high and not meets(values[position]):
            low, position = position + 1, min(high, position + max(4, position // 4))
        high = position
    if low > high or not meets(values[high]):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(values[middle]) else (middle + 1, high)
    return values[high]
