"""Today's engines under the protocol `mrl_db.engines.engine.TunableEngine`, until they keep it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import EngineName
from mrl_db.engines.native.engine import HiddenRows, NativeEngine
from mrl_db.engines.native.plans import NativePlanSpace
from mrl_db.hits import Hits, Trace
from mrl_db.model.plan import Plan, with_k
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request


class TunableNative:
    """This process."""

    name: EngineName = "native"

    def __init__(self, native: NativeEngine) -> None:
        self._native = native
        self._hidden: dict[tuple[Any, ...], HiddenRows] = {}

    @property
    def threads(self) -> int:
        """See the protocol."""
        return self._native._threads

    @property
    def info(self) -> CollectionInfo:
        """See the protocol."""
        return self._native.info

    def sync(self, max_staleness: float | None = None) -> None:
        """See the protocol."""
        self._native.sync(max_staleness)

    def plan(self, k: int, shortlist: int | None = None) -> Plan:  # noqa: ARG002
        """See the protocol."""
        return with_k(self._native.plan, k)

    def check(self, plan: Plan) -> None:
        """See the protocol."""
        self._native.check(plan)

    def search_one(self, query: object, k: object) -> Hits | None:
        """See the protocol."""
        return self._native.search_plainly(query, k)

    def search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        *,
        threads: int | None = None,
        hidden: Sequence[Any] | None = None,
        fill: bool = True,  # noqa: ARG002
    ) -> Hits:
        """See the protocol."""
        keys = None if hidden is None else tuple(hidden)
        rows = None if keys is None else self._hidden.setdefault(keys, HiddenRows(keys))
        return self._native.search(request, queries, plan.k, plan, threads, rows)

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """See the protocol."""
        return self._native.search(request, query[np.newaxis], plan.k, plan, 1).trace

    def misses_for_rows(self, plan: Plan) -> float:  # noqa: ARG002
        """See the protocol."""
        return 1.0

    def plan_space(self, k: int, rows: int) -> NativePlanSpace:
        """See the protocol."""
        return NativePlanSpace(self.info.dims, rows, k, self._native.plan)

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """See the protocol."""
        began = time.perf_counter()
        if self._native.in_memory:
            self._native.search_once(query, plan)
        else:
            self._native.search(request, query[np.newaxis], plan.k, plan, 1)
        return time.perf_counter() - began
