"""How long the default plan walks: as far as the rows at hand need, measured when they are loaded.

One effort does not fit all data: of 20,000 real rows of 384 dims the default finds .98 of the ten
nearest, of as many that fill a cube of 64 dims .77. So some rows are asked for their neighbours,
each hidden from itself (docs/recall.md), and the effort is doubled until enough of these are found.
Where so long a walk reads as much as a scan of all rows would, the scan it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.engines.native.plans import native_plan
from mrl_db.model.key import encode
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, flat_plan, graph_plan
from mrl_db.model.precision import Precision
from mrl_db.postgres.catalog import CollectionInfo

# Efforts that say: no walk, all rows by such codes.
SCAN, SCAN_INT8 = _kernels.SCAN_EFFORT, _kernels.SCAN_EFFORT - 1
_K = 10
_BLOCK = 4096  # rows that are compared with all queries at once
# Of a block's float32 products so many nearest are kept; their distances are true ones. (ExactScan
# takes twice the CPU, and one thread.)
_NEAREST = 32
_TIED = 1e-6  # of a distance: as far
_SCANNED = 60  # rows that a scan passes on for ten answers


def default_plan(dims: int, effort: int) -> Plan:
    """Returns the plan of a measured effort, for ten answers; 0: nothing was measured."""
    if effort == SCAN:
        return flat_plan(dims=dims, keep=_SCANNED)
    if effort == SCAN_INT8:
        return flat_plan(dims=dims, precision=Precision.int8, keep=_SCANNED)
    return graph_plan(dims=dims, effort=effort) if effort else graph_plan(dims=dims)


def measure_effort(index: _kernels.Index, info: CollectionInfo, threads: int) -> int:
    """Returns the effort at which enough is found, or that of a scan.

    Few rows are scanned: that takes no longer than a walk, and codes that were fitted to few say
    little of those that come until the index is built anew. 0 of rows whose vectors stay in
    PostgreSQL (there is nothing to ask with), and where rows are written meanwhile.
    """
    if not index.has_graph or not index.keeps_vectors:
        return 0
    live, keys = index.live(None)
    n, dims = len(live), index.dims
    asked = _kernels.default_effort_queries(n, dims)
    if not asked:
        return SCAN_INT8
    drawn = np.unique(np.linspace(0, n - 1, asked).astype(np.uint32))
    queries = index.coordinates(live, drawn, 0, dims)
    if queries is None:
        return 0
    lengths = np.linalg.norm(queries, axis=1)
    drawn, queries = drawn[lengths > 0], np.ascontiguousarray(queries[lengths > 0])
    if not len(drawn):
        return 0
    hidden = index.hide(_encoded(keys, drawn, info.key_type), threads)
    tenth = _tenth_of_others(index, live, drawn, queries, info.metric)
    if tenth is None:
        return 0
    tenth += _TIED * np.abs(tenth)

    def recall(plan: Plan) -> float:
        found = index.search_many(queries, native_plan(plan), None, threads, False, hidden)[1]
        return float((found <= tenth[:, np.newaxis]).mean())

    for effort in _kernels.default_efforts(graph_plan(dims=dims).effort, n):
        if recall(default_plan(dims, effort)) >= _kernels.ENOUGH_RECALL:
            return effort
    return SCAN_INT8


def _tenth_of_others(
    index: _kernels.Index,
    live: _kernels.LiveRows,
    drawn: NDArray[np.uint32],
    queries: NDArray[np.float32],
    metric: Metric,
) -> NDArray[np.float64] | None:
    """Returns the distance of each drawn row from its tenth nearest other; None if rows moved.

    The nearest come out of float32 products with all rows, a block at a time, and are measured in
    float64: where products cannot tell rows apart, it does not matter which of them are measured.
    """
    n, dims = len(live), index.dims
    scores = np.full((len(drawn), 0), np.inf, dtype=np.float32)
    nearest = np.zeros((len(drawn), 0), dtype=np.uint32)
    for begin in range(0, n, _BLOCK):
        block = np.arange(begin, min(begin + _BLOCK, n), dtype=np.uint32)
        rows = index.coordinates(live, block, 0, dims)
        if rows is None:
            return None
        with np.errstate(all="ignore"):  # what is no number is far
            of_block = np.nan_to_num(metric.scores(queries, rows), nan=np.inf)
        inside = np.flatnonzero((drawn >= begin) & (drawn < begin + len(block)))
        of_block[inside, drawn[inside] - begin] = np.inf
        scores = np.hstack([scores, of_block])
        nearest = np.hstack([nearest, np.broadcast_to(block, of_block.shape)])
        if scores.shape[1] > _NEAREST:
            best = np.argpartition(scores, _NEAREST, axis=1)[:, :_NEAREST]
            scores = np.take_along_axis(scores, best, axis=1)
            nearest = np.take_along_axis(nearest, best, axis=1)
    tenth = np.empty(len(drawn))
    for number, query in enumerate(queries):
        rows = index.coordinates(live, np.sort(nearest[number]), 0, dims)
        if rows is None:
            return None
        distances = metric.distances(query.astype(np.float64), rows.astype(np.float64))
        tenth[number] = np.sort(distances)[_K - 1]
    return tenth


def _encoded(keys: Any, drawn: NDArray[np.uint32], key_type: str) -> Any:
    """Returns some of an index's keys as it takes them."""
    if isinstance(keys, np.ndarray):
        return encode(keys[drawn].tolist(), key_type)
    chosen = [keys[position] for position in drawn.tolist()]
    if key_type != "uuid":
        return chosen
    return np.frombuffer(b"".join(chosen), dtype=np.uint8).reshape(len(chosen), -1)
