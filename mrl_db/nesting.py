"""Nesting dims: the prefix widths at which a model's vectors may be cut, and how a prefix is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrl_db.errors import ShapeError, ValueRangeError
from mrl_db.metric import Metric
from mrl_db.precision import MAX_INDEXED_DIMS, MAX_STORED_DIMS


def check_dims(dims: object) -> int:
    """Returns dims as an int when pgvector can store such vectors."""
    if isinstance(dims, bool) or not isinstance(dims, (int, np.integer)):
        raise ValueRangeError(f"dims is {dims!r}, wanted an integer")
    if not 1 <= dims <= MAX_STORED_DIMS["vector"]:
        raise ValueRangeError(f"dims is {dims}, pgvector stores 1 to {MAX_STORED_DIMS['vector']}")
    return int(dims)


def check_nesting_dims(nesting_dims: Sequence[int] | None, dims: int) -> tuple[int, ...]:
    """Returns the nesting dims as a rising tuple that ends with dims; None means a guess by halving.

    >>> check_nesting_dims(None, 768)
    (96, 192, 384, 768)
    >>> check_nesting_dims((64, 768), 768)
    (64, 768)
    """
    if nesting_dims is None:
        return _halved(dims)
    widths = []
    for width in nesting_dims:
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ValueRangeError(f"nesting_dims holds {width!r}, wanted integers")
        widths.append(int(width))
    if not widths or widths[0] < 1 or any(a >= b for a, b in zip(widths, widths[1:], strict=False)) or widths[-1] != dims:
        raise ValueRangeError(
            f"nesting_dims is {tuple(nesting_dims)}, wanted rising widths from at least 1 to the full {dims} dims"
        )
    return tuple(widths)


def shortlist_dims(nesting_dims: Sequence[int]) -> int:
    """Returns the width of the low-dim column: the smallest nesting dims of at least 64, or the widest that is there and can be indexed.

    Below 64 dims real models lose too many neighbours for any shortlist of sane length; beyond 128 the gain is small (docs/design.md).
    """
    indexable = [width for width in nesting_dims if width <= MAX_INDEXED_DIMS["halfvec"]]
    if not indexable:
        raise ValueRangeError(
            f"the narrowest nesting dims is {min(nesting_dims)}, a halfvec index holds at most {MAX_INDEXED_DIMS['halfvec']}; "
            "name a narrower one in nesting_dims"
        )
    return next((width for width in indexable if width >= 64), indexable[-1])


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
    return np.divide(cut, norm, out=np.zeros(cut.shape), where=norm > 0).astype(np.float32)


def _halved(dims: int) -> tuple[int, ...]:
    widths = [dims]
    while widths[0] % 2 == 0 and widths[0] // 2 >= 64:
        widths.insert(0, widths[0] // 2)
    return tuple(widths)
