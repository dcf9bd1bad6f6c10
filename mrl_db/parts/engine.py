"""An engine over parts: it keeps the protocol of every other, and merges what each part answers.

So whatever is written against `Engine` needs no change: refined searches, the tuner, recall and
its report, the fates of rows. A plan is run by every part over its own rows, and what is measured,
and promised, is the merged answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import door
from mrl_db.engines.engine import EngineName, TunableEngine
from mrl_db.engines.native.lease import NEVER
from mrl_db.engines.plan_space import PlanSpace
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.model.plan import Plan, with_k
from mrl_db.parts.crew import Crew, Replies, left
from mrl_db.parts.merge import Answer, first_ask, merge, merge_one, unsure
from mrl_db.parts.part import Ask
from mrl_db.parts.planners import Planner
from mrl_db.parts.together import Together
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms one call asks the parts.

    Attributes:
        until: When it gives up (`time.monotonic`); None: never.
        partial: Whether it takes an answer without some of the parts.
        max_staleness: Seconds that the parts may be behind, unless the call says otherwise.
        written: When this process last wrote; what is older than that is no answer.
    """

    until: float | None = None
    partial: bool = False
    max_staleness: float = 0.0
    written: float = float("-inf")


class PartedEngine(TunableEngine):
    """The searches of one call to a collection in parts."""

    def __init__(
        self,
        name: EngineName,
        crew: Crew,
        planner: Planner,
        info: CollectionInfo,
        terms: Terms,
        on_written: Callable[[], None],
        together: Together | None = None,
        check_form: Callable[[CollectionInfo], None] = lambda _: None,
    ) -> None:
        """Asks nobody yet.

        Args:
            name: Of the engine that the parts search by.
            crew: The parts.
            planner: Of their plans.
            info: The collection.
            terms: Of the call.
            on_written: Is called when this process has written.
            together: The parts, where they are of one table and in this process.
            check_form: Raises where what the parts answered is of another collection than this.
        """
        self._name = name
        self._crew, self._planner, self._info = crew, planner, info
        self._terms, self._on_written, self._together = terms, on_written, together
        self._check_form = check_form
        # Parts ask the database in the call that searches: that saves a round trip to each.
        self._owed: float | None = None
        self._fresh: set[int] = set()  # of the parts, those that have been asked for it already

    @property
    def name(self) -> EngineName:
        """Of the engine that the parts search by."""
        return self._name

    @property
    def parts(self) -> int:
        """How many there are."""
        return len(self._crew.parts)

    @property
    def info(self) -> CollectionInfo:
        """The collection, all of it."""
        return self._info

    @property
    def threads(self) -> int:
        """Threads of each part that a batch is searched with."""
        return self._planner.threads

    def sync(
        self,
        max_staleness: float | None = None,
        ahead: Request | None = None,  # noqa: ARG002
    ) -> None:
        """Has the next search of this call see what was committed before it."""
        allowed = self._terms.max_staleness if max_staleness is None else max_staleness
        if allowed < NEVER:
            allowed = min(allowed, max(0.0, time.monotonic() - self._terms.written))
        self._owed = allowed

    def written(self) -> None:
        """Makes later searches see what this process has committed, however stale they may be."""
        self._on_written()

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """See `Engine.plan`."""
        return self._planner.plan(k, shortlist)

    def check(self, plan: Plan) -> None:
        """See `Engine.check`."""
        self._planner.check(plan)

    def follow_plan(self, plan: Plan) -> None:
        """See `TunableEngine.follow_plan`."""
        self._planner.follow_plan(plan)

    def plan_space(self, k: int, rows: int) -> PlanSpace:
        """Returns the plans worth measuring over the rows of a part."""
        return self._planner.plan_space(k, max(1, -(-rows // self.parts)))

    def misses_for_rows(self, plan: Plan) -> float:
        """See `Engine.misses_for_rows`."""
        return self._planner.misses_for_rows(plan)

    def search_one(self, query: object, k: object, max_staleness: object = None) -> Hits | None:
        """See `Engine.search_one`: of parts in this process, whose searches are short."""
        together = self._together
        if together is None or self._terms.until is not None or not together.take_turns:
            return None
        if type(k) is not int or k < 1 or first_ask(k, self.parts) < k:
            return None
        began = time.perf_counter()
        self.sync(None if max_staleness is None else door.checked_staleness(max_staleness))
        assert self._owed is not None
        self._fresh = together.sync(self._owed)
        if len(self._fresh) < self.parts:
            return None
        answers = together.answers_of_one(query, self._planner.plan(k))
        if answers is None:
            return None
        ids, distances = merge_one(
            [each.ids for each in answers], [each.distances for each in answers], k
        )
        microseconds = (time.perf_counter() - began) * 1e6
        return Hits(
            ids,
            distances,
            lambda: _trace(self.name, [each.trace for each in answers], microseconds),
            certified=all(each.certified for each in answers),
        )

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
        """Returns the merged hits of each query; see `Engine.search` and `mrl_db.parts.merge`.

        Raises:
            PartUnavailableError: A part did not answer, and the call takes no partial answer.
            ShapeError: The collection was made anew on a server, and is another one there.
        """
        began, k = time.perf_counter(), plan.k
        first = first_ask(k, self.parts)
        keys = None if hidden is None else tuple(hidden)
        ask = Ask(
            self.name,
            queries,
            plan if first == k else with_k(plan, first),
            request.where,
            request.columns,
            keys,
            fill,
            threads,
            self._owed,
        )
        self._owed = None
        asks = dict.fromkeys(range(self.parts), ask)
        if self._together is not None and ask.max_staleness is not None and ask.is_plain:
            fresh = self._fresh or self._together.sync(ask.max_staleness)
            self._fresh = set()
            asks.update(dict.fromkeys(fresh, replace(ask, max_staleness=None)))
        replies = self._ask(asks)
        hits, given = list(replies.given.values()), self._answers(asks, replies)
        missing, answers = {*replies.missing, *given.missing}, list(given.given.values())
        merged = merge(answers, k)
        certified = {number: each.certified for number, each in replies.given.items()}
        if first < k:
            masks = dict(zip(replies.given, unsure(answers, first, k, merged), strict=True))
            more = {
                number: replace(
                    ask,
                    queries=queries[mask],
                    plan=plan,
                    hidden=None if keys is None else tuple(np.array(keys, object)[mask]),
                    max_staleness=None,
                )
                for number, mask in masks.items()
                if mask.any()
            }
            again: Replies[Hits] = self._ask(more) if more else Replies({}, {})
            newer = self._answers(more, again)
            missing.update(again.missing, newer.missing)
            certified.update({n: each.certified for n, each in again.given.items()})
            for place, number in enumerate(replies.given):
                if number in newer.given:
                    answers[place] = answers[place].replaced(masks[number], newer.given[number])
            merged = merge(answers, k)
        self._check_form(self._info)
        microseconds = (time.perf_counter() - began) * 1e6
        found = Hits(
            merged.ids,
            merged.distances,
            lambda: _trace(self.name, [each.trace for each in hits], microseconds),
            {name: merged.column(name, answers) for name in request.columns},
            certified=not missing and all(certified.values()),
        )
        found.missing = tuple(sorted(missing))
        return found

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """Returns how one search goes: rows of all parts together, the time of the slowest."""
        owed, self._owed = self._owed, None
        ask = Ask(
            self.name,
            query[np.newaxis],
            plan,
            request.where,
            request.columns,
            max_staleness=owed,
        )
        began = time.perf_counter()
        parts = self._crew.parts
        replies = self._crew.ask(
            range(self.parts),
            lambda number, seconds: parts[number].explain(ask, seconds),
            self._terms.until,
        )
        microseconds = (time.perf_counter() - began) * 1e6
        return _trace(self.name, list(replies.given.values()), microseconds)

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """Returns how long one merged search takes."""
        began = time.perf_counter()
        self.search(request, query[np.newaxis], plan, threads=1)
        return time.perf_counter() - began

    def _answers(self, asks: Mapping[int, Ask], replies: Replies[Hits]) -> Replies[Answer]:
        """Returns what parts answered, where rows are hidden all that they have.

        Hits are equally many of each query: of a part with fewer rows than it was asked for, the
        queries whose hidden row is another part's would lack one. It gives all of them instead.
        """
        few = {
            number: replace(
                asks[number],
                plan=with_k(asks[number].plan, asks[number].plan.k + 1),
                hidden=None,
                max_staleness=None,
            )
            for number, each in replies.given.items()
            if asks[number].hidden is not None and each.ids.shape[1] < asks[number].plan.k
        }
        every: Replies[Hits] = self._ask(few) if few else Replies({}, {})
        answers = {
            number: Answer.whole(each.ids, each.distances, each.columns)
            for number, each in {**replies.given, **every.given}.items()
        }
        for number in every.given:
            hidden, k = asks[number].hidden, asks[number].plan.k
            answers[number] = answers[number].without(hidden or (), k)
        return Replies(answers, every.missing)

    def _ask(self, asks: Mapping[int, Ask]) -> Replies[Hits]:
        parts, until, together = self._crew.parts, self._terms.until, self._together
        if together is not None and until is None and all(ask.is_short for ask in asks.values()):

            def timed(number: int, seconds: float | None) -> Hits:
                began = time.perf_counter()
                hits = parts[number].search(asks[number], seconds)
                together.took(time.perf_counter() - began)
                return hits

            here = together.take_turns
            return self._crew.ask(asks, timed, partial=self._terms.partial, here=here)
        begun = {number: parts[number].begin(ask) for number, ask in asks.items()}
        waits = {
            number: lambda wait=wait: wait(left(until))
            for number, wait in begun.items()
            if wait is not None
        }
        if len(waits) == len(asks):
            return self._crew.collect(waits, partial=self._terms.partial)
        return self._crew.ask(
            asks,
            lambda number, seconds: parts[number].search(asks[number], seconds),
            until,
            partial=self._terms.partial,
        )


def _trace(engine: str, traces: list[Trace], microseconds: float) -> Trace:
    """Rows of all parts together, times of the slowest."""
    alike = len({len(trace.stages) for trace in traces}) == 1
    stages: tuple[StageTrace, ...] = ()
    if alike:
        stages = tuple(
            StageTrace(
                same[0].name,
                _sum([stage.rows_in for stage in same]),
                _sum([stage.rows_out for stage in same]),
                same[0].bytes_per_row,
                max((stage.microseconds for stage in same if stage.microseconds), default=None),
            )
            for same in zip(*(trace.stages for trace in traces), strict=True)
        )
    return Trace(engine, microseconds, stages, parts=tuple(traces))


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
