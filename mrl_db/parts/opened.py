"""An open collection in parts: whose engines ask them all, and whose servers may be several."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.collection.opened import Opened
from mrl_db.engines.engine import Engine
from mrl_db.hits import Hits
from mrl_db.model.errors import ShapeError
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise
from mrl_db.parts.crew import Crew
from mrl_db.parts.engine import PartedEngine, Terms
from mrl_db.parts.planners import OfExact, OfNative, OfSql, Planner, farthest
from mrl_db.parts.source import Servers
from mrl_db.parts.together import Together
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.link import past_conflicts
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.source import Source

T = TypeVar("T")

# What must be the same of a collection on every server: with it, rows and answers fit together.
_ALIKE = (
    "name",
    "dims",
    "nesting_dims",
    "low_dims",
    "metric",
    "key",
    "key_type",
    "vector",
    "vector_type",
    "vectors_required",
    "text",
)
# What must be, too, while it is open; what else changes, changes on one server after the other.
_MERGED = ("dims", "metric", "key_type", "vector_type")


@dataclass
class Holding:
    """What all calls to a collection in parts share.

    Attributes:
        servers: The collection on each server that has rows; more than one: by the keys' homes.
        crew: The parts that search.
        native: Plans over what the parts have loaded; None: nothing is.
        max_staleness: Seconds that these may be behind.
        timeout: Seconds that a search may take; None: any.
        load_at_once: Whether the parts load all at once; in one process one after the other, so
            that the memory that building takes is that of one part.
        written: When this process last wrote.
        together: The parts, where they are of one table and in this process.
    """

    servers: Sequence[Opened]
    crew: Crew
    native: OfNative | None = None
    max_staleness: float = 0.0
    timeout: float | None = None
    load_at_once: bool = False
    written: float = float("-inf")
    together: Together | None = None

    @property
    def many(self) -> bool:
        """Whether the rows are on several servers."""
        return len(self.servers) > 1

    def load(self, options: Mapping[str, Any]) -> None:
        """Has every part load its rows (`Part.load`), and takes a plan that is enough for all."""
        parts, plans = self.crew.parts, dict[int, Plan]()
        numbers = range(len(parts))
        for group in [numbers] if self.load_at_once else [[number] for number in numbers]:
            replies = self.crew.ask(group, lambda n, seconds: parts[n].load(options, seconds))
            plans.update(replies.given)
        statuses = self.crew.ask(numbers, lambda n, seconds: parts[n].status(seconds)).given
        plan = farthest([(plans[number], statuses[number].rows) for number in numbers])
        threads = options.get("threads") or _kernels.available_threads()
        self.native = OfNative(self.servers[0].info, plan, threads)
        self.max_staleness = float(options.get("max_staleness", 0.0))

    def note_written(self) -> None:
        """Has later searches see what was committed until now."""
        self.written = time.monotonic()

    def on_servers(self, call: Callable[[Opened], T]) -> list[T]:
        """Calls a function with the collection on each of several servers, all at once."""
        if not self.many:
            return [call(self.servers[0])]
        numbers = range(len(self.servers))
        replies = self.crew.ask(
            numbers, lambda number, _: past_conflicts(partial(call, self.servers[number]))
        )
        return [replies.given[number] for number in numbers]


class PartedOpened(Opened):
    """The state of a collection in parts; of one call, where it is a copy on some terms."""

    def __init__(self, holding: Holding, log: QueryLog) -> None:
        self.holding = holding
        self.terms = Terms()
        head = holding.servers[0]
        super().__init__(head.own, head.info, log)
        self.promises = self.stored_promises()

    def on_terms(self, terms: Terms) -> PartedOpened:
        """Returns this collection for one call."""
        inside = copy.copy(self)
        inside.terms = terms
        if terms.partial:
            inside.log = QueryLog(keep=0)  # its distances are not those of all rows
        inside._engines_of_call()
        return inside

    def take(self, inside: PartedOpened) -> None:
        """Takes what a call has learnt."""
        self.promises, self.tried = inside.promises, inside.tried
        if self.info is not inside.info:
            self.info, self.sql, self.exact = inside.info, inside.sql, inside.exact

    def describe(self, info: CollectionInfo | None = None) -> None:
        """Takes the collection as it is described now, on every server."""
        if self.holding.many:
            if info is None:
                self.holding.on_servers(lambda server: server.describe())
                check_alike(self.holding.servers)
            head = self.holding.servers[0]
            self.info, self.sql, self.exact = info or head.info, head.sql, head.exact
        else:
            super().describe(info)
        self._engines_of_call()

    def _engines_of_call(self) -> None:
        """Makes the engines that ask all parts; they remember what the call has yet to ask."""
        holding, engines = self.holding, dict[str, Any](sql=self.sql)
        if holding.many:
            head = holding.servers[0]
            of_sql = OfSql([server.sql for server in holding.servers])
            engines["sql"] = self._engine("sql", of_sql)
            self.exact = cast(Any, self._engine("exact", OfExact(head.exact)))
        if holding.native is not None:
            engines["native"] = self._engine("native", holding.native)
        self.engines = engines

    def _engine(self, name: Any, planner: Planner) -> PartedEngine:
        holding = self.holding
        return PartedEngine(
            name,
            holding.crew,
            planner,
            self.info,
            self.terms,
            holding.note_written,
            holding.together if name == "native" else None,
            partial(check_form, holding.servers) if holding.many else lambda _: None,
        )

    def source(self) -> Source:
        """Returns where the rows are that recall is measured by."""
        if not self.holding.many:
            return super().source()
        exact = self._engine("exact", OfExact(self.holding.servers[0].exact))
        return Servers(self.holding.servers, self.holding.on_servers, exact)

    def vectors(self, keys: list[Any]) -> tuple[list[Any], NDArray[np.float32]]:
        """Returns the rows with these keys that have a vector, on whichever server they are."""
        if not self.holding.many:
            return super().vectors(keys)
        vector_of: dict[Any, NDArray[np.float32]] = {}
        for own, vectors in self.holding.on_servers(lambda server: server.vectors(keys)):
            vector_of.update(zip(own, vectors, strict=True))
        present = [key for key in keys if key in vector_of]
        nothing = np.empty((0, self.info.dims), dtype=np.float32)
        return present, np.stack([vector_of[key] for key in present]) if present else nothing

    def promised(self, hits: Hits, engine: Engine) -> Hits:
        """Returns the hits; of a partial answer nothing is promised."""
        return hits if hits.missing else super().promised(hits, engine)

    def stored_promises(self) -> dict[str, Promise]:
        """Returns what every server has stored alike, of all their rows."""
        if not self.holding.many:
            return super().stored_promises()
        stored = self.holding.on_servers(lambda server: server.stored_promises())
        return {
            engine: _together([own[engine] for own in stored])
            for engine, promise in stored[0].items()
            if all(_alike(own.get(engine), promise) for own in stored)
        }

    def judged(self, promise: Promise) -> Promise:
        """Returns the promise; it is stale where what any server has of it is."""
        if not self.holding.many:
            return super().judged(promise)
        judged = self.holding.on_servers(
            lambda server: server.judged(server.stored_promises()[promise.engine])
        )
        return _together(judged)


def _alike(promise: Promise | None, other: Promise) -> bool:
    """Whether two servers have the same promise; each has its own rows and date."""
    return promise is not None and (
        (promise.plan, promise.parts, promise.recall, promise.target)
        == (other.plan, other.parts, other.recall, other.target)
    )


def _together(promises: Sequence[Promise]) -> Promise:
    """Returns the promise that several servers have, of all their rows."""
    reasons = [
        f"on server {number} {promise.stale}"
        for number, promise in enumerate(promises)
        if promise.stale is not None
    ]
    return replace(
        promises[0],
        rows=sum(promise.rows for promise in promises),
        stale="; ".join(reasons) or None,
    )


def check_form(servers: Sequence[Opened], info: CollectionInfo) -> None:
    """Raises ShapeError where a server has found its collection to be another one since.

    It was dropped there, and made anew: it answers, and its answers are not to be merged.
    """
    for number, server in enumerate(servers):
        differing = [
            f"its {what} is {getattr(server.info, what)}, elsewhere {getattr(info, what)}"
            for what in _MERGED
            if getattr(server.info, what) != getattr(info, what)
        ]
        if differing:
            raise ShapeError(
                f'collection "{info.name}" is another one on server {number}: '
                f"{'; '.join(differing)}; make it on every server in the same way"
            )


def check_alike(servers: Sequence[Opened]) -> None:
    """Raises ShapeError where the collection is another one on one of the servers.

    Metadata columns must have the same names and types, and vectors go through the same adaptor.
    """
    first = servers[0]
    for number, server in enumerate(servers[1:], 1):
        differing = [
            f"its {what} is {there}, on server 0 {here}"
            for what, there, here in _compared(server, first)
            if there != here
        ]
        if differing:
            raise ShapeError(
                f'collection "{first.info.name}" is another one on server {number}: '
                f"{'; '.join(differing)}; make it on every server in the same way"
            )


def check_apart(servers: Sequence[Opened]) -> None:
    """Raises ShapeError where two servers have the same rows, which would be answered twice."""
    marked: dict[str, tuple[int, bool]] = {}
    for number, server in enumerate(servers):
        with server.own.connection() as connection:
            marks = connection.execute(statements.query("database_marks")).fetchall()
        for mark, sure in marks:
            other, either = marked.setdefault(mark, (number, sure))
            if other != number and (sure or either):
                raise ShapeError(
                    f"server {number} is server {other} ({server.own.where}), or one of them is a "
                    "standby; their rows would be answered twice: list each once"
                )


def _compared(server: Opened, first: Opened) -> list[tuple[str, Any, Any]]:
    there, here = (
        None if each.adaptor is None else each.adaptor.to_bytes() for each in (server, first)
    )
    return [
        *((what, getattr(server.info, what), getattr(first.info, what)) for what in _ALIKE),
        ("columns", server.column_types, first.column_types),
        # Its bytes would say nothing to a reader.
        ("adaptor", "the same" if there == here else "another one", "the same"),
    ]
