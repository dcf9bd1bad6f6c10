"""The native engine: a plan runs in one C++ call over rows loaded into this process (csrc/index).

Before it answers, it applies what was committed since it last asked (`following`), unless a search
allows some staleness.
"""

from __future__ import annotations

import struct
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels, door
from mrl_db.engines.engine import TunableEngine
from mrl_db.engines.native import background
from mrl_db.engines.native.default_effort import default_plan, measure_effort
from mrl_db.engines.native.following import LiveIndex
from mrl_db.engines.native.index import Loading, check_plan, read
from mrl_db.engines.native.lease import NEVER, Following
from mrl_db.engines.native.plans import NativePlanSpace, misses_for_rows, native_plan, plan_of_k
from mrl_db.engines.native.remembered import Remembered
from mrl_db.engines.native.rescoring import decoded, searched
from mrl_db.engines.native.selections import Selections
from mrl_db.engines.native.traces import trace
from mrl_db.faces.progress import Progress
from mrl_db.hits import Hits, Trace
from mrl_db.lifetime import renew_after_fork
from mrl_db.model.errors import NotLoadedError
from mrl_db.model.filters import AllOf
from mrl_db.model.key import encode
from mrl_db.model.plan import Plan, with_k
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.link import past_conflicts
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import OwnSession

_STAGE = struct.Struct("=QQQ")  # rows in, rows out, nanoseconds
_PLANS = 1000
_FLOAT32 = np.dtype(np.float32)  # NumPy has one such object in the machine's order
_FEW = 8  # queries that an event loop may wait for
_ALL = AllOf(())

Coordinates = Callable[[NDArray[np.uint32], int, int], NDArray[np.float32] | None]


def load(
    session: OwnSession,
    info: CollectionInfo,
    loading: Loading,
    progress: Progress | bool = False,
    following: Following = Following(),  # noqa: B008  # frozen
) -> NativeEngine:
    """Returns an engine over all rows with a vector, or those of a part.

    Args:
        session: To load and to follow by.
        info: The collection.
        loading: What to load.
        progress: Of the rows, then of the graph in per cent.
        following: Leases and limits.

    Raises:
        MemoryLimitError: Before a row is read.
        PlanError: The plan is none of this engine's.
        RowSecurityError: Policies would not bind searches here.
        FreshnessError: Writes to the table are not all logged.
        PrivilegeError: This role may not read the log.
    """
    check_plan(loading.plan, info)
    info = replace(info, part=loading.part)
    form = loading.form
    if loading.part is not None:
        # Which rows a part has is for the server's hash to say.
        form |= {"part": [*loading.part, session.server.version]}
    live = LiveIndex(
        session,
        info,
        lambda now, log, ended: past_conflicts(
            lambda: read(session, now, log, loading, progress, ended)
        ),
        allow_rls_bypass=loading.allow_rls_bypass,
        follow=loading.max_staleness < NEVER,
        cache=form if loading.cache else None,
        following=following,
    )
    return NativeEngine(session, live, loading)


class NativeEngine(TunableEngine):
    """A collection's rows in this process, searched by any number of threads at once."""

    name: Literal["native"] = "native"

    def __init__(self, session: OwnSession, live: LiveIndex, loading: Loading) -> None:
        """Not for callers: `load` makes it."""
        self._session = session
        self._live = live
        self._loading = loading
        self._plan = self._default = self._default_plan() if loading.measured else loading.plan
        engine = weakref.ref(self)
        live.rebuilt = lambda: _plan_anew(engine())
        self._has_short_way = loading.in_memory and live.info.key_type != "uuid"
        self._start_follower()
        renew_after_fork(self)
        self._plans: dict[Plan, _kernels.NativePlan] = {}
        self._plans_of_k: dict[int, tuple[_kernels.NativePlan, Plan]] = {}
        self._selections = Selections(session, live)
        self._hidden: Remembered[_kernels.HiddenRows] = Remembered()

    # What it is

    @property
    def info(self) -> CollectionInfo:
        """The collection as it was when it was last looked at."""
        return self._live.info

    @property
    def followed_plan(self) -> Plan:
        """The plan that searches follow unless they bring one, for the k that it was made for."""
        return self._plan

    @property
    def index(self) -> _kernels.Index:
        """The rows, their codes and the graph; another object once they were built anew."""
        return self._live.index

    @property
    def live(self) -> LiveIndex:
        """What follows the table."""
        return self._live

    @property
    def part(self) -> tuple[int, int] | None:
        """Of which part of the table the rows are, (number, of how many); None: of all of it."""
        return self._loading.part

    @property
    def in_memory(self) -> bool:
        """Whether the float32 vectors are here, or stay in PostgreSQL."""
        return self._loading.in_memory

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

    @property
    def generation(self) -> int:
        """How often something that was written has changed the rows here."""
        return self._live.journal.number

    @property
    def threads(self) -> int:
        """Threads that batches are searched with."""
        return self._loading.threads

    # Following the table

    def _start_follower(self) -> None:
        self._follower = background.Task("follower")
        self._forked = False
        if self._live.follows and self._loading.max_staleness > 0:
            interval = self._loading.max_staleness / 2
            self._follower.start(partial(background.follow, weakref.ref(self._live), interval))

    def after_fork(self) -> None:
        """The parent's follower is not in the child, which starts its own when it searches."""
        self._forked = True

    @property
    def follows(self) -> bool:
        """Whether it was loaded to follow its table."""
        return self._live.follows

    def sync(self, max_staleness: float | None = None, ahead: Request | None = None) -> None:
        """Applies what was committed until `max_staleness` seconds ago; None: as it was loaded."""
        if self._forked:
            self._start_follower()
        judge = None if ahead is None or ahead.where == _ALL else self._selections.judge(ahead)
        allowed = self._loading.max_staleness if max_staleness is None else max_staleness
        self._live.sync(allowed, judge)

    def written(self) -> None:
        """Makes the next search see what this process has committed, however stale it may be."""
        self._live.freshness.expire()

    def load_afresh(self) -> None:
        """Reads all rows again."""
        self._live.load_afresh()
        self.plan_anew()

    def plan_anew(self) -> None:
        """Follows the default plan of the rows that are here now, where that of before was."""
        if not self._loading.measured:
            return
        before, self._default = self._default, self._default_plan()
        if self._plan == before:
            self.follow_plan(self._default)

    def _default_plan(self) -> Plan:
        """The plan for the effort that was measured, now if the index is out of a file without."""
        index = self._live.index
        if not index.effort:
            index.effort = measure_effort(index, self.info, self.threads, self._session)
        return default_plan(self.info.dims, index.effort)

    def settle(self) -> None:
        """Waits until new rows are linked, and an index that is being built anew is here."""
        self._live.settle()

    def close(self) -> None:
        """Stops following."""
        self._follower.end()
        self._live.close()

    # Plans

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """Returns the plan that was loaded for or promised, for k answers."""
        return plan_of_k(self._plan, k, shortlist)

    def follow_plan(self, plan: Plan) -> None:
        """Makes it the plan of searches that bring none."""
        self.check(plan)
        self._plan = plan
        self._plans_of_k = {}

    def check(self, plan: Plan) -> None:
        """Raises PlanError for another engine's plan, NotLoadedError for missing codes."""
        check_plan(plan, self.info)
        self._native(plan)

    def misses_for_rows(self, plan: Plan) -> float:
        """See `Engine.misses_for_rows`."""
        return misses_for_rows(plan)

    def plan_space(self, k: int, rows: int) -> NativePlanSpace:
        """Returns the plans worth measuring over what is loaded."""
        return NativePlanSpace(self.info.dims, rows, k, self._loading.plan)

    def _native(self, plan: Plan) -> _kernels.NativePlan:
        remembered = self._plans.get(plan)
        if remembered is not None:
            return remembered
        native = native_plan(plan)
        try:
            self.index.check(native)
        except _kernels.PlanMismatchError as error:
            raise NotLoadedError(
                f'collection "{self.info.name}": {error}; load(plan=…) makes what a plan needs'
            ) from None
        if len(self._plans) > _PLANS:
            self._plans.clear()
        self._plans[plan] = native
        return native

    # Searching

    def search_one(self, query: object, k: object, max_staleness: object = None) -> Hits | None:
        """Returns the hits of one query by the shortest way; see `Engine.search_one`.

        It takes a contiguous float32 array, and keys that are integers or text; whatever else it
        is, `search` takes it or says what is wrong with it.
        """
        if not self._has_short_way or type(k) is not int or type(query) is not np.ndarray:
            return None
        if query.dtype is not _FLOAT32 or query.ndim != 1:
            return None
        self.sync(None if max_staleness is None else door.checked_staleness(max_staleness))
        native, plan = self._plans_of_k.get(k) or self._plan_of_k(k)
        return None if native is None else self._answer(query, native, plan)

    def answer_one(self, query: object, plan: Plan) -> Hits | None:
        """Returns the hits of one query by a plan, as `search_one` does, without a sync."""
        return self._answer(query, self._native(plan), plan) if self._has_short_way else None

    def _answer(self, query: object, native: _kernels.NativePlan, plan: Plan) -> Hits | None:
        answer = self._live.index.search_one(query, native)
        if answer is None:
            return None
        ids, distances, counts, proven = answer
        told = lambda: trace(plan, tuple(_STAGE.iter_unpack(counts)), 1, part=self.part)  # noqa: E731
        return Hits(ids, distances, told, certified=proven)

    def _plan_of_k(self, k: int) -> tuple[_kernels.NativePlan | None, Plan]:
        """The plan that is followed for k answers; as the kernels take it, if there is such a k."""
        if not 0 < k < 2**31:
            return None, self._plan
        plans = self._plans_of_k  # of this plan: another thread may have another one followed
        plan = with_k(self._plan, k)
        if len(plans) > _PLANS:
            plans.clear()
        remembered = plans[k] = (self._native(plan), plan)
        return remembered

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
        """Returns the hits of each query; see `Engine.search`."""
        native = self._native(plan)
        index, selection, left_out = self._live.index, None, None
        if request.where != _ALL:
            index, selection = self._selections.get(request)
        if hidden is not None:
            left_out = self._hide(index, hidden)
        began = time.perf_counter()
        whole = self.in_memory or len(plan.stages) == 1
        given = (queries, native, selection, threads or self._loading.threads, left_out)
        look: Callable[[], Any] = partial(index.search_many if whole else index.candidates, *given)
        if len(queries) > _FEW:
            look = partial(self._session.aside, look)
        if whole:
            ids, distances, counts, proven = look()
            if not isinstance(ids, np.ndarray):
                ids = decoded(ids, distances.shape, self.info.key_type)
        else:
            ids, distances, counts = searched(
                look, index, self._live, self._session, queries, plan.k
            )
            proven = plan.leaves_out_none(index.rows)
        microseconds = (time.perf_counter() - began) * 1e6
        return Hits(
            ids,
            distances,
            lambda: trace(plan, counts, len(queries), microseconds, self.part),
            rows.columns_of(self._session, request, ids),
            certified=proven,
        )

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """Returns the trace of one search."""
        return self.search(request, query[np.newaxis], plan, threads=1).trace

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """Returns how long one search for `query`, (dims,), takes a caller, by the shortest way."""
        native = self._native(plan)
        began = time.perf_counter()
        if not self.in_memory or self._live.index.search_one(query, native) is None:
            self.search(request, query[np.newaxis], plan, threads=1)
        return time.perf_counter() - began

    def rows_now(self, request: Request) -> tuple[NDArray[Any], Coordinates]:
        """Returns the rows here that pass the filter, as they are at this moment.

        Returns:
            Their ids (n,), and a function that reads their coordinates: positions among the ids
            (m,) uint32, begin and end give (m, end - begin), or None when another row has taken
            the place of one since.
        """
        index, selection = self._live.index, None
        if request.where != _ALL:
            index, selection = self._selections.get(request)
        live, keys = index.live(selection)
        if not isinstance(keys, np.ndarray):
            keys = decoded([keys], (1, len(keys)), self.info.key_type)[0]
        return keys, partial(index.coordinates, live)

    def _hide(self, index: _kernels.Index, keys: Sequence[Any]) -> _kernels.HiddenRows:
        """Rows as queries, with what the graph would be without each; the same are asked again."""
        return self._hidden.get(
            tuple(keys),
            (index, self.generation),
            lambda: index.hide(encode(keys, self.info.key_type), self._loading.threads),
        )


def _plan_anew(engine: NativeEngine | None) -> None:
    if engine is not None:
        engine.plan_anew()
