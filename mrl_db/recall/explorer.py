"""Measures plans of one engine on one sample, each once, and finds the fastest that meet a target.

Which plans are worth a look the engine says (`mrl_db.engines.plan_space`); this runs them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import TunableEngine
from mrl_db.engines.plan_space import PlanSpace
from mrl_db.faces.progress import Progress
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Recall, Target
from mrl_db.postgres.request import Request
from mrl_db.recall.bounds import is_hopeless, proves
from mrl_db.recall.measurement import Recalls, microseconds, recalls_of, summarise
from mrl_db.recall.sample import Sample

FIRST_ALPHA = 0.04  # of the forms of the fastest plan (`mrl_db.recall.tuner`)
_MOST_SECONDS = 2.0  # for the times of one plan; of one that would take longer …
_FEWEST_TIMED = 6  # … so many searches, once
_FINALISTS = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan with its recall on the queries that plans are explored on.

    Attributes:
        plan: That was run.
        recall: Of the exploring queries.
        microseconds: The mean time of one search; None where it was not taken.
    """

    plan: Plan
    recall: Recall
    microseconds: float | None = None


class Explorer:
    """Measures plans; keeps `mrl_db.engines.plan_space.Trials`."""

    def __init__(
        self,
        engine: TunableEngine,
        request: Request,
        space: PlanSpace,
        sample: Sample,
        *,
        seconds: float,
        target: Target | None = None,
        checked: int = 0,
        progress: Progress | None = None,
    ) -> None:
        """Prepares to measure; nothing is run yet.

        Args:
            engine: Synchronised.
            request: The filter.
            space: The plans.
            sample: The queries to explore on.
            seconds: After which nothing new is tried.
            target: What plans shall meet; None: nothing is asked of them.
            checked: Queries that a plan will be checked on.
            progress: Called with (plans so far, None).
        """
        self.engine, self.request, self.space, self.sample = engine, request, space, sample
        self._target, self._checked = target, checked
        self._deadline = time.monotonic() + seconds
        self._progress = progress
        self._recalls: dict[Plan, Recalls] = {}
        self._times: dict[Plan, NDArray[np.float64]] = {}

    @property
    def tried(self) -> tuple[Measured, ...]:
        """All plans that were measured."""
        return tuple(
            Measured(
                plan,
                summarise(recalls),
                self.mean_microseconds(plan) if plan in self._times else None,
            )
            for plan, recalls in self._recalls.items()
        )

    @property
    def timed(self) -> tuple[Plan, ...]:
        """The plans whose times were taken."""
        return tuple(self._times)

    @property
    def late(self) -> bool:
        """Whether the time for exploring is over."""
        return time.monotonic() > self._deadline

    def recalls(self, plan: Plan) -> Recalls:
        """Returns the recall of each query of the sample."""
        if plan not in self._recalls:
            self._recalls[plan] = recalls_of(self.engine, self.request, plan, self.sample)
            if self._progress is not None:
                self._progress(len(self._recalls), None)
        return self._recalls[plan]

    @cached_property
    def _as_checked(self) -> NDArray[np.int64]:
        """Positions in the sample: it is drawn from until it is as long as the checking queries."""
        return np.random.default_rng(0).integers(0, len(self.sample), self._checked)

    def meets(self, plan: Plan) -> bool:
        """Returns whether the checking queries would prove it if they were like these."""
        if self._target is None:
            return True
        recalls = self.recalls(plan)
        weighted = recalls.weighted[self._as_checked]
        return proves(weighted, self._target, FIRST_ALPHA, least=recalls.least)

    def hopeful(self, plan: Plan) -> bool:
        """Returns whether more queries might prove the target."""
        return self._target is None or not is_hopeless(self.recalls(plan).weighted, self._target)

    def time(self, plans: Sequence[Plan], rounds: int = 3) -> None:
        """Takes the times of plans, in turns."""
        slow = {plan for plan in plans if self._is_slow(plan, rounds)}
        for some, n, turns in (
            ([plan for plan in plans if plan not in slow], self.space.timed_queries, rounds),
            ([plan for plan in plans if plan in slow], _FEWEST_TIMED, 1),
        ):
            times = microseconds(self.engine, self.request, some, self.sample.queries[:n], turns)
            self._times.update(zip(some, times, strict=True))

    def _is_slow(self, plan: Plan, rounds: int) -> bool:
        """Whether a plan takes so long that few searches show its time."""
        seconds = self.engine.seconds_of_one(self.request, self.sample.queries[0], plan)
        return seconds * rounds * self.space.timed_queries > _MOST_SECONDS

    def spread_microseconds(self, plan: Plan) -> tuple[float, float]:
        """Returns the means over queries of the fastest round and of the slowest."""
        means = self._times[plan].mean(axis=1)
        return float(means.min()), float(means.max())

    def mean_microseconds(self, plan: Plan) -> float:
        """Returns the mean over queries, in the round in the middle."""
        return float(np.median(self._times[plan].mean(axis=1)))

    def p95_microseconds(self, plan: Plan) -> float:
        """Returns the time that 95 % of the searches keep within."""
        return float(np.percentile(self._times[plan], 95))

    def fastest(self) -> list[Plan]:
        """Returns the plans that meet the target, the fastest first; else the exact plan."""
        plans = list(dict.fromkeys(self.space.candidates(self))) or [self.space.exact]
        self.time([plan for plan in plans if plan not in self._times])
        plans.sort(key=self.mean_microseconds)
        # Those in front once more: the noise of the first round chose among many.
        self.time(plans[:_FINALISTS], self.space.final_rounds)
        return sorted(plans, key=self.mean_microseconds)
