"""Whether a table that is attached gets a low-dim column, or an expression index in its place."""

from __future__ import annotations

import warnings
from typing import Literal

from mrl_db.door import checked_choice

LowDim = Literal["auto", "column", "index"]

_REWRITE_BYTES = 512 << 20  # attach() locks a table for no longer than some 5 s unless told to


class LargeTableWarning(UserWarning):
    """A table was attached without a low-dim column, because adding one would have rewritten it."""


def chosen(low_dim: LowDim, table: str, size: int) -> str:
    """Returns "column" or "index".

    Args:
        low_dim: What was asked for.
        table: Its name, for the warning.
        size: Its bytes.
    """
    checked_choice(low_dim, "low_dim", ("auto", "column", "index"))
    if low_dim != "auto":
        return low_dim
    if size <= _REWRITE_BYTES:
        return "column"
    warnings.warn(
        f"table {table} holds {size / 2**30:.1f} GB: a low-dim column would rewrite it "
        f"under an exclusive lock, about {size / 1e8:.0f} s at 100 MB/s, so an "
        "expression index stands for it; low_dim='column' adds the column all the "
        "same, low_dim='index' silences this",
        LargeTableWarning,
        stacklevel=3,
    )
    return "index"
