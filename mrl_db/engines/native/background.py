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
from mrl_db.lifetime import OWN_THREADS, Ended, end_at_exit
from mrl_db.model.errors import DatabaseClosedError, MrlDbError

_LINKED_AT_ONCE = 256
_MANY_WAIT = 4096  # rows without links: more slow searches down, and are linked by all cores

Work = Callable[[threading.Event], None]  # given the event that says to stop


class Live(Protocol):
    """An index that follows its table (`LiveIndex`)."""

    @property
    def follows(self) -> bool:
        """Whether writes by others are seen."""
        ...

    def sync(self, max_staleness: float = 0.0) -> None:
        """Sees to it that what was committed so many seconds ago is here."""
        ...

    @property
    def has_grown(self) -> bool:
        """Whether it was built of so few of its rows that it finds less of the others."""
        ...

    def rebuild(self, ended: threading.Event) -> bool:
        """Reads all rows again, and takes the new index in place of the old; whether it did."""
        ...


class Task:
    """Work that runs at most once at a time, in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        end_at_exit(self)

    def start(self, work: Work) -> bool:
        """Starts the work unless some is going on, or all has ended; returns whether it did."""
        if self._ended.is_set() or (self._thread is not None and self._thread.is_alive()):
            return False
        self._thread = threading.Thread(
            target=self._run, args=(work,), name=f"{OWN_THREADS}{self._name}", daemon=True
        )
        self._thread.start()
        return True

    def _run(self, work: Work) -> None:
        work(self._ended)

    def join(self, seconds: float | None = None) -> None:
        """Waits for the end of what is going on."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def end(self, seconds: float | None = None) -> None:
        """Has the work stop, for good, and waits until it did, or for so many seconds."""
        self._ended.set()
        self.join(seconds)


def follow(live: weakref.ref[Live], interval: float, ended: threading.Event) -> None:
    """Syncs every so many seconds, so that searches that allow some staleness never wait.

    It ends when it is told to, or when the index is gone. What goes wrong a search sees for itself.
    """
    while not ended.wait(interval):
        target = live()
        if target is None or not target.follows:
            return
        try:
            target.sync(interval)
        except MrlDbError:
            continue
        finally:
            del target


def rebuild(live: weakref.ref[Live], ended: threading.Event) -> None:
    """Builds an index anew; where that fails, what is here stays right, and it is tried again."""
    target = live()
    if target is not None:
        try:
            while target.rebuild(ended) and target.has_grown:
                continue  # as many came meanwhile
        except (Ended, DatabaseClosedError):
            return
        except (MrlDbError, psycopg.Error, MemoryError) as error:
            logging.getLogger("mrl_db").warning("the index could not be built anew: %s", error)


def link(index: _kernels.Index, ended: threading.Event) -> None:
    """Brings new rows into the graph; until then they are found at the price of a look at each."""
    while not ended.is_set() and index.link_waiting(
        _LINKED_AT_ONCE, _kernels.available_threads() if index.waiting > _MANY_WAIT else 1
    ):
        continue
