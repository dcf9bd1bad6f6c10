"""Parts of one table in this process: one asks what is new for all, and short searches take turns.

Where nothing was written since all parts were last brought up to date, they stand at one position
of the log; when one of them has asked, and stands where another one does, that one has seen all
that it would be told. So an idle table costs one round trip and not one for each part.

A thread's turn costs more than a walk over a graph: where a part's search is as short as that, one
thread makes them all, one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from mrl_db.engines.native.engine import NativeEngine
from mrl_db.engines.native.lease import boot_time
from mrl_db.hits import Hits
from mrl_db.model.errors import MrlDbError
from mrl_db.model.plan import Plan
from mrl_db.parts.part import OpenedPart

_TURN = 150e-6  # seconds that it takes to have another thread search, and to hear of it
_RISE = 1.05  # what a search may take longer than the last one did, before it is taken for longer
_LEAST = 1e-6  # seconds


class Together:
    """Such parts. Any number of threads may search at once."""

    def __init__(self, parts: Sequence[OpenedPart]) -> None:
        """Takes parts of one table, which the same process has loaded."""
        self._parts = parts
        self._seconds = _LEAST

    def sync(self, max_staleness: float) -> set[int]:
        """Asks for all; returns the numbers of those that need not ask any more."""
        engines = [part.opened.engines.get("native") for part in self._parts]
        loaded = [engine for engine in engines if isinstance(engine, NativeEngine)]
        if len(loaded) != len(self._parts) or not all(engine.follows for engine in loaded):
            return set()
        now = boot_time()
        freshness = [engine.live.freshness for engine in loaded]
        behind = [n for n, each in enumerate(freshness) if not each.reaches(now - max_staleness)]
        fresh = set(range(len(loaded))).difference(behind)
        if behind:
            first, *others = behind
            began = {number: freshness[number].begin(now) for number in others}
            try:
                loaded[first].sync(max_staleness)
            except MrlDbError:  # each finds out for itself, and the search says of whom it is
                return set()
            leader = loaded[first].live
            # Where another thread had asked for it, that was before now.
            asked = min(now, leader.freshness.moment)
            began = {n: each._replace(moment=asked) for n, each in began.items()}
            level = [n for n in others if loaded[n].live.is_level_with(leader, began[n])]
            fresh.update([first], level)
        for number in fresh:
            self._parts[number].opened.follow_name(loaded[number])
        return fresh

    def answers_of_one(self, query: object, plan: Plan) -> list[Hits] | None:
        """Returns each part's hits of one query, none of which syncs; None: no short way."""
        answers = []
        for part in self._parts:
            began = time.perf_counter()
            engine = part.opened.engines.get("native")
            hits = engine.answer_one(query, plan) if isinstance(engine, NativeEngine) else None
            if hits is None:
                return None
            self.took(time.perf_counter() - began)
            answers.append(hits)
        return answers

    @property
    def take_turns(self) -> bool:
        """Whether a part's search is shorter than what it takes to have another thread make it."""
        return self._seconds < _TURN

    def took(self, seconds: float) -> None:
        """Notes how long a part's search took; a thread that had to wait tells nothing of it."""
        self._seconds = max(_LEAST, min(_RISE * self._seconds, seconds))
