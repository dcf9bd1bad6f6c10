"""Which plans parts can run: each engine's own, or one that all of them follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mrl_db import _kernels
from mrl_db.engines.exact import ExactEngine
from mrl_db.engines.native.index import check_plan
from mrl_db.engines.native.plans import NativePlanSpace, misses_for_rows, plan_of_k
from mrl_db.engines.plan_space import PlanSpace
from mrl_db.engines.sql import SqlEngine
from mrl_db.model.errors import PlanError
from mrl_db.model.plan import Plan
from mrl_db.postgres.catalog import CollectionInfo


class Planner(Protocol):
    """Says which plans the parts can run."""

    threads: int

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """See `Engine.plan`."""
        ...

    def check(self, plan: Plan) -> None:
        """See `Engine.check`."""
        ...

    def follow_plan(self, plan: Plan) -> None:
        """See `TunableEngine.follow_plan`."""
        ...

    def plan_space(self, k: int, rows: int) -> PlanSpace:
        """See `TunableEngine.plan_space`; over the rows of a part."""
        ...

    def misses_for_rows(self, plan: Plan) -> float:
        """See `Engine.misses_for_rows`."""
        ...


class OfSql:
    """Plans of the SQL engines of several servers: the first one's, which all of them follow."""

    threads = 2

    def __init__(self, engines: Sequence[SqlEngine]) -> None:
        self._engines = engines
        self.plan, self.check = engines[0].plan, engines[0].check
        self.plan_space = engines[0].plan_space

    def follow_plan(self, plan: Plan) -> None:
        """See `TunableEngine.follow_plan`."""
        for engine in self._engines:
            engine.follow_plan(plan)

    def misses_for_rows(self, plan: Plan) -> float:
        """See `Engine.misses_for_rows`."""
        return max(engine.misses_for_rows(plan) for engine in self._engines)


class OfExact:
    """The one plan of brute force."""

    threads = 1

    def __init__(self, engine: ExactEngine) -> None:
        self.plan, self.check = engine.plan, engine.check

    def follow_plan(self, plan: Plan) -> None:
        """There is one plan."""

    def plan_space(self, k: int, rows: int) -> PlanSpace:  # noqa: ARG002
        """There is nothing to choose."""
        raise PlanError('brute force has one plan; tune plans of engine="sql" or "native"')

    def misses_for_rows(self, plan: Plan) -> float:  # noqa: ARG002
        """See `Engine.misses_for_rows`."""
        return 1.0


class OfNative:
    """Plans over what every part has loaded."""

    def __init__(self, info: CollectionInfo, loaded: Plan, threads: int) -> None:
        self._info, self._followed, self.threads = info, loaded, threads

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """See `NativeEngine.plan`."""
        return plan_of_k(self._followed, k, shortlist)

    def check(self, plan: Plan) -> None:
        """See `Engine.check`; whether the codes are there the parts say when they search."""
        check_plan(plan, self._info)

    def follow_plan(self, plan: Plan) -> None:
        """See `TunableEngine.follow_plan`."""
        self.check(plan)
        self._followed = plan

    def plan_space(self, k: int, rows: int) -> NativePlanSpace:
        """See `TunableEngine.plan_space`."""
        return NativePlanSpace(self._info.dims, rows, k, self._followed)

    def misses_for_rows(self, plan: Plan) -> float:
        """See `Engine.misses_for_rows`."""
        return misses_for_rows(plan)


def farthest(loaded: Sequence[tuple[Plan, int | None]]) -> Plan:
    """Returns the plan for all parts that is enough for each.

    The longest walk; a scan, where a part has rows that none of its walks was enough for. One of so
    few rows that nothing was measured scans them, which the others need not: a walk, too, meets
    nearly all of so few.

    Args:
        loaded: Each part's own plan, and its rows; None: not known.
    """
    plans = [
        plan
        for plan, rows in loaded
        if rows is None or _kernels.default_effort_queries(rows, plan.dims)
    ] or [plan for plan, _ in loaded]
    scans = [plan for plan in plans if not plan.walks]
    if scans:
        return max(scans, key=lambda plan: plan.stages[0].precision.bits)
    return max(plans, key=lambda plan: plan.effort)
