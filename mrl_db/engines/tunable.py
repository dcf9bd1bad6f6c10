"""Today's engines under the protocol `mrl_db.engines.engine.TunableEngine`, until they keep it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines import sql as sql_engine
from mrl_db.engines.engine import EngineName
from mrl_db.engines.native.engine import HiddenRows, NativeEngine
from mrl_db.engines.native.plans import NativePlanSpace
from mrl_db.engines.sql_plans import SqlPlanSpace
from mrl_db.hits import Hits, Trace
from mrl_db.model.plan import Plan, with_k
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session


class TunableSql:
    """PostgreSQL."""

    name: EngineName = "sql"
    threads = 2

    def __init__(self, session: Session, info: CollectionInfo) -> None:
        self._session, self.info = session, info

    def sync(self, max_staleness: float | None = None) -> None:
        """Does nothing."""

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """Not used."""
        raise NotImplementedError

    def check(self, plan: Plan) -> None:
        """Not used."""

    def search_one(self, query: object, k: object) -> Hits | None:
        """Returns None."""
        return None

    def search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        *,
        threads: int | None = None,
        hidden: Sequence[Any] | None = None,
        fill: bool = True,
    ) -> Hits:
        """See the protocol."""
        parts = np.array_split(np.arange(len(queries)), min(threads or 1, len(queries)))
        with ThreadPoolExecutor(len(parts)) as pool:
            results = list(
                pool.map(
                    lambda part: self._search(
                        request,
                        queries[part],
                        plan,
                        None if hidden is None else [hidden[position] for position in part],
                        fill,
                    ),
                    parts,
                )
            )
        if len(results) == 1:
            return results[0]
        width = min(hits.ids.shape[1] for hits in results)
        return Hits(
            np.concatenate([hits.ids[:, :width] for hits in results]),
            np.concatenate([hits.distances[:, :width] for hits in results]),
            results[0]._trace,
        )

    def _search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        hidden: Sequence[Any] | None,
        fill: bool,
    ) -> Hits:
        if hidden is None:
            return sql_engine.search(self._session, request, queries, plan, fill=fill)
        longer = tuple(replace(stage, keep=stage.keep + 1) for stage in plan.stages)
        hits = sql_engine.search(
            self._session, request, queries, replace(plan, stages=longer), fill=fill
        )
        own = hits.ids == np.array(hidden, dtype=hits.ids.dtype)[:, np.newaxis]
        left_out = np.where(own.any(axis=1), own.argmax(axis=1), hits.ids.shape[1] - 1)
        kept = np.ones(hits.ids.shape, dtype=bool)
        kept[np.arange(len(kept)), left_out] = False
        shape = (len(queries), -1)
        return Hits(
            hits.ids[kept].reshape(shape)[:, : plan.k],
            hits.distances[kept].reshape(shape)[:, : plan.k],
            hits._trace,
        )

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """See the protocol."""
        return sql_engine.explain(self._session, request, query, plan)

    def misses_for_rows(self, plan: Plan) -> float:
        """See the protocol."""
        return walk_misses(plan.effort) if plan.route == "hnsw" else 1.0

    def plan_space(self, k: int, rows: int) -> SqlPlanSpace:
        """See the protocol."""
        info = self.info
        return SqlPlanSpace(info.dims, info.low_dims, rows, k, info.index is not None)

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """See the protocol."""
        began = time.perf_counter()
        sql_engine.search(self._session, request, query[np.newaxis], plan)
        return time.perf_counter() - began


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


def walk_misses(ef_search: int) -> float:
    """Returns how many times as much a walk of pgvector's misses for a fresh query as for a row.

    The row's node gives away its neighbours, all at once where the list of candidates is little
    longer than a node's 32 links. Measured with pgvector 0.8 (m = 16, ef_construction = 64, 1,500
    queries of each kind) on 60,666 real rows and 200,000 generated ones: 2.5 to 3.8 at ef_search
    10 to 40, 2.2 to 2.6 at 64, 1.6 to 2.0 at 100, 1.3 to 1.9 at 130 to 800.
    """
    return float(np.interp(ef_search, (40, 100), (4.0, 2.0)))
