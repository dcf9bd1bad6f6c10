"""Key types: what the key of a collection may be, how its values travel, and their order.

=================  ================  ==========================  ==============================
SQL type           Python value      ids in an array             in COPY and in the index
=================  ================  ==========================  ==============================
smallint … bigint  int               int64                       2, 4, 8 bytes, machine's order
uuid               ``uuid.UUID``     object                      16 bytes
text, varchar      str               object                      UTF-8
=================  ================  ==========================  ==============================

Python orders the values as the index does: integers by value, uuids by their bytes, strings by code
point, which is the order of their UTF-8 bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import ValueRangeError

KeyName = Literal["bigint", "integer", "smallint", "uuid", "text"]
# Keys as the compiled module takes them: (n, bytes) of fixed-size keys, or a list of UTF-8 strings.
Encoded = NDArray[np.uint8] | list[bytes]


@dataclass(frozen=True, slots=True)
class KeyType:
    """One type of key.

    Attributes:
        wire: Its name in the compiled module (`_kernels.KeyType`).
        dtype: NumPy's type of an integer key; None for the others.
        size: Bytes of a key; None for text, whose keys differ.
    """

    wire: str
    dtype: type[np.signedinteger[Any]] | None
    size: int | None


_TEXT = KeyType("text", None, None)
KEY_TYPES: Mapping[str, KeyType] = MappingProxyType(
    {
        "smallint": KeyType("int16", np.int16, 2),
        "integer": KeyType("int32", np.int32, 4),
        "bigint": KeyType("int64", np.int64, 8),
        "uuid": KeyType("uuid", None, 16),
        "text": _TEXT,
        "character varying": _TEXT,
    }
)


def id_dtype(key_type: str) -> type[Any]:
    """Returns the dtype of an array of ids: int64 for integer keys, object for uuid and text."""
    return np.object_ if KEY_TYPES[key_type].dtype is None else np.int64


def id_array(keys: Sequence[Any], key_type: str) -> NDArray[Any]:
    """Returns keys as an array of ids, (n,)."""
    ids = np.empty(len(keys), dtype=id_dtype(key_type))
    ids[:] = keys
    return ids


def encode(keys: Sequence[Any], key_type: str) -> Encoded:
    """Returns keys, Python values of the right type, as the compiled module takes them."""
    kind = KEY_TYPES[key_type]
    if kind.dtype is not None:
        array = np.array(keys, dtype=kind.dtype)
        return array.view(np.uint8).reshape(len(array), array.itemsize)
    if kind.size is not None:
        joined = b"".join(key.bytes for key in keys)
        return np.frombuffer(joined, dtype=np.uint8).reshape(len(keys), kind.size)
    return [key.encode() for key in keys]


def decode(encoded: NDArray[np.uint8] | Sequence[Any], key_type: str) -> list[Any]:
    """Returns the Python values of keys as `encode` made them, or as COPY brought them.

    >>> decode(encode([3, -1], "integer"), "integer")
    [3, -1]
    """
    kind = KEY_TYPES[key_type]
    if kind.dtype is not None:
        return list(np.asarray(encoded, np.uint8).copy().view(kind.dtype).ravel().tolist())
    if kind.size is not None:
        return [uuid.UUID(bytes=bytes(key)) for key in encoded]
    return [key if isinstance(key, str) else key.decode() for key in encoded]


def parse(text: str, key_type: str) -> Any:
    """Returns a key from its text form.

    Raises:
        ValueRangeError: The text is no value of this type.
    """
    kind = KEY_TYPES[key_type]
    try:
        if kind.dtype is not None:
            return int(text)
        return text if kind.size is None else uuid.UUID(text)
    except ValueError:
        raise ValueRangeError(f"{text!r} is no {key_type}, the type of the key") from None
