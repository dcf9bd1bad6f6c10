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
from mrl_db.engines.native.rescoring import rescored, vectors_of
from mrl_db.model.key import encode
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, flat_plan, graph_plan
from mrl_db.model.precision import Precision
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Session

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


def measure_effort(
    index: _kernels.Index, info: CollectionInfo, threads: int, session: Session
) -> int:
    """Returns the effort at which enough is found, or that of a scan.

    Few rows are scanned: that takes no longer than a walk, and codes that were fitted to few say
    little of those that come until the index is built anew. 0 where rows are written meanwhile.

    Args:
        index: A graph, just built.
        info: The collection.
        threads: To search with.
        session: To ask for vectors that stayed in PostgreSQL.
    """
    if not index.has_graph:
        return 0
    live, keys = index.live(None)
    n, dims = len(live), index.dims
    asked = _kernels.default_effort_queries(n, dims)
    if not asked:
        return SCAN_INT8
    drawn = np.unique(np.linspace(0, n - 1, asked).astype(np.uint32))
    if index.keeps_vectors:
        queries = index.coordinates(live, drawn, 0, dims)
    else:
        queries = vectors_of(session, info, _chosen(keys, drawn))
    if queries is None:
        return 0
    lengths = np.linalg.norm(queries, axis=1)
    drawn, queries = drawn[lengths > 0], np.ascontiguousarray(queries[lengths > 0])
    if not len(drawn):
        return 0
    hidden = index.hide(_encoded(_chosen(keys, drawn), info.key_type), threads)

    def distances(plan: Plan) -> NDArray[np.float64]:
        asked_for = (queries, native_plan(plan), None, threads, hidden)
        if index.keeps_vectors:
            return index.search_many(*asked_for)[1]
        return rescored(session, info, queries, index.candidates(*asked_for)[0], _K)[1]

    if index.keeps_vectors:
        tenth = _tenth_of_others(index, live, drawn, queries, info.metric)
    else:
        tenth = distances(default_plan(dims, SCAN_INT8))[:, _K - 1 :].max(axis=1, initial=-np.inf)
    if tenth is None:
        return 0
    tenth += _TIED * np.abs(tenth)

    def recall(plan: Plan) -> float:
        return float((distances(plan) <= tenth[:, np.newaxis]).sum(axis=1).mean()) / _K

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


def _chosen(keys: Any, drawn: NDArray[np.uint32]) -> Any:
    """Returns some of an index's keys: an array of integers, or a list of their bytes."""
    if isinstance(keys, np.ndarray):
        return keys[drawn]
    return [keys[position] for position in drawn.tolist()]


def _encoded(keys: Any, key_type: str) -> Any:
    """Returns an index's keys as it takes them."""
    if isinstance(keys, np.ndarray):
        return encode(keys.tolist(), key_type)
    if key_type != "uuid":
        return keys
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
