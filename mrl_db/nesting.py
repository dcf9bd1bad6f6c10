"""Nesting dims: the prefix widths at which a model's vectors may be cut, and how a prefix is taken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mrl_db.errors import ShapeError, ValueRangeError
from mrl_db.metric import Metric
from mrl_db.precision import MAX_STORED_DIMS


def check_dims(dims: object) -> int:
    """Returns dims as an int when pgvector can store such vectors."""
    if isinstance(dims, bool) or not isinstance(dims, (int, np.integer)):
        raise ValueRangeError(f"dims is {dims!r}, wanted an integer")
    if not 1 <= dims <= MAX_STORED_DIMS:
        raise ValueRangeError(f"dims is {dims}, pgvector stores 1 to {MAX_STORED_DIMS}")
    return int(dims)


def check_nesting_dims(nesting_dims: Sequence[int], dims: int) -> tuple[int, ...]:
    """Returns the nesting dims as a tuple when they rise and end with the full dims.

    >>> check_nesting_dims((64, 768), 768)
    (64, 768)
    """
    widths = []
    for width in nesting_dims:
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ValueRangeError(f"nesting_dims holds {width!r}, wanted integers")
        widths.append(int(width))
    if not widths or widths[0] < 1 or any(a >= b for a, b in pairwise(widths)) or widths[-1] != dims:
        raise ValueRangeError(f"nesting_dims is {tuple(nesting_dims)}, wanted rising widths from at least 1 to the full {dims} dims")
    return tuple(widths)


def prefix(vectors: NDArray[np.float32], dims: int, metric: Metric) -> NDArray[np.float32]:
    """Returns the first dims of each vector, (dims,) or (n, dims), at unit length where the metric is cosine; a zero prefix stays zero.

    This is the Python twin of the low-dim column (`mrl.prefix` in SQL); a test holds the two together.
    """
    if not 1 <= dims <= vectors.shape[-1]:
        raise ShapeError(f"a prefix of {dims} dims of vectors of {vectors.shape[-1]}")
    cut = vectors[..., :dims]
    if not metric.normalised_prefix:
        return np.ascontiguousarray(cut)
    norm = np.sqrt(np.sum(np.square(cut, dtype=np.float64), axis=-1, keepdims=True))
    unit: NDArray[np.float64] = np.divide(cut, norm, out=np.zeros(cut.shape), where=norm > 0)
    return unit.astype(np.float32)
