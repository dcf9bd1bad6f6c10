"""Exact search in this process: the rows streamed out once, decoded and scanned in C++, for one query or for many.

This is the oracle: float64 distances, ties by id, nothing approximate. Memory is bounded by one block of rows, plus the keys.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels, kernels
from mrl_db.engines.sql import collect
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.postgres import rows, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.copy_out import copy_rows
from mrl_db.postgres.ingest import plain_keys
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

_BLOCK_BYTES = (
    4 << 20
)  # rows decoded before they are scanned: several second-level caches, so that many queries share the decoding


def search(
    session: Session,
    request: Request,
    queries: NDArray[np.float32],
    k: int,
    dims: int | None = None,
) -> Hits:
    """Returns the brute-force answer of each query, (n, k); of prefixes where dims says how wide."""
    began = time.perf_counter()
    info = request.info
    width = info.dims if dims is None else dims
    scan = kernels.exact_scan(info.metric, queries[:, :width], k)
    block_rows = max(1, _BLOCK_BYTES // (4 * info.dims))
    keys: list[Any] = []
    with session.transaction() as connection:
        connection.execute(
            statements.query("repeatable_read")
        )  # columns come from the same state as the vectors
        for block_keys, vectors in copy_rows(connection, request, block_rows):
            keys.append(block_keys)
            scan.scan(vectors[:, :width])
        key_at = _KeyReader(info, keys)
        best = [_best(scan, query, k, key_at) for query in range(len(queries))]
        columns = _columns(connection, request, {key for hits in best for key, _ in hits})
    results = [
        [(key, distance, scan.rows_scanned, *columns[key]) for key, distance in hits]
        for hits in best
    ]
    rows_out = len(results[0])
    stage = StageTrace(f"exact {width} float32", scan.rows_scanned, rows_out, 4 * width)
    hits = collect(request, results, Trace("exact", (time.perf_counter() - began) * 1e6, (stage,)))
    hits.certified = width == info.dims
    return hits


def prefix_ranks(
    session: Session,
    request: Request,
    queries: NDArray[np.float32],
    dims: int,
    ids: NDArray[Any],
    most: int,
) -> NDArray[np.int64]:
    """Returns how many rows have a prefix nearer to each query's than each of its ids (n, k) has; `most` where it is not among so many."""
    scan = kernels.exact_scan(request.info.metric, queries[:, :dims], most)
    keys: list[Any] = []
    with session.transaction() as connection:
        for block_keys, vectors in copy_rows(
            connection, request, max(1, _BLOCK_BYTES // (4 * request.info.dims))
        ):
            keys += plain_keys(block_keys, request.info.key_type)
            scan.scan(vectors[:, :dims])
    every = np.array(keys, dtype=ids.dtype)
    ranks = np.full(ids.shape, most)
    for query, wanted in enumerate(ids):
        distances, positions = scan.hits(query)
        listed = every[positions[np.argsort(distances, kind="stable")][:most]]
        places, columns = np.nonzero(listed[:, np.newaxis] == wanted)
        ranks[query, columns] = places
    return ranks


class _KeyReader:
    """Finds the key of a row by its position in the stream, over blocks of keys."""

    def __init__(self, info: CollectionInfo, blocks: Sequence[Any]) -> None:
        self._blocks = blocks
        self._ends = np.cumsum([len(block) for block in blocks])
        self._dtype = {"smallint": np.int16, "integer": np.int32, "bigint": np.int64}.get(
            info.key_type
        )
        self._uuid = info.key_type == "uuid"

    def __call__(self, position: int) -> Any:
        block = int(np.searchsorted(self._ends, position, side="right"))
        key = self._blocks[block][position - (self._ends[block - 1] if block else 0)]
        if self._dtype is not None:
            return int(key.view(self._dtype)[0])
        return uuid.UUID(bytes=key.tobytes()) if self._uuid else key


def _best(
    scan: _kernels.ExactScan, query: int, k: int, key_at: _KeyReader
) -> list[tuple[Any, float]]:
    """Returns the k (key, distance) of one query by distance, then key; the scan hands over all that tie with the k-th."""
    distances, positions = scan.hits(query)
    found = [
        (key_at(position), distance)
        for distance, position in zip(distances.tolist(), positions.tolist(), strict=True)
    ]
    found.sort(key=lambda hit: (math.isnan(hit[1]), 0.0 if math.isnan(hit[1]) else hit[1], hit[0]))
    return found[:k]


def _columns(connection: Any, request: Request, keys: set[Any]) -> dict[Any, tuple[Any, ...]]:
    """Returns the asked-for columns of some rows, by key."""
    if not request.columns:
        return dict.fromkeys(keys, ())
    statement = statements.query("rows_columns").format(
        key=statements.identifier(request.info.key),
        columns=rows.further_columns(request.columns),
        source=request.info.relation,
    )
    return {
        row[0]: tuple(row[1:]) for row in connection.execute(statement, (list(keys),)).fetchall()
    }
