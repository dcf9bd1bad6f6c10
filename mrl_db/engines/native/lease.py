"""How an index follows its table: how fresh it is, and how long the log keeps what is not here."""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from mrl_db.model.errors import MrlDbError
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.positions import UNREGISTERED, Reader

NEVER = math.inf


boot_time: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Returns seconds on a clock that also runs while the machine sleeps, as leases do."""


@dataclass(frozen=True, slots=True)
class Following:
    """How an index follows its table.

    Attributes:
        lease: Seconds for which the log keeps what this reader has not acknowledged.
        loading_lease: The same while it loads.
        renew: Seconds after which a sync acknowledges, and renews the lease.
        touched: Keys applied since the last acknowledgement, after which a sync acknowledges.
        few: Rows; whatever share of so small an index changes, it is changed and not built anew.
        grown: Rows more than twice those that it was built of, at which it is built anew.
        clock: Seconds, for the leases.
    """

    lease: float = 600.0
    loading_lease: float = 86_400.0
    renew: float = 60.0
    touched: int = 100_000
    few: int = 10_000
    grown: int = 500
    clock: Callable[[], float] = boot_time


@contextlib.contextmanager
def registered(
    log: ChangeLog, lease: float, before: Reader, current: Callable[[], Reader]
) -> Iterator[Reader]:
    """Registers a reader that holds what is committed from now on.

    Where the block fails it goes again; where it was taken, the one before goes.

    Args:
        log: To register with.
        lease: Seconds.
        before: The one before, if it is this process's.
        current: Returns the one that is in use; it is the new one once that was taken.
    """
    identity = uuid.uuid4()
    try:
        yield log.register(identity, lease)
    finally:
        gone = before.id if current().id == identity else identity
        if gone != UNREGISTERED.id:
            with contextlib.suppress(MrlDbError):  # then its lease ends
                log.leave(gone)


class Began(NamedTuple):
    """When a sync began, and how often this process had written by then."""

    moment: float
    writes: int


class Freshness:
    """Up to which moment a process has seen what was committed, its own writes always.

    Threads that write may come between any two steps of one that syncs.
    """

    def __init__(self) -> None:
        self._reached = Began(-math.inf, 0)
        self._writes = 0

    def begin(self, moment: float) -> Began:
        """Returns what a sync that begins now will have seen."""
        return Began(moment, self._writes)

    def reach(self, began: Began) -> None:
        """Notes that a sync has seen what was there when it began."""
        self._reached = began

    @property
    def moment(self) -> float:
        """Up to which what was committed was seen."""
        return self._reached.moment

    def reaches(self, moment: float) -> bool:
        """Whether what was committed until a moment was seen, and what this process wrote."""
        reached = self._reached
        return reached.moment >= moment and reached.writes == self._writes

    def expire(self) -> None:
        """Notes a write of this process; a sync that goes on may have asked before it."""
        self._writes += 1
