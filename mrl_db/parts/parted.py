"""A collection in parts: the methods of a collection, whose searches ask every part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from numpy.typing import ArrayLike

from mrl_db import door
from mrl_db.collection import promising, searching, writing
from mrl_db.collection.opened import EngineChoice, Opened, Where
from mrl_db.faces.progress import Progress
from mrl_db.hits import Hits, Records, Trace
from mrl_db.lifetime import let_out_at_exit
from mrl_db.model.errors import (
    MrlDbError,
    ValueRangeError,
)
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise, Recall, Statistic
from mrl_db.parts.crew import deadline
from mrl_db.parts.engine import Terms
from mrl_db.parts.opened import Holding, PartedOpened
from mrl_db.parts.part import PartStatus
from mrl_db.parts.rows import OneServersRows, ServersRows
from mrl_db.recall.explorer import Measured
from mrl_db.recall.query_log import QueryLog


@dataclass
class _Face:
    """What the functions of `mrl_db.collection` are methods of."""

    _opened: Opened


@let_out_at_exit
class PartedCollection:
    """A collection whose parts are searched at once, and answer as one (docs/scale.md).

    Its rows are on one server, and each part has some of them in memory; or on several servers, and
    each of them is a part. Every part searches its own rows, and answers are merged by distance and
    key: what `search` returns is what one collection with all rows would.

    Several methods take the same arguments, and those of `mrl_db.Collection` besides:

    - partial: True takes the answer of the parts that do answer; `hits.missing` names the others.
    - timeout: Seconds for the call, after which parts that have not answered count as unavailable;
      None: as the collection was opened.
    """

    def __init__(
        self, holding: Holding, log: QueryLog, close: Callable[[], None] | None = None
    ) -> None:
        """Not for callers: use `open_servers`, `open_threads` or `open_actors`."""
        self._opened = PartedOpened(holding, log)
        self._holding = holding
        self._rows: ServersRows | type[OneServersRows] = (
            ServersRows(holding) if holding.many else OneServersRows
        )
        self._close = close

    def __repr__(self) -> str:
        return (
            f"PartedCollection({self.name!r}, parts={len(self._holding.crew.parts)}, "
            f"servers={len(self._holding.servers)}, dims={self.dims})"
        )

    def __enter__(self) -> PartedCollection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._opened.info.name

    @property
    def dims(self) -> int:
        """The full dims of its vectors."""
        return self._opened.info.dims

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._opened.info.metric

    @property
    def columns(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return self._opened.column_types

    @property
    def parts(self) -> tuple[str, ...]:
        """What the parts are called, in the order of their numbers."""
        return tuple(part.name for part in self._holding.crew.parts)

    @property
    def plan(self) -> Plan:
        """The plan that a search for ten answers follows, in every part."""
        return self._opened.engine("auto").plan(10)

    @property
    def promise(self) -> Promise | None:
        """What the merged answers promise, or None; see `Collection.promise`."""
        with self._asked() as face:
            return promising.promise(face)

    @property
    def tried(self) -> tuple[Measured, ...]:
        """The plans that the last `tune()` of this object measured."""
        return self._opened.tried

    def status(self, *, timeout: float | None = 10.0) -> list[PartStatus]:
        """Returns what each part has in memory, and which do not answer."""
        crew = self._holding.crew
        with contextlib.suppress(MrlDbError):
            replies = crew.ask(
                range(len(crew.parts)),
                lambda number, seconds: crew.parts[number].status(seconds),
                deadline(timeout),
                partial=True,
            )
            return [
                replies.given.get(number)
                or PartStatus(part.name, error=replies.missing.get(number))
                for number, part in enumerate(crew.parts)
            ]
        return [PartStatus(part.name, error="none of the parts answers") for part in crew.parts]

    def load(self, **options: Any) -> None:
        """Loads the rows of every part, afresh where they are there; options of `Collection.load`.

        In this process one part after the other.
        """
        self._holding.load(options)
        self._opened.describe()

    # Searching

    def search(
        self,
        query: ArrayLike | None = None,
        *,
        k: int = 10,
        where: Where | None = None,
        columns: Sequence[str] = (),
        vectors: bool = False,
        max_distance: float | None = None,
        group_by: str | None = None,
        like: Any = None,
        mmr: float | None = None,
        candidates: int | None = None,
        offset: int = 0,
        shortlist: int | None = None,
        plan: Plan | None = None,
        engine: EngineChoice = "auto",
        threads: int | None = None,
        max_staleness: float | None = None,
        exact: bool = False,
        as_stored: bool = False,
        partial: bool = False,
        timeout: float | None = None,
    ) -> Hits:
        """Returns the k nearest rows of all parts; the arguments are those of `Collection.search`.

        Searches by words (`text=`) and in a transaction of the caller's (`connection=`) are not
        here, nor, on several servers, `group_by`: search the servers' own collections.

        Raises:
            PartUnavailableError: A part did not answer within timeout=, after it was asked again;
                or partial=True, and none did.
        """
        if group_by is not None and self._holding.many:
            raise ValueRangeError(
                "group_by= and several servers: groups are not merged; search with columns= and "
                "group what comes back, or each server's own collection"
            )
        with self._asked(partial, timeout, limited=True) as face:
            return searching.search(
                face,
                query,
                k=k,
                where=where,
                columns=columns,
                vectors=vectors,
                max_distance=max_distance,
                group_by=group_by,
                like=like,
                mmr=mmr,
                candidates=candidates,
                offset=offset,
                shortlist=shortlist,
                plan=plan,
                engine=engine,
                threads=threads,
                max_staleness=max_staleness,
                exact=exact,
                as_stored=as_stored,
            )

    def explain(
        self,
        query: ArrayLike,
        *,
        want: Any = None,
        k: int = 10,
        where: Where | None = None,
        shortlist: int | None = None,
        plan: Plan | None = None,
        engine: EngineChoice = "auto",
        as_stored: bool = False,
    ) -> Trace:
        """Returns how one search goes, as `Collection.explain`; `trace.parts` has each part's."""
        with self._asked() as face:
            return searching.explain(
                face,
                query,
                want=want,
                k=k,
                where=where,
                shortlist=shortlist,
                plan=plan,
                engine=engine,
                as_stored=as_stored,
            )

    def tune(
        self,
        *,
        recall: float | None = None,
        k: int = 10,
        statistic: Statistic = "mean",
        p95_ms: float | None = None,
        queries: ArrayLike | None = None,
        engine: EngineChoice = "auto",
        budget_seconds: float = 60.0,
        seed: int = 0,
        progress: Progress | bool = False,
    ) -> Promise:
        """Stores the fastest plan whose merged answers are proven to keep the recall.

        The arguments are those of `Collection.tune`. The promise speaks of searches of so many
        parts; it takes the place of the one that the engine had.
        """
        with self._asked() as face:
            return promising.tune(
                face,
                recall=recall,
                k=k,
                statistic=statistic,
                p95_ms=p95_ms,
                queries=queries,
                engine=engine,
                budget_seconds=budget_seconds,
                seed=seed,
                progress=progress,
            )

    def recall(
        self,
        queries: ArrayLike | None = None,
        *,
        k: int = 10,
        where: Where | None = None,
        plan: Plan | None = None,
        engine: EngineChoice = "auto",
        sample: int = 500,
        seed: int | None = None,
    ) -> Recall:
        """Measures the recall of merged answers as it is now, as `Collection.recall`."""
        with self._asked() as face:
            return promising.recall(
                face, queries, k=k, where=where, plan=plan, engine=engine, sample=sample, seed=seed
            )

    # Rows

    def get(self, ids: Any, *, columns: Sequence[str] | None = None) -> Records:
        """Returns the rows with these ids, as `Collection.get`, on whichever server they are."""
        with self._asked() as face:
            return self._rows.get(face, ids, columns=columns)

    def count(self, where: Where | None = None) -> int:
        """Returns the number of rows that pass the filter, those without a vector included."""
        with self._asked() as face:
            return self._rows.count(face, where)

    def add(
        self,
        ids: Any,
        vectors: Any = None,
        *,
        on_conflict: Literal["error", "skip"] = "error",
        batch_id: str | None = None,
        **columns: Any,
    ) -> int:
        """Adds new rows, as `Collection.add`: all or none, on each server.

        On several servers each row goes to its key's home (`home_of`). A server commits its rows
        whether or not another one does; after an error the same call, with the same batch_id,
        completes them.

        Raises:
            PartlyWrittenError: Some servers have their rows, and some have not.
        """
        with self._asked() as face:
            return self._rows.add(
                face, ids, vectors, on_conflict=on_conflict, batch_id=batch_id, **columns
            )

    def upsert(
        self, ids: Any, vectors: Any = None, *, batch_id: str | None = None, **columns: Any
    ) -> int:
        """Adds rows, and replaces those whose key is there, as `Collection.upsert`; see `add`."""
        with self._asked() as face:
            return self._rows.upsert(face, ids, vectors, batch_id=batch_id, **columns)

    def delete(
        self, ids: Any = None, *, where: Where | None = None, batch_id: str | None = None
    ) -> int:
        """Deletes rows by their ids or by a filter, as `Collection.delete`, on every server."""
        with self._asked() as face:
            return self._rows.delete(face, ids, where=where, batch_id=batch_id)

    def create_index(self, **options: Any) -> None:
        """Builds the index on every server, all at once; the options are `Collection`'s."""
        self._holding.on_servers(lambda server: writing.create_index(_Face(server), **options))
        self._opened.describe()

    def close(self) -> None:
        """Closes the parts, and the databases that were opened for them."""
        self._holding.crew.close()
        if self._close is not None:
            self._close()

    # How

    @contextlib.contextmanager
    def _asked(
        self, partial: bool = False, timeout: float | None = None, *, limited: bool = False
    ) -> Iterator[_Face]:
        """The collection for one call, on its terms."""
        holding = self._holding
        if timeout is not None:
            door.checked_seconds(timeout, "timeout")
        elif limited:
            timeout = holding.timeout
        terms = Terms(deadline(timeout), bool(partial), holding.max_staleness, holding.written)
        inside = self._opened.on_terms(terms)
        try:
            yield _Face(inside)
        finally:
            self._opened.take(inside)


__all__ = ["PartedCollection"]
