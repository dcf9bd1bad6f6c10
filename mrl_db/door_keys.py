"""The door for keys: what is given as ids becomes values of the key's type, all different."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.arrays import check_unmasked, first_missing, listed
from mrl_db.model.errors import DtypeError, DuplicateKeyError, ShapeError, ValueRangeError
from mrl_db.model.key import KEY_TYPES
from mrl_db.model.values import brief


def checked_keys(ids: Any, key_type: str, count: int | None = None) -> list[Any]:
    """Returns keys as Python values of the key's type, all different; `count` of them if given."""
    ids = _listed(ids)
    several = isinstance(ids, (Sequence, np.ndarray)) and not isinstance(ids, (str, bytes))
    if not several or getattr(ids, "ndim", 1) != 1:
        shape = f" of shape {ids.shape}" if hasattr(ids, "shape") else ""
        raise ShapeError(
            f"ids is {type(ids).__name__}{shape}, wanted a list or an array of one axis"
        )
    if count is not None and len(ids) != count:
        empty = "vectors is empty: " if count == 0 else "ids is empty: " if len(ids) == 0 else ""
        raise ShapeError(f"{empty}there are {len(ids)} ids for {count} vectors, wanted one each")
    if len(ids) == 0:
        return []
    kind = KEY_TYPES[key_type]
    values: list[Any]
    if kind.dtype is not None:
        values = _integer_keys(ids, key_type, kind.dtype)
    elif kind.size is not None:
        values = _instances(ids, uuid.UUID, "uuid", "convert it with uuid.UUID(…)")
    else:
        values = _text_keys(ids)
    if len(set(values)) != len(values):
        seen: set[Any] = set()
        twice = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise DuplicateKeyError(
            f"id {twice!r} stands twice in one call; each row needs an id of its own"
        )
    return values


def check_key_length(keys: Sequence[Any], longest: int | None) -> None:
    """Raises ValueRangeError for a string that PostgreSQL refuses, or cuts where spaces end it.

    Args:
        keys: Values of the key's type.
        longest: Characters at most, of a varchar(n); None: any.
    """
    if longest is None:
        return
    for position, key in enumerate(keys):
        if len(key) > longest:
            raise ValueRangeError(
                f"ids[{position}] is {key!r:.60}, of {len(key)} characters; the key holds {longest}"
            )


def checked_keys_or_key(ids: Any, key_type: str) -> list[Any]:
    """Returns keys where one alone may be given as it is."""
    several = [ids] if is_alone(ids) else _listed(ids)
    is_listed = isinstance(several, (Sequence, np.ndarray))
    return checked_keys(several if is_listed else list(several), key_type)


def is_alone(value: Any) -> bool:
    """Whether it is one value, not several of them."""
    return isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Iterable, np.ndarray))


def _listed(ids: Any) -> Any:
    """Returns ids out of a column of a frame, or a tensor; raises where one of them is missing."""
    check_unmasked(ids, "ids")
    missing = first_missing(ids)
    if missing is not None:
        raise DtypeError(f"ids[{missing}] is missing; each row needs an id: leave those rows out")
    return listed(ids)


def _instances(ids: Sequence[Any], kind: type, key_type: str, way_out: str) -> list[Any]:
    for position, value in enumerate(ids):
        if not isinstance(value, kind):
            raise DtypeError(f"ids[{position}] is {shown(value)}, the key is {key_type}; {way_out}")
    return list(ids)


def _integer_keys(
    ids: Sequence[Any] | NDArray[Any], key_type: str, dtype: type[np.signedinteger[Any]]
) -> list[int]:
    integers = isinstance(ids, np.ndarray) and ids.dtype.kind in "iu"
    for position, value in enumerate(() if integers else ids):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise DtypeError(
                f"ids[{position}] is {shown(value)}, the key is {key_type}; give integers"
            )
    values = ids.tolist() if isinstance(ids, np.ndarray) else [int(value) for value in ids]
    limit, smallest, largest = np.iinfo(dtype), min(values), max(values)
    if smallest < limit.min or largest > limit.max:
        raise ValueRangeError(
            f"ids reach from {smallest} to {largest}, {key_type} holds {limit.min} to {limit.max}"
        )
    return values


def _text_keys(ids: Sequence[Any]) -> list[str]:
    values = [str(value) for value in _instances(ids, str, "text", "convert it with str(…)")]
    for position, value in enumerate(values):
        if "\0" in value:
            raise ValueRangeError(
                f"ids[{position}] contains a NUL character, which PostgreSQL cannot hold"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueRangeError(f"ids[{position}] is no valid Unicode") from None
    return values


def shown(value: Any) -> str:
    """Returns a value as a message shows it."""
    return f"{brief(value):.60} ({type(value).__name__})"
