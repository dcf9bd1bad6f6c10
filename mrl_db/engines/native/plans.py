"""The native engine's plans worth measuring: walks over the graph, and scans of loaded codes.

A scan of other codes than those of the walk is left out: it reads more bytes than one of the line
codes, which are there for the graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mrl_db import _kernels
from mrl_db.engines.plan_space import Trials, least, scaled, steps
from mrl_db.model.errors import PlanError
from mrl_db.model.plan import MAX_HOPS, Plan, Stage, flat_plan, graph_plan, with_k
from mrl_db.model.precision import Precision

_MARGINS = (0.6, 1.0, 1.6, 2.5, math.inf)  # times the one that goes with the effort
_WALK_KEEPS = (0.6, 1.0, 1.6)  # times the default
_CODED_KEEPS = (1, 2, 4, 8)  # more than k
_BEST_MARGINS = 2  # whose keeps are varied
_NEAR = 1.7  # times the effort, up and down, where other keeps are tried
_FEW_HOPS, _FEW_DIMS, _OF_SHORT_WALKS = 16, 16, 1.75


def native_plan(plan: Plan) -> _kernels.NativePlan:
    """Returns a plan as the kernels take it."""
    stages = [
        (
            _kernels.Space.__members__[stage.space],
            stage.dims,
            _kernels.Precision.__members__[stage.precision.value],
            stage.keep,
        )
        for stage in plan.stages
    ]
    route = _kernels.Route.__members__[plan.route]
    return _kernels.NativePlan(route, plan.effort, stages, plan.margin)


def plan_of_k(followed: Plan, k: int, shortlist: int | None) -> Plan:
    """Returns the plan that is followed, for k answers; raises PlanError for a shortlist."""
    if shortlist is not None:
        raise PlanError(
            "shortlist= is the SQL engine's; the native engine's plans say what each stage "
            "keeps: plan=graph_plan(…)"
        )
    return with_k(followed, k)


def misses_for_rows(plan: Plan) -> float:
    """Returns how many times as much a plan misses for a fresh query as for a hidden row.

    A row's detour leads past it in one hop, which counts where a walk has few and there are few
    directions to go: on 4 and 8 dims walks of 8 to 14 hops missed 1.2 to 1.7 times as much for
    fresh queries, from 20 hops or 20 dims on no more than for rows.
    """
    is_short = plan.walks and plan.effort < _FEW_HOPS and plan.dims <= _FEW_DIMS
    return _OF_SHORT_WALKS if is_short else 1.0


@dataclass(frozen=True, slots=True)
class NativePlanSpace:
    """Plans over what is loaded.

    Attributes:
        dims: Full dims.
        rows: Rows of the collection.
        k: Answers.
        loaded: The plan that the rows were loaded for: it says which codes are here.
    """

    dims: int
    rows: int
    k: int
    loaded: Plan

    explored_queries = 1000
    checked_queries = (1000, 6000)
    timed_queries = 200
    final_rounds = 6
    finest = 1.06
    shortlist_dims = None

    @property
    def exact(self) -> Plan:
        """A scan of the full vectors."""
        return Plan("flat", 1, (Stage(self.dims, Precision.float32, self.k),))

    def candidates(self, trials: Trials) -> Iterator[Plan]:
        """Yields plans that meet the target, the cheapest of each form."""
        if self.loaded.route == "graph":
            yield from self._walks(trials)
            return
        if self._has_line_codes:
            yield from self._scans(trials)
        scales = [sixteenths / 16 for sixteenths in steps(1, 16 * self.rows, 1.1)]
        scale = least(scales, lambda scale: trials.meets(self.scaled(self.loaded, scale)))
        if scale is not None:
            yield self.scaled(self.loaded, scale)

    @property
    def _has_line_codes(self) -> bool:
        return any(stage.precision is Precision.int4 for stage in self.loaded.stages)

    def _walks(self, trials: Trials) -> Iterator[Plan]:
        """How early a walk stops decides most, so margins come first, then keeps of the best."""
        efforts = self._efforts(4, self.finest)
        margin_of: dict[Plan, float] = {}
        for margin in _MARGINS:
            if trials.late:
                break
            plan = self._cheapest_walk(trials, efforts, margin, first=64)
            if plan is not None:
                margin_of[plan] = margin
        trials.time(list(margin_of))
        walks = sorted(margin_of, key=trials.mean_microseconds)
        yield from walks
        if self._has_line_codes:
            yield from self._scans(trials, walks[0] if walks else None)
        for walk in walks[:_BEST_MARGINS]:
            near = [each for each in efforts if walk.effort / _NEAR <= each <= _NEAR * walk.effort]
            for walk_keep in _WALK_KEEPS:
                for coded_keep in _CODED_KEEPS:
                    if trials.late:
                        return
                    plan = self._cheapest_walk(trials, near, margin_of[walk], walk_keep, coded_keep)
                    if plan is not None:
                        yield plan

    def _cheapest_walk(
        self,
        trials: Trials,
        efforts: list[int],
        margin: float,
        walk_keep: float = 1.0,
        coded_keep: int | None = None,
        first: int | None = None,
    ) -> Plan | None:
        def walk(effort: int) -> Plan:
            return self._walk(effort, margin, walk_keep, coded_keep)

        effort = least(efforts, lambda effort: trials.meets(walk(effort)), first)
        return None if effort is None else walk(effort)

    def _scans(self, trials: Trials, faster_than: Plan | None = None) -> Iterator[Plan]:
        """The cheapest scan of the line codes; none where the shortest is slower than a walk."""
        shortest = self._scan(self.k)
        if faster_than is not None:
            trials.time([shortest], rounds=1)
            if trials.mean_microseconds(shortest) > trials.mean_microseconds(faster_than):
                return
        keep = least(
            steps(self.k, self.rows, 1.1),
            lambda keep: trials.meets(self._scan(keep)),
            first=2 * self.k,
        )
        if keep is not None:
            yield self._scan(keep)

    def ladder(self) -> Iterator[Plan]:
        """Yields plans from the cheapest to the dearest."""
        for effort in self._efforts(8, 1.25):
            yield self._walk(effort) if self.loaded.route == "graph" else self._scan(2 * effort)
        yield self.exact

    def scaled(self, plan: Plan, scale: float) -> Plan:
        """Returns a dearer (scale > 1) or cheaper form of a plan."""
        return scaled(plan, scale, most=self.rows, most_effort=plan.most_effort)

    def _efforts(self, first: int, ratio: float) -> list[int]:
        return steps(first, min(MAX_HOPS, max(64, self.rows)), ratio)

    def _walk(
        self,
        effort: int,
        margin: float = 1.0,
        walk_keep: float = 1.0,
        coded_keep: int | None = None,
    ) -> Plan:
        plan = graph_plan(dims=self.dims, k=self.k, effort=effort)
        walked, coded, last = plan.stages
        keep = max(self.k + 1, math.ceil(walked.keep * walk_keep))
        then = coded.keep if coded_keep is None else self.k + coded_keep
        return replace(
            plan,
            stages=(replace(walked, keep=keep), replace(coded, keep=min(keep, then)), last),
            margin=None if margin == 1.0 else margin * _kernels.margin_of_effort(effort),
        )

    def _scan(self, keep: int) -> Plan:
        plan = flat_plan(dims=self.dims, k=self.k)
        first, coded, last = plan.stages
        keep = max(keep, self.k)
        then = min(keep, max(coded.keep, keep // 4))
        return replace(plan, stages=(replace(first, keep=keep), replace(coded, keep=then), last))
