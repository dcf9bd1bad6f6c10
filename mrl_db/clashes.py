"""Names that mean two things: a column of a table, and an option of a method or a part of a hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mrl_db.door import Described
from mrl_db.model.errors import DtypeError, ValueRangeError


def check_options(options: Mapping[str, tuple[object, type | tuple[type, ...]]]) -> None:
    """Checks options of a method that takes columns by their names, too.

    Args:
        options: What was given for each, and the types that it may have.
    """
    for name, (value, types) in options.items():
        if not isinstance(value, types):
            raise DtypeError(
                f"{name} is {value!r:.60} ({type(value).__name__}), but {name}= is an option here; "
                "a column of that name comes in a frame, or in a list of dicts"
            )


_INSIDE = "give the rows as a frame or a list of dicts, which have their columns inside"


def check_unmistaken(batch_id: object, info: Described, way_out: str = _INSIDE) -> None:
    """Raises ValueRangeError where batch_id= may be meant for a column of that name."""
    if batch_id is not None and "batch_id" in info.columns:
        raise ValueRangeError(
            f'collection "{info.name}" has a column batch_id, and batch_id= is an option here; '
            f"{way_out}"
        )


def check_beside_hits(
    columns: Sequence[str], *, single: bool, vectors: bool, scored: bool = False
) -> None:
    """Raises ValueRangeError for a column that would stand where what a hit has of its own does.

    Args:
        columns: Of the table, which come along.
        single: Whether the hits are of one query; those of a batch are numbered in frames.
        vectors: Whether they bring their vectors.
        scored: Whether they have scores.
    """
    own = ["id", "distance"]
    own += ["score"] if scored else []
    own += [] if single else ["query", "rank"]
    own += ["vector"] if vectors else []
    for name in columns:
        if name in own:
            raise ValueRangeError(
                f"a hit has its own {name!r}, beside which the table's column {name!r} cannot "
                "stand; read that with get(hits.ids), or rename it"
            )
