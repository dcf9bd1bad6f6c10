"""Explores plans by cost model and measurement: which are worth a look, and which of those that seem to meet a target is the fastest.

What the cost model says, before anything is measured: a walk's cost grows with its effort, a stage's with the rows that reach it, and
recall grows with all of them. So for each form of a plan the least effort, or keep, that meets the target is found by bisection; only the
forms' best are timed, in turns. What no form can win is left out: intermediate stages in PostgreSQL read the same full rows as the last
stage, and a scan of other codes in this process reads more bytes than one of the line codes that are there for the graph.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.evaluate.metrics import Recall, summarise
from mrl_db.faces.progress import Report
from mrl_db.model.plan import MAX_EFFORT, MAX_HOPS, Plan, Stage, flat_plan, graph_plan
from mrl_db.model.precision import Precision
from mrl_db.recall.probe import Probe, microseconds
from mrl_db.recall.sample import MAX_LISTED, Sample

_MARGINS = (0.6, 1.0, 1.6, 2.5, math.inf)  # times the one that goes with the effort
_WALK_KEEPS = (0.6, 1.0, 1.6)  # times the default
_CODED_KEEPS = (1, 2, 4, 8)  # more than k
_WIDER = (1.0, 1.4)  # efforts of pgvector's walk, times the least, for shorter lists
_LIST_WORTH = 0.6  # of a search's time, what a walk alone takes where wider walks with shorter lists are not worth looking for
_FINEST = 1.06  # between one effort and the next
_ROUNDS = 3
_MOST_SECONDS = 2.0  # for the times of one plan; of one that would take longer …
_FEWEST_TIMED = 6  # … so many searches, once

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Facts:
    """What of a collection decides on plans. indexed: whether the low-dim vectors have an HNSW index. loaded: the native engine's route."""

    dims: int
    low_dims: int
    rows: int
    indexed: bool = False
    loaded: Plan | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan with its recall on the queries that plans are explored on, and the microseconds of one search where they were taken."""

    plan: Plan
    recall: Recall
    microseconds: float | None = None


class Explorer(ABC):
    """Measures plans of one engine on one sample, each once."""

    timed_queries: int
    last_rounds: int  # of the plans in front
    finest: float  # between one tested form of the chosen plan and the next

    def __init__(
        self, probe: Probe, sample: Sample, facts: Facts, *, seconds: float, report: Report | None
    ) -> None:
        """seconds: after which nothing new is tried."""
        self.probe, self.sample, self.facts = probe, sample, facts
        self._deadline = time.monotonic() + seconds
        self._report = report
        self._recalls: dict[Plan, NDArray[np.float64]] = {}
        self._times: dict[Plan, NDArray[np.float64]] = {}

    @abstractmethod
    def candidates(
        self, meets: Callable[[Plan], bool], hopeful: Callable[[Plan], bool]
    ) -> Iterable[Plan]:
        """Yields plans that meet the target, the least of each form.

        hopeful: whether a plan might; the dearest of a form is worth a test where it is far cheaper than the next form.
        """

    @abstractmethod
    def ladder(self) -> Iterable[Plan]:
        """Yields plans from the cheapest to the dearest, a quarter dearer each."""

    def most_kept(self, plan: Plan) -> int:  # noqa: ARG002
        """How many rows a stage of a form of this plan may keep."""
        return self.facts.rows

    @property
    def exact_plan(self) -> Plan:
        """The plan of one stage, which is always right."""
        return Plan(
            "flat" if self.probe.engine == "native" else "seqscan",
            1,
            (Stage(self.facts.dims, Precision.float32, self.sample.k),),
        )

    @property
    def tried(self) -> tuple[Measured, ...]:
        """All that was measured."""
        return tuple(
            Measured(
                plan,
                summarise(recalls, self.probe.least(plan, self.sample)),
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

    def recalls(self, plan: Plan) -> NDArray[np.float64]:
        """The recall of each query of the sample."""
        if plan not in self._recalls:
            self._recalls[plan] = self.probe.recalls(plan, self.sample)
            if self._report is not None:
                self._report(len(self._recalls), None)
        return self._recalls[plan]

    def time(self, plans: Sequence[Plan], rounds: int = _ROUNDS) -> None:
        """Takes the times of plans, in turns."""
        slow = [plan for plan in plans if self._is_slow(plan, rounds)]
        for alike, n, turns in (
            ([plan for plan in plans if plan not in slow], self.timed_queries, rounds),
            (slow, _FEWEST_TIMED, 1),
        ):
            self._times.update(
                zip(
                    alike,
                    microseconds(self.probe, alike, self.sample.queries[:n], turns),
                    strict=True,
                )
            )

    def _is_slow(self, plan: Plan, rounds: int) -> bool:
        """Whether a plan takes so long that few searches show its time."""
        began = time.monotonic()
        self.probe.search(self.sample.queries[:1], plan)
        return (time.monotonic() - began) * rounds * self.timed_queries > _MOST_SECONDS

    def mean_microseconds(self, plan: Plan) -> float:
        """The mean over queries, in the round in the middle."""
        return float(np.median(self._times[plan].mean(axis=1)))

    def p95_microseconds(self, plan: Plan) -> float:
        """The time that 95 % of the searches keep within."""
        return float(np.percentile(self._times[plan], 95))

    def fastest(self, meets: Callable[[Plan], bool], hopeful: Callable[[Plan], bool]) -> list[Plan]:
        """Returns the plans that meet the target, the fastest first; the exact one when no other was found."""
        plans = list(dict.fromkeys(self.candidates(meets, hopeful))) or [self.exact_plan]
        untimed = [plan for plan in plans if plan not in self._times]
        self.time(untimed)
        plans.sort(key=self.mean_microseconds)
        self.time(
            plans[:4], rounds=self.last_rounds
        )  # those in front, again: the noise of the first round chose among many
        return sorted(plans, key=self.mean_microseconds)


class NativeExplorer(Explorer):
    """Plans over the graph and over a scan of codes, as far as they are loaded."""

    timed_queries = 200
    last_rounds = 6
    finest = 1.06

    def candidates(
        self, meets: Callable[[Plan], bool], hopeful: Callable[[Plan], bool]
    ) -> Iterable[Plan]:  # noqa: ARG002
        """Yields plans that meet the target, the least of each form."""
        rows, loaded = self.facts.rows, self.facts.loaded
        lines = loaded is not None and any(
            stage.precision is Precision.int4 for stage in loaded.stages
        )
        if loaded is not None and loaded.route == "flat":
            yield from self._scans(meets) if lines else ()
            scales = [each / 16 for each in _steps(1, 16 * rows, 1.1)]
            scale = _least(scales, lambda scale: meets(scaled(loaded, scale, most=rows)))
            yield from [scaled(loaded, scale, most=rows)] if scale else []
            return
        efforts = _steps(4, min(MAX_HOPS, max(64, rows)), _FINEST)
        found: list[tuple[Plan, float, int]] = []
        for margin in _MARGINS:
            if self.late:
                break
            effort = _least(efforts, _when(meets, self._walk, margin), first=64)
            if effort is not None:
                found.append((self._walk(effort, margin), margin, effort))
        self.time([plan for plan, _, _ in found])
        found.sort(key=lambda each: self.mean_microseconds(each[0]))
        yield from [plan for plan, _, _ in found]
        if lines:
            yield from self._scans(meets, faster_than=found[0][0] if found else None)
        for _, margin, least in found[:2]:
            near = [effort for effort in efforts if least / 1.7 <= effort <= 1.7 * least]
            for walk_keep in _WALK_KEEPS:
                for coded in _CODED_KEEPS:
                    if self.late:
                        return
                    effort = _least(near, _when(meets, self._walk, margin, walk_keep, coded))
                    if effort is not None:
                        yield self._walk(effort, margin, walk_keep, coded)

    def _scans(
        self, meets: Callable[[Plan], bool], faster_than: Plan | None = None
    ) -> Iterable[Plan]:
        """The least scan of the line codes that meets; none where the shortest is slower than another plan."""
        shortest = self._scan(self.sample.k)
        if faster_than is not None:
            self.time([shortest], rounds=1)
            if self.mean_microseconds(shortest) > self.mean_microseconds(faster_than):
                return
        keep = _least(
            _steps(self.sample.k, self.facts.rows, 1.1),
            lambda keep: meets(self._scan(keep)),
            first=2 * self.sample.k,
        )
        yield from [self._scan(keep)] if keep else []

    def ladder(self) -> Iterable[Plan]:
        """Yields plans from the cheapest to the dearest."""
        for effort in _steps(8, min(MAX_HOPS, max(64, self.facts.rows)), 1.25):
            yield (
                self._walk(effort)
                if self.facts.loaded is not None and self.facts.loaded.route == "graph"
                else self._scan(2 * effort)
            )
        yield self.exact_plan

    def _walk(
        self, effort: int, margin: float = 1.0, walk_keep: float = 1.0, coded: int | None = None
    ) -> Plan:
        k = self.sample.k
        plan = graph_plan(dims=self.facts.dims, k=k, effort=effort)
        walked, middle, last = plan.stages
        keep = max(k + 1, math.ceil(walked.keep * walk_keep))
        stages = (
            replace(walked, keep=keep),
            replace(middle, keep=min(keep, middle.keep if coded is None else k + coded)),
            last,
        )
        return Plan(
            "graph",
            effort,
            stages,
            None if margin == 1.0 else margin * _kernels.margin_of_effort(effort),
        )

    def _scan(self, keep: int) -> Plan:
        k = self.sample.k
        first, middle, last = flat_plan(dims=self.facts.dims, k=k).stages
        keep = max(keep, k)
        return Plan(
            "flat",
            1,
            (
                replace(first, keep=keep),
                replace(middle, keep=min(keep, max(middle.keep, keep // 4))),
                last,
            ),
        )


class SqlExplorer(Explorer):
    """A shortlist from the low-dim vectors, by pgvector's index or by reading all of them."""

    timed_queries = 30
    last_rounds = 3
    finest = 1.12

    def candidates(
        self, meets: Callable[[Plan], bool], hopeful: Callable[[Plan], bool]
    ) -> Iterable[Plan]:
        """Yields plans that meet the target, the least of each form."""
        k, rows = self.sample.k, self.facts.rows
        if self.facts.indexed:
            efforts = _steps(max(k, 16), MAX_EFFORT, 1.1)
            least = _least(efforts, lambda effort: meets(self._walk(effort, effort)), first=200)
            if least is not None:
                yield self._walk(least, least)
                yield from self._shorter(least, meets)
                return
            widest = self._walk(MAX_EFFORT, min(rows, MAX_EFFORT))
            if hopeful(widest):
                yield widest
        most = min(rows, MAX_LISTED)
        keep = _least(_steps(k, most, 1.1), lambda keep: meets(self._scan(keep)), first=200)
        if keep is not None or hopeful(self._scan(most)):
            yield self._scan(keep or most)

    def _shorter(self, least: int, meets: Callable[[Plan], bool]) -> Iterable[Plan]:
        """Wider walks with shorter lists, where ordering the list is a good part of a search."""
        whole, none = self._walk(least, least), self._walk(least, self.sample.k)
        self.time([whole, none], rounds=2)
        if self.mean_microseconds(none) > _LIST_WORTH * self.mean_microseconds(whole):
            return
        for wider in _WIDER:
            effort = min(MAX_EFFORT, math.ceil(least * wider))
            if self.late:
                return
            keep = _least(
                _steps(self.sample.k, effort, 1.3), _when(meets, partial(self._walk, effort))
            )
            if keep is not None:
                yield self._walk(effort, keep)

    def most_kept(self, plan: Plan) -> int:
        """How many rows a stage of a form of this plan may keep."""
        return self.facts.rows if plan.route == "hnsw" else min(self.facts.rows, MAX_LISTED)

    def ladder(self) -> Iterable[Plan]:
        """Yields plans from the cheapest to the dearest."""
        if self.facts.indexed:
            for effort in _steps(max(self.sample.k, 16), MAX_EFFORT, 1.25):
                yield self._walk(effort, effort)
        else:
            for keep in _steps(self.sample.k, min(self.facts.rows, MAX_LISTED), 1.6):
                yield self._scan(keep)
        yield self.exact_plan

    def _walk(self, effort: int, keep: int) -> Plan:
        return Plan("hnsw", effort, self._stages(keep))

    def _scan(self, keep: int) -> Plan:
        return Plan("seqscan", 1, self._stages(keep))

    def _stages(self, keep: int) -> tuple[Stage, ...]:
        low = Stage(self.facts.low_dims, Precision.float16, max(keep, self.sample.k))
        return (low, Stage(self.facts.dims, Precision.float32, self.sample.k))


def scaled(plan: Plan, scale: float, *, most: int) -> Plan:
    """Returns a dearer (scale > 1) or cheaper form of a plan: efforts and keeps beyond k grow by the scale, margins by its root.

    most: rows there are; more need no keep.
    """
    limit = {"graph": MAX_HOPS, "hnsw": MAX_EFFORT}.get(plan.route, 1)
    k = plan.k
    effort = max(1, min(limit, math.ceil(plan.effort * scale)))
    if plan.route == "hnsw":
        most = min(most, effort)  # pgvector begins anew for more
    keeps = [
        max(k, min(most, k + math.ceil((stage.keep - k) * scale))) for stage in plan.stages[:-1]
    ]
    stages = [
        replace(stage, keep=keep) for stage, keep in zip(plan.stages[:-1], keeps, strict=True)
    ]
    margin = None if plan.margin is None else plan.margin * math.sqrt(scale)
    return Plan(plan.route, effort, (*stages, plan.stages[-1]), margin)


def _steps(first: int, last: int, ratio: float) -> list[int]:
    """Rising integers from first to last, each this much above the one before."""
    steps, step = [], float(first)
    while step < last:
        steps.append(math.ceil(step))
        step = max(step * ratio, step + 1)
    return [*steps, last]


def _when(
    meets: Callable[[Plan], bool], plan_of: Callable[..., Plan], *form: Any
) -> Callable[[Any], bool]:
    """Whether the plan of a value, in this form, meets the target."""
    return lambda value: meets(plan_of(value, *form))


def _least(
    values: Sequence[Number], meets: Callable[[Number], bool], first: Number | None = None
) -> Number | None:
    """The first of rising values that meets, where all after it do too; None when none does. first: near which it is likely to be."""
    low, high = 0, len(values) - 1
    if first is not None:  # doubles from a likely place, so that what is dear is tried last
        place = next((place for place, value in enumerate(values) if value >= first), high)
        while place < high and not meets(values[place]):
            low, place = place + 1, min(high, place + max(4, place // 4))
        high = place
    if low > high or not meets(values[high]):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(values[middle]) else (middle + 1, high)
    return values[high]
