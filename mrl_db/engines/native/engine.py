"""The native engine: a plan runs in one C++ call over rows loaded into this process (csrc/index).

Before it answers, it applies what was committed since it last asked (`following`), unless a search allows some staleness.
"""

from __future__ import annotations

import math
import struct
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.engines.native.following import NEVER, Follower, LiveIndex
from mrl_db.engines.sql import key_dtype
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.model.errors import NotLoadedError
from mrl_db.model.filters import AllOf, Node
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, with_k
from mrl_db.model.precision import Precision
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

_ROUTES = {"graph": _kernels.Route.graph, "flat": _kernels.Route.flat}
_SPACES = {"prefix": _kernels.Space.prefix, "projection": _kernels.Space.projection}
_PRECISIONS = {
    Precision.bit: _kernels.Precision.bit,
    Precision.int4: _kernels.Precision.int4,
    Precision.int8: _kernels.Precision.int8,
    Precision.float32: _kernels.Precision.float32,
}
_STAGE = struct.Struct("=QQQ")  # rows in, rows out, nanoseconds
_SELECTIONS = 64  # filters whose rows are remembered
_ALL = AllOf(())

Coordinates = Callable[[NDArray[np.uint32], int, int], NDArray[np.float32] | None]


class HiddenRows:
    """Rows of a collection that are asked for as if they were none of its rows: one for each query of a search, or of many searches."""

    def __init__(self, keys: Sequence[Any]) -> None:
        """What the graph would be without each of them is found when they are first searched for."""
        self._keys = keys
        self._of: tuple[_kernels.Index, _kernels.HiddenRows] | None = None

    def of(self, index: _kernels.Index, key_type: str, threads: int) -> _kernels.HiddenRows:
        """Returns them as rows of an index."""
        if self._of is None or self._of[0] is not index:
            self._of = index, index.hide(rows.encoded_keys(self._keys, key_type), threads)
        return self._of[1]


class NativeEngine:
    """A collection's rows in this process, searched by any number of threads at once."""

    def __init__(
        self,
        session: Session,
        live: LiveIndex,
        plan: Plan,
        *,
        in_memory: bool,
        threads: int,
        max_staleness: float,
    ) -> None:
        """Not for callers: `loading.load` makes it."""
        self._session = session
        self._live = live
        self._plan = plan
        self._in_memory = in_memory
        self._threads = threads
        self._max_staleness = max_staleness
        self._follower = (
            Follower(live, max_staleness) if live.follows and 0 < max_staleness < NEVER else None
        )
        if self._follower is not None:
            self._follower.start()
        self.note: Callable[[], str | None] = lambda: (
            None
        )  # tells, when a trace is looked at, what the plan promises
        self._plans: dict[Plan, _kernels.NativePlan] = {}
        self._plans_of_k: dict[int, tuple[_kernels.NativePlan, Plan]] = {}
        self._selections: OrderedDict[Node, tuple[_kernels.Index, int, _kernels.Selection]] = (
            OrderedDict()
        )

    @property
    def plan(self) -> Plan:
        """The plan that was loaded for, and that a search follows unless it brings its own."""
        return self._plan

    def follow_plan(self, plan: Plan) -> None:
        """Makes it the plan of searches that bring none; raises NotLoadedError when its codes are not here."""
        self._native(plan)
        self._plan = plan
        self._plans_of_k = {}

    @property
    def info(self) -> CollectionInfo:
        """The collection as it was when it was last looked at."""
        return self._live.info

    @property
    def in_memory(self) -> bool:
        """Whether the float32 vectors are here, or stay in PostgreSQL."""
        return self._in_memory

    @property
    def rows(self) -> int:
        """Rows that can be found."""
        return self._live.index.rows

    @property
    def bytes(self) -> int:
        """Bytes held, the float32 vectors included."""
        return self._live.index.bytes

    @property
    def vector_bytes(self) -> int:
        """Bytes of the float32 vectors."""
        return self._live.index.vector_bytes

    def sync(self, max_staleness: float | None = None) -> None:
        """Applies what was committed until `max_staleness` seconds ago; None: as many as were said when it was loaded."""
        self._live.sync(self._max_staleness if max_staleness is None else max_staleness)

    def written(self) -> None:
        """Tells that this process has committed something: the next search sees it, whatever staleness it allows."""
        self._live.expire()

    def load_afresh(self) -> None:
        """Reads all rows again."""
        self._live.load_afresh()

    def close(self) -> None:
        """Stops following."""
        if self._follower is not None:
            self._follower.stop()
        self._live.close()

    def search_plainly(self, query: object, k: object) -> Hits | None:
        """Returns the hits of one query without filter, columns or a plan of its own; None when that is not all there is to it.

        The short way for the common case: a contiguous float32 array, and keys that are integers or text. Whatever else it is, `search`
        takes it or says what is wrong with it.
        """
        if type(k) is not int or k < 1 or not self._in_memory:
            return None
        known = self._plans_of_k.get(k)
        if known is None:
            plan = with_k(self._plan, k)
            if len(self._plans_of_k) > 1000:
                self._plans_of_k.clear()
            known = self._plans_of_k[k] = (self._native(plan), plan)
        index = self._live.index
        found = index.search_one(query, known[0])
        if found is None:
            return None
        ids, distances, counts = found
        certified = known[1].leaves_out_none(index.rows) if known[1].route == "flat" else False
        return Hits(
            ids,
            distances,
            lambda: _trace(known[1], tuple(_STAGE.iter_unpack(counts)), 1, note=self.note),
            certified=certified,
        )

    def search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        k: int,
        plan: Plan | None,
        threads: int | None = None,
        hidden: HiddenRows | None = None,
    ) -> Hits:
        """Returns the hits of each query, (n, k). hidden: for each query a row that is to be as if it were not there."""
        chosen = with_k(self._plan if plan is None else plan, k)
        native = self._native(chosen)
        index, selection = self._live.index, None
        if request.where != _ALL:
            index, selection = self._select(request)
        began = time.perf_counter()
        whole = self._in_memory or len(chosen.stages) == 1
        left_out = (
            None if hidden is None else hidden.of(index, request.info.key_type, self._threads)
        )
        ids, distances, counts = index.search_many(
            queries, native, selection, threads or self._threads, not whole, left_out
        )
        if not whole:
            ids, distances = self._rescored(queries, ids, k)
        elif not isinstance(ids, np.ndarray):
            ids = self._keys(ids, distances.shape)
        microseconds = (time.perf_counter() - began) * 1e6
        columns = rows.columns_of(self._session, request, ids)
        note = self.note if plan is None else None
        trace = lambda: _trace(chosen, counts, len(queries), microseconds, note)  # noqa: E731  # kept for when it is looked at
        return Hits(ids, distances, trace, columns, certified=chosen.leaves_out_none(index.rows))

    def search_once(self, query: NDArray[np.float32], plan: Plan) -> None:
        """Runs a plan for one query (dims,) as the short way does, for its time alone."""
        self._live.index.search_one(query, self._native(plan))

    def check(self, plan: Plan) -> None:
        """Raises NotLoadedError when the plan needs codes that are not here."""
        self._native(plan)

    def _native(self, plan: Plan) -> _kernels.NativePlan:
        known = self._plans.get(plan)
        if known is not None:
            return known
        stages = [(_SPACES[s.space], s.dims, _PRECISIONS[s.precision], s.keep) for s in plan.stages]
        native = _kernels.NativePlan(_ROUTES[plan.route], plan.effort, stages, plan.margin)
        try:
            self._live.index.check(native)
        except _kernels.PlanMismatchError as error:
            raise NotLoadedError(
                f'collection "{self._live.info.name}": {error}; load(plan=…) makes what a plan needs'
            ) from None
        if len(self._plans) > 1000:
            self._plans.clear()
        self._plans[plan] = native
        return native

    def _select(self, request: Request) -> tuple[_kernels.Index, _kernels.Selection]:
        """The rows that pass a filter, as PostgreSQL says; remembered until something is written."""
        generation, index = self._live.generation, self._live.index
        known = self._selections.get(request.where)
        if known is not None and known[0] is index and known[1] == generation:
            return index, known[2]
        selection = index.select(rows.keys_where(self._session, request))
        self._selections[request.where] = (index, generation, selection)
        while len(self._selections) > _SELECTIONS:
            self._selections.popitem(last=False)
        return index, selection

    def rows_now(self, request: Request) -> tuple[NDArray[Any], Coordinates]:
        """Returns the ids of the rows here that pass the filter, and what reads their coordinates: places among the ids (n,) uint32, begin,
        end give (n, end - begin) as these rows are at this moment, or None when another row has taken the place of one since.
        """
        index, selection = (
            (self._live.index, None) if request.where == _ALL else self._select(request)
        )
        live, keys = index.live(selection)
        ids = keys if isinstance(keys, np.ndarray) else self._keys([keys], (1, len(keys)))[0]
        return ids, partial(index.coordinates, live)

    def _keys(self, found: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> NDArray[np.object_]:
        read = (
            (lambda key: uuid.UUID(bytes=key))
            if self._live.info.key_type == "uuid"
            else bytes.decode
        )
        ids = np.empty(shape, dtype=object)
        for query, keys in enumerate(found):
            ids[query] = [read(key) for key in keys]
        return ids

    def _rescored(
        self, queries: NDArray[np.float32], found: Any, k: int
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The last stage over vectors fetched from PostgreSQL: true distances in float64, the k best of each query, ties by id."""
        candidates = (
            found.tolist()
            if isinstance(found, np.ndarray)
            else self._keys(found, (len(found), len(found[0]))).tolist()
        )
        keys, vectors, _ = rows.get(
            self._session, self._live.info, list({key for each in candidates for key in each}), ()
        )
        place = {key: number for number, key in enumerate(keys)}
        answers = []
        for query, each in zip(queries.astype(np.float64), candidates, strict=True):
            there = [key for key in each if key in place]
            exact = _distances(
                self._live.info.metric,
                query,
                vectors[[place[key] for key in there]].astype(np.float64),
            )
            answers.append(
                sorted(zip(np.where(np.isnan(exact), np.inf, exact).tolist(), there, strict=True))[
                    :k
                ]
            )
        width = min((len(answer) for answer in answers), default=0)
        ids = np.empty((len(answers), width), dtype=key_dtype(self._live.info))
        distances = np.empty((len(answers), width))
        for query, answer in enumerate(answers):
            for rank, (distance, key) in enumerate(answer[:width]):
                ids[query, rank], distances[query, rank] = (
                    key,
                    math.nan if math.isinf(distance) else distance,
                )
        return ids, distances


def _distances(
    metric: Metric, query: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """pgvector's operator of the metric, in float64."""
    if metric is Metric.l2:
        return np.asarray(np.linalg.norm(vectors - query, axis=1), dtype=np.float64)
    products = vectors @ query
    if metric is Metric.inner_product:
        return np.asarray(-products, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = products / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    return np.asarray(1.0 - np.clip(cosines, -1.0, 1.0), dtype=np.float64)


def _trace(
    plan: Plan,
    counts: _kernels.StageCounts,
    queries: int,
    microseconds: float | None = None,
    note: Callable[[], str | None] | None = None,
) -> Trace:
    """Rows and microseconds of every stage for one query, or on average; the time is a thread's, whatever others did beside it."""
    stages = []
    for number, (stage, (rows_in, rows_out, nanoseconds)) in enumerate(
        zip(plan.stages, counts, strict=True)
    ):
        name = f"{plan.route}, {stage}" if number == 0 else str(stage)
        each = max(queries, 1)
        stages.append(
            StageTrace(
                name,
                round(rows_in / each),
                round(rows_out / each),
                stage.precision.bytes(stage.dims),
                nanoseconds / each / 1000,
            )
        )
    total = (
        sum(stage.microseconds or 0.0 for stage in stages) if microseconds is None else microseconds
    )
    return Trace("native", total, tuple(stages), None if note is None else note())
