"""The rows that pass a filter, as PostgreSQL says, remembered and kept up to date.

The first search asks for the keys of all rows that pass. After writes the next one asks about the
keys that were written to, and no others: it costs what changed, in one round trip, however many
pass. What it is told is of a later moment than what the search must see, never of an earlier one;
the entry of the journal up to which the answer reaches is read before the question is sent. Where
only the rows are new that the search itself had to fetch, they were judged as they were fetched
(`Judged`), and nothing is asked.

That is right of conditions on columns of the row alone. One in SQL may look at the clock or at
other tables: it is asked anew by every search. Where policies choose the rows for this role, they
may do so, too: all is asked anew after each write.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from mrl_db import _kernels
from mrl_db.engines.native.journal import Journal
from mrl_db.engines.native.lease import boot_time
from mrl_db.model.filters import Node, is_of_row
from mrl_db.model.key import encode
from mrl_db.postgres import rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

_MOST = 64  # filters
_SHARE = 8  # of the index's bytes they take one at most, but the last one may take what it takes
_SECONDS = 600.0  # after which a filter that nobody used goes
_FEW = 1000  # keys that are judged again, however few rows pass


class Live(Protocol):
    """An index that follows its table (`LiveIndex`)."""

    @property
    def index(self) -> _kernels.Index:
        """The rows."""
        ...

    @property
    def journal(self) -> Journal:
        """What was written to them."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether no policy chooses which rows this role sees."""
        ...


@dataclass(slots=True)
class _Remembered:
    """What a filter selects of an index, as of an entry of its journal."""

    index: weakref.ref[_kernels.Index]
    number: int
    selection: _kernels.Selection
    used: float


class Selections:
    """What filters select of an index. Any number of threads may ask, without a lock."""

    def __init__(
        self, session: Session, live: Live, clock: Callable[[], float] = boot_time
    ) -> None:
        """Begins with none.

        Args:
            session: To ask by.
            live: The index.
            clock: Seconds, for filters that nobody uses.
        """
        self._session = session
        self._live = live
        self._clock = clock
        self._remembered: dict[Node, _Remembered] = {}

    def __len__(self) -> int:
        return len(self._remembered)

    def get(self, request: Request) -> tuple[_kernels.Index, _kernels.Selection]:
        """Returns the index, and which of its rows pass: as of this call, or later."""
        number, index = self._live.journal.number, self._live.index  # in this order
        if not is_of_row(request.where):
            return index, index.select(rows.keys_where(self._session, request))
        before = self._remembered.get(request.where)
        if before is not None and before.index() is not index:
            before = None
        if before is not None and before.number >= number:
            before.used = self._clock()
            return index, before.selection
        selection = None
        if before is not None and self._live.is_whole:
            selection = self._renewed(index, request, before, number)
        if selection is None:
            passing = rows.keys_where(self._session, request)
            selection = self._session.aside(partial(index.select, passing))
        self._remember(request.where, index, number, selection)
        return index, selection

    def judge(self, request: Request) -> Judged | None:
        """Returns who is told of what changes meanwhile, so that `get` need not ask; or None."""
        if request.where not in self._remembered or not self._live.is_whole:
            return None
        return Judged(self, request)

    def _up_to(self, request: Request, number: int) -> _kernels.Selection | None:
        """What was remembered of the index that is here, as of an entry of its journal."""
        before = self._remembered.get(request.where)
        if before is None or before.number != number or before.index() is not self._live.index:
            return None
        return before.selection

    def _renewed(
        self, index: _kernels.Index, request: Request, before: _Remembered, number: int
    ) -> _kernels.Selection | None:
        """Judges again what changed; None where to ask for all is as good, or the only way."""
        most = max(_FEW, len(before.selection))
        changed = self._live.journal.between(before.number, number, most)
        if changed is None:
            return None
        keys = list(changed)
        passing = rows.keys_where(self._session, request, among=keys)
        return index.reselect(before.selection, encode(keys, request.info.key_type), passing)

    def _remember(
        self, where: Node, index: _kernels.Index, number: int, selection: _kernels.Selection
    ) -> None:
        now = self._clock()
        self._remembered[where] = _Remembered(weakref.ref(index), number, selection, now)
        kept = sorted(self._remembered.copy().items(), key=lambda item: item[1].used, reverse=True)
        room = index.bytes // _SHARE
        for place, (filter_, remembered) in enumerate(kept):
            room -= remembered.selection.bytes
            unused = remembered.index() is not index or now - remembered.used > _SECONDS
            if filter_ is not where and (place >= _MOST or room < 0 or unused):
                self._remembered.pop(filter_, None)


class Judged:
    """A filter that is used next: rows that are written to are judged by it as they are fetched."""

    def __init__(self, selections: Selections, request: Request) -> None:
        """Takes what is remembered of the filter."""
        self._selections, self._request = selections, request
        self._before: _kernels.Selection | None = None

    def asks(self, number: int) -> Request | None:
        """Returns the filter, where all before an entry of the journal was judged by it."""
        self._before = self._selections._up_to(self._request, number)
        return None if self._before is None else self._request

    def hears(self, number: int, keys: list[Any], passing: list[Any]) -> None:
        """Remembers the filter's rows up to before an entry of the journal."""
        assert self._before is not None
        of_type, index = self._request.info.key_type, self._selections._live.index
        selection = index.reselect(self._before, encode(keys, of_type), encode(passing, of_type))
        if selection is not None:
            self._selections._remember(self._request.where, index, number, selection)
