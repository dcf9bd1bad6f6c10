"""Arguments of public methods, checked at the door."""

from __future__ import annotations

import numpy as np

from mrl_db.model.errors import ValueRangeError


def checked_staleness(value: object) -> float:
    """Returns seconds of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueRangeError(f"max_staleness is {value!r}, wanted seconds of at least 0")
    return float(value)


def checked_count(value: object, what: str, most: int = 2**31 - 1) -> int:
    """Returns an integer from 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueRangeError(f"{what} is {value!r}, wanted an integer of at least 1")
    if not 1 <= value <= most:
        raise ValueRangeError(f"{what} is {value}, wanted 1 to {most}")
    return int(value)


def checked_engine(engine: str) -> None:
    """Raises ValueRangeError when there is no such engine."""
    if engine not in ("auto", "sql", "native"):
        raise ValueRangeError(f"engine is {engine!r}, wanted 'auto', 'sql' or 'native'")
