"""What a part is: whoever answers searches from some of a collection's rows.

Two keep this protocol: a collection that was opened in this process (`OpenedPart`: on a server of
its own, or loaded in part), and an actor of Ray's (`mrl_db.parts.ray`), which has one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.collection import loading
from mrl_db.collection.opened import OUTDATED, Opened
from mrl_db.engines.engine import Engine, EngineName
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.hits import Hits, Trace
from mrl_db.model.filters import AllOf, Node
from mrl_db.model.plan import Plan
from mrl_db.postgres.request import Request

_ALL = AllOf(())


@dataclass(frozen=True, slots=True)
class Ask:
    """A search, checked, as every part gets it.

    Attributes:
        engine: Whose.
        queries: (n, dims) float32, as they are compared with what is stored.
        plan: Of the search; its last keep is the k that the part answers.
        where: The filter.
        columns: That come back.
        hidden: For each query the key of a row that is to be as if it were not there, or None.
        fill: See `Engine.search`.
        threads: For a batch; None: as the part was made.
        max_staleness: Seconds that the part may be behind the database; None: it need not ask.
    """

    engine: EngineName
    queries: NDArray[np.float32]
    plan: Plan
    where: Node
    columns: tuple[str, ...] = ()
    hidden: tuple[Any, ...] | None = None
    fill: bool = True
    threads: int | None = None
    max_staleness: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether PostgreSQL is asked for nothing but what is new, where the rows are loaded."""
        return not self.columns and self.where == _ALL

    @property
    def is_short(self) -> bool:
        """Whether it is one query, of which PostgreSQL is asked nothing at all."""
        return len(self.queries) == 1 and self.max_staleness is None and self.is_plain


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A part, as it was when it was asked.

    Attributes:
        name: Which.
        rows: Rows that it has in memory; None: it has none there, or did not answer.
        bytes: That these take, likewise.
        error: Why it did not answer; None: it did.
    """

    name: str
    rows: int | None = None
    bytes: int | None = None
    error: str | None = None


class Part(Protocol):
    """Answers from some of the rows. A call may take `seconds`; None: as long as it takes."""

    @property
    def name(self) -> str:
        """Which it is, in words, for messages."""
        ...

    def load(self, options: Mapping[str, Any], seconds: float | None) -> Plan:
        """Loads its rows, afresh where they are there; returns the plan they were loaded for."""
        ...

    def search(self, ask: Ask, seconds: float | None) -> Hits:
        """Returns its own nearest rows; raises ConnectError when it cannot be reached."""
        ...

    def begin(self, ask: Ask) -> Callable[[float | None], Hits] | None:
        """Begins a search elsewhere; what is returned waits for it.

        None: it cannot, and whoever wants an answer spends a thread on `search`.
        """
        ...

    def explain(self, ask: Ask, seconds: float | None) -> Trace:
        """Returns how one search goes."""
        ...

    def status(self, seconds: float | None) -> PartStatus:
        """Returns what it has loaded."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


@dataclass
class _Face:
    """What the functions of `mrl_db.collection` are methods of."""

    _opened: Opened


class OpenedPart:
    """A collection in this process; loaded in part, or on a server of its own."""

    def __init__(
        self,
        name: str,
        opened: Opened,
        close: Callable[[], None],
        part: tuple[int, int] | None = None,
    ) -> None:
        """Takes a collection over.

        Args:
            name: Of the part.
            opened: The collection.
            close: What is done with it at the end.
            part: Which part of the table it loads; None: all of it.
        """
        self.name = name
        self.opened = opened
        self._close, self._part = close, part
        self._info = opened.info, opened.info

    def load(self, options: Mapping[str, Any], seconds: float | None) -> Plan:  # noqa: ARG002
        """See `Part.load`."""
        loading.load(_Face(self.opened), part=self._part, **options)
        return self.opened.native().followed_plan

    def search(self, ask: Ask, seconds: float | None) -> Hits:  # noqa: ARG002
        """See `Part.search`; a statement keeps to its own timeout."""

        def run(engine: Engine) -> Hits:
            engine.check(ask.plan)
            return engine.search(
                self._request(engine, ask),
                ask.queries,
                ask.plan,
                threads=ask.threads,
                hidden=ask.hidden,
                fill=ask.fill,
            )

        return self._by_what_is_there(ask, run)  # type: ignore[no-any-return]

    def begin(self, ask: Ask) -> None:  # noqa: ARG002
        """See `Part.begin`: it runs in this process."""
        return

    def explain(self, ask: Ask, seconds: float | None) -> Trace:  # noqa: ARG002
        """See `Part.explain`."""
        return self._by_what_is_there(  # type: ignore[no-any-return]
            ask,
            lambda engine: engine.explain(self._request(engine, ask), ask.queries[0], ask.plan),
        )

    def status(self, seconds: float | None) -> PartStatus:  # noqa: ARG002
        """See `Part.status`."""
        loaded = self.opened.engines.get("native")
        if not isinstance(loaded, NativeEngine):
            return PartStatus(self.name)
        return PartStatus(self.name, loaded.rows, loaded.bytes)

    def close(self) -> None:
        """See `Part.close`."""
        self._close()

    def _engine(self, ask: Ask) -> Engine:
        opened = self.opened
        engine: Engine = opened.exact if ask.engine == "exact" else opened.engine(ask.engine)
        if ask.max_staleness is not None:
            engine.sync(ask.max_staleness, self._request(engine, ask))
            opened.follow_name(engine)
        return engine

    def _request(self, engine: Engine, ask: Ask) -> Request:
        of, info = self._info
        if of is not self.opened.info or info.part != engine.info.part:
            of = self.opened.info
            info = replace(of, part=engine.info.part)
            self._info = of, info
        return Request(info, ask.where, ask.columns)

    def _by_what_is_there(self, ask: Ask, run: Callable[[Engine], Any]) -> Any:
        """Runs once more where another client has renamed the table, or added a column, before."""
        before = self.opened.info
        try:
            return run(self._engine(ask))
        except (*OUTDATED, KeyError):
            if not self.opened.is_renewed(before):
                raise
            return run(self._engine(ask))
