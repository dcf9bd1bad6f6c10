"""The door for dims: how wide vectors are, and their prefixes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from mrl_db.model.errors import ValueRangeError
from mrl_db.model.precision import MAX_STORED_DIMS


def checked_dims(dims: object, what: str = "dims") -> int:
    """Returns dims as an int when pgvector can store such vectors."""
    if isinstance(dims, bool) or not isinstance(dims, (int, np.integer)):
        raise ValueRangeError(f"{what} is {dims!r}, wanted an integer")
    if not 1 <= dims <= MAX_STORED_DIMS:
        raise ValueRangeError(f"{what} is {dims}, pgvector stores 1 to {MAX_STORED_DIMS}")
    return int(dims)


def checked_widths(widths: object, what: str = "nesting_dims") -> tuple[int, ...]:
    """Returns widths as integers, at least one; `what` is the argument's name."""
    listed = tuple(widths) if isinstance(widths, Iterable) else None
    if isinstance(widths, (str, bytes)) or not listed:
        came = "empty" if listed == () else f"{widths!r:.60}"
        raise ValueRangeError(f"{what} is {came}, wanted rising widths, as (64, 768)")
    for width in listed:
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ValueRangeError(f"{what} holds {width!r:.60}, wanted integers")
    return tuple(int(width) for width in listed)


def checked_nesting_dims(nesting_dims: Sequence[int], dims: int) -> tuple[int, ...]:
    """Returns the nesting dims as a tuple when they rise and end with the full dims.

    >>> checked_nesting_dims((64, 768), 768)
    (64, 768)
    """
    widths = checked_widths(nesting_dims)
    rising = all(a < b for a, b in pairwise((0, *widths)))
    if not rising or widths[-1] != dims:
        raise ValueRangeError(
            f"nesting_dims is {widths}, wanted rising widths from at least 1 to the "
            f"full {dims} dims"
        )
    return widths
