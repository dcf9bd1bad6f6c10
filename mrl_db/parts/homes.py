"""On which server the row of a key is, where a collection is on several.

A rule of our own, which no version of PostgreSQL or Python changes: the first seven bytes of the
SHA-256 of the key as SQL writes it (`key::text`, in UTF-8), as an integer, modulo the servers. In
SQL, for a client of yours that writes by itself:

    mod(('x' || encode(substr(sha256(convert_to(key::text, 'UTF8')), 1, 7), 'hex'))
        ::bit(56)::bigint, servers)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BYTES = 7  # a bigint holds them without a sign


def home_of(key: Any, servers: int) -> int:
    """Returns the number of the server, from 0, that a key's row is on.

    Args:
        key: An int, a `uuid.UUID` or a str.
        servers: How many there are.

    >>> home_of(7, 3), home_of("seven", 3)
    (1, 0)
    """
    digest = hashlib.sha256(str(key).encode()).digest()
    return int.from_bytes(digest[:_BYTES], "big") % servers


def homes_of(keys: Sequence[Any], servers: int) -> NDArray[np.int64]:
    """Returns the server of each key, (n,)."""
    return np.fromiter((home_of(key, servers) for key in keys), dtype=np.int64, count=len(keys))
