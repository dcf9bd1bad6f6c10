"""The NumPy door to the compiled kernels: one query against the rows of a matrix, on any prefix.

dtypes are exact (float32, int8, uint8) and nothing is copied: rows may be any matrix whose rows are
contiguous, a slice of a wider one included. The instruction set is chosen at the first call by what
the CPU offers, or by the environment variable MRL_DB_SIMD.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.door import checked_count
from mrl_db.model.errors import (
    DtypeError,
    ShapeError,
    SimdError,
    ValueRangeError,
)
from mrl_db.model.key import KEY_TYPES
from mrl_db.model.metric import Metric

_VECTOR_TYPES = {"vector": _kernels.VectorType.float32, "halfvec": _kernels.VectorType.float16}


def native_metric(metric: Metric) -> _kernels.Metric:
    """Returns the compiled module's name of a metric."""
    return _kernels.Metric.__members__[metric.value]


def key_type(name: str) -> _kernels.KeyType:
    """Returns the compiled module's name of a key's SQL type."""
    return _kernels.KeyType.__members__[KEY_TYPES[name].wire]


def vector_type(name: str) -> _kernels.VectorType:
    """Returns the compiled module's name of a vector's SQL type."""
    return _VECTOR_TYPES[name]


def simd() -> str:
    """Returns the name of the instruction set in use, one of `available_simd()`.

    Raises SimdError when MRL_DB_SIMD names one that is unknown or that this CPU lacks.
    """
    try:
        return _kernels.simd()
    except RuntimeError as error:
        raise SimdError(str(error)) from None


def available_simd() -> tuple[str, ...]:
    """Returns the instruction sets that run on this CPU, the slowest first."""
    return tuple(_kernels.available_simd())


@contextmanager
def using_simd(name: str) -> Iterator[None]:
    """Forces an instruction set for the whole process: for tests and benchmarks."""
    before = simd()
    try:
        _kernels.use_simd(name)
    except RuntimeError as error:
        raise SimdError(str(error)) from None
    try:
        yield
    finally:
        _kernels.use_simd(before)


def inner_product(
    query: NDArray[np.float32], rows: NDArray[np.float32], *, dims: int | None = None
) -> NDArray[np.float32]:
    """Returns the inner product of a query with each row, over the first dims.

    Args:
        query: (dims,) float32.
        rows: (n, dims) float32.
        dims: Of the prefixes; None: all.

    Returns:
        float32 (n,).

    >>> inner_product(np.float32([1, 2]), np.float32([[3, 4], [5, 6]])).tolist()
    [11.0, 17.0]
    """
    return _kernels.inner_product(query, rows, _checked(query, rows, dims, np.float32))


def squared_l2(
    query: NDArray[np.float32], rows: NDArray[np.float32], *, dims: int | None = None
) -> NDArray[np.float32]:
    """Returns sum (q_j - r_j)^2 over the first dims: float32 (n,); as `inner_product` otherwise."""
    return _kernels.squared_l2(query, rows, _checked(query, rows, dims, np.float32))


def cosine_distance(
    query: NDArray[np.float32], rows: NDArray[np.float32], *, dims: int | None = None
) -> NDArray[np.float32]:
    """Returns 1 - cosine over the first dims, each prefix by its own norm.

    Returns:
        float32 (n,) in [0, 2]; NaN for a zero prefix.
    """
    return _kernels.cosine_distance(query, rows, _checked(query, rows, dims, np.float32))


def inner_product_int8(
    query: NDArray[np.int8], rows: NDArray[np.int8], *, dims: int | None = None
) -> NDArray[np.int32]:
    """Returns sum q_j r_j of int8 codes over the first dims, at most 65,536.

    Returns:
        int32 (n,), exact, equal on every instruction set.
    """
    return _kernels.inner_product_int8(query, rows, _checked(query, rows, dims, np.int8))


def hamming(query: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Returns the number of differing bits of codes packed by `numpy.packbits`: int32 (n,)."""
    return _kernels.hamming(query, rows, _checked(query, rows, None, np.uint8))


def inner_product_bit(planes: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Returns sum over planes p of 2^p popcount(plane_p AND row): int32 (n,).

    Args:
        planes: (bytes,) or (1 to 8, bytes), the least significant first: a query quantised to that
            many bits (RaBitQ, arXiv:2405.12497, section 3.3).
        rows: (n, bytes) of 0/1 codes.
    """
    stacked = planes[np.newaxis] if planes.ndim == 1 else planes
    if not 1 <= stacked.shape[0] <= 8:
        raise ShapeError(f"planes has {stacked.shape[0]} bit planes, wanted 1 to 8")
    _checked(stacked[0], rows, None, np.uint8)
    return _kernels.inner_product_bit(np.ascontiguousarray(stacked), rows)


def top_k(
    query: NDArray[np.float32],
    rows: NDArray[np.float32],
    k: int,
    *,
    metric: Metric | str = Metric.cosine,
    dims: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the k nearest rows, the nearest first, ties by position; the scan is one pass.

    Args:
        query: (dims,) float32.
        rows: (n, dims) float32.
        k: Rows; all n when k > n.
        metric: By name, or a Metric.
        dims: Of the prefixes; None: all.

    Returns:
        distances: float32, squared under l2. A NaN distance (a zero vector under cosine) comes back
            as infinity, last.
        positions: int64.
    """
    width = _checked(query, rows, dims, np.float32)
    return _kernels.top_k(
        native_metric(Metric.of(metric)), query, rows, width, checked_count(k, "k")
    )


def top_k_int8(
    query: NDArray[np.int8], rows: NDArray[np.int8], k: int, *, dims: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns (minus the inner product, positions) of the k rows with the largest, as `top_k`."""
    return _kernels.top_k_int8(
        query, rows, _checked(query, rows, dims, np.int8), checked_count(k, "k")
    )


def top_k_hamming(
    query: NDArray[np.uint8], rows: NDArray[np.uint8], k: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Returns (differing bits, positions) of the k rows with the fewest, as `top_k`."""
    return _kernels.top_k_hamming(
        query, rows, _checked(query, rows, None, np.uint8), checked_count(k, "k")
    )


def rerank(
    queries: NDArray[np.float32],
    rows: NDArray[np.float32],
    candidates: NDArray[np.int64],
    k: int,
    *,
    metric: Metric | str = Metric.cosine,
    threads: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the k nearest of each query's own candidates, the nearest first, ties by position.

    Args:
        queries: (n, dims) float32.
        rows: (rows, dims) float32.
        candidates: (n, m) int64 positions of rows; negative ones are passed over, as other
            libraries fill short lists.
        k: Rows of each query.
        metric: By name, or a Metric.
        threads: That share the queries.

    Returns:
        distances: (n, k) float32, squared under l2; NaN where fewer than k are left.
        positions: (n, k) int64; -1 there.

    >>> rows = np.float32([[0, 1], [1, 0], [1, 1]])
    >>> rerank(np.float32([[1, 0]]), rows, np.int64([[0, 2, -1]]), 1)[1].tolist()
    [[2]]
    """
    _checked(
        queries[0] if queries.ndim == 2 and len(queries) else np.zeros(rows.shape[-1], np.float32),
        rows,
        None,
        np.float32,
    )
    if queries.ndim != 2 or candidates.ndim != 2 or len(queries) != len(candidates):
        raise ShapeError(
            f"queries have shape {queries.shape} and candidates {candidates.shape}, "
            "wanted (n, dims) and (n, m)"
        )
    if candidates.dtype != np.int64:
        raise DtypeError(
            f"candidates are {candidates.dtype}, wanted int64; convert them with "
            ".astype(numpy.int64)"
        )
    if candidates.size and candidates.max() >= len(rows):
        raise ValueRangeError(
            f"candidate {candidates.max()} is beyond the last of {len(rows)} rows"
        )
    return _kernels.rerank(
        native_metric(Metric.of(metric)), queries, rows, candidates, checked_count(k, "k"), threads
    )


def exact_scan(metric: Metric, queries: NDArray[np.float32], k: int) -> _kernels.ExactScan:
    """Returns a scan of blocks that keeps the k nearest of each query by float64 distance."""
    return _kernels.ExactScan(
        native_metric(metric), np.ascontiguousarray(queries), checked_count(k, "k")
    )


def _checked(
    query: NDArray[np.generic], rows: NDArray[np.generic], dims: int | None, dtype: type[np.generic]
) -> int:
    """Returns the width to use once query and rows fit each other."""
    wanted = np.dtype(dtype)
    for name, array in (("query", query), ("rows", rows)):
        if not isinstance(array, np.ndarray):
            raise DtypeError(
                f"{name} is a {type(array).__name__}, wanted a NumPy array of {wanted}"
            )
        if array.dtype != wanted:
            raise DtypeError(
                f"{name} is {array.dtype}, wanted {wanted}; convert it with .astype(numpy.{wanted})"
            )
    if query.ndim != 1 or rows.ndim != 2:
        raise ShapeError(
            f"query has shape {query.shape} and rows {rows.shape}, wanted (dims,) and (n, dims)"
        )
    width = rows.shape[1] if dims is None else dims
    if width < 0 or width > rows.shape[1] or width > query.shape[0]:
        raise ShapeError(
            f"{width} dims asked for, query has {query.shape[0]} and rows have {rows.shape[1]}"
        )
    if rows.size and rows.strides[1] != rows.itemsize and width > 1:
        raise ShapeError("rows are not contiguous; copy them with numpy.ascontiguousarray")
    if rows.size and rows.shape[0] > 1 and rows.strides[0] < rows.shape[1] * rows.itemsize:
        raise ShapeError("rows run backwards or overlap; copy them with numpy.ascontiguousarray")
    if query.shape[0] > 1 and query.strides[0] != query.itemsize:
        raise ShapeError("query is not contiguous; copy it with numpy.ascontiguousarray")
    return width
