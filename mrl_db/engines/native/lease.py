"""How an index follows its table: for how long the log keeps what it has not acknowledged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

NEVER = math.inf


def boot_time() -> float:
    """Returns seconds on a clock that also runs while the machine sleeps, as leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Following:
    """How an index follows its table.

    Attributes:
        lease: Seconds for which the log keeps what this reader has not acknowledged.
        loading_lease: The same while it loads.
        renew: Seconds after which a sync acknowledges, and renews the lease.
        touched: Keys applied since the last acknowledgement, after which a sync acknowledges.
        few: Rows; whatever share of so small an index changes, it is changed and not built anew.
        clock: Seconds, for the leases.
    """

    lease: float = 600.0
    loading_lease: float = 86_400.0
    renew: float = 60.0
    touched: int = 100_000
    few: int = 10_000
    clock: Callable[[], float] = boot_time
