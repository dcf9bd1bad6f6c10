"""What goes on in threads beside searches: following, linking new rows, building anew.

Each holds the index weakly, or for one step only, so that an engine that nobody uses goes.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Protocol

import psycopg

from mrl_db import _kernels
from mrl_db.model.errors import MrlDbError

_LINKED_AT_ONCE = 256
_MANY_WAIT = 4096  # rows without links: more slow searches down, and are linked by all cores


class Live(Protocol):
    """An index that follows its table (`LiveIndex`)."""

    @property
    def follows(self) -> bool:
        """Whether writes by others are seen."""
        ...

    def sync(self, max_staleness: float = 0.0) -> None:
        """Sees to it that what was committed so many seconds ago is here."""
        ...

    def rebuild(self) -> None:
        """Reads all rows again, and takes the new index in place of the old."""
        ...


class Follower(threading.Thread):
    """Syncs in the background, so that searches that allow some staleness never wait."""

    def __init__(self, live: Live, max_staleness: float) -> None:
        super().__init__(name="mrl_db follower", daemon=True)
        self._live = weakref.ref(live)
        self._interval = max_staleness / 2
        self._ended = threading.Event()

    def run(self) -> None:
        """Syncs until `end()`, or the index is gone; a search sees for itself what goes wrong."""
        while not self._ended.wait(self._interval):
            live = self._live()
            if live is None or not live.follows:
                return
            try:
                live.sync(self._interval)
            except MrlDbError:
                continue
            finally:
                del live

    def end(self) -> None:
        """Ends the thread soon."""
        self._ended.set()


class Task:
    """Work that runs at most once at a time, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], None]) -> bool:
        """Starts the work unless some is going on; returns whether it did."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=work, name=f"mrl_db {self._name}", daemon=True)
        self._thread.start()
        return True

    def join(self) -> None:
        """Waits for the end of what is going on."""
        if self._thread is not None:
            self._thread.join()


def rebuild(live: weakref.ref[Live]) -> None:
    """Builds an index anew; where that fails, what is here stays right, and it is tried again."""
    target = live()
    if target is not None:
        try:
            target.rebuild()
        except (MrlDbError, psycopg.Error) as error:
            logging.getLogger("mrl_db").warning("the index could not be built anew: %s", error)


def link(index: _kernels.Index) -> None:
    """Brings new rows into the graph; until then they are found at the price of a look at each."""
    while index.link_waiting(
        _LINKED_AT_ONCE, _kernels.available_threads() if index.waiting > _MANY_WAIT else 1
    ):
        continue
