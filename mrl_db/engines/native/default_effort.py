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
from mrl_db.model.plan import Plan, Stage, flat_plan, graph_plan
from mrl_db.model.precision import Precision

SCAN, SCAN_INT8 = 2**32 - 1, 2**32 - 2  # efforts that say: no walk, all rows by such codes
_K = 10
_ASKED, _LEAST_ASKED = 128, 32  # rows, of …
_SHARE = 16  # … so many times as many; and fewer where to compare them with all would take long
_COMPARED = 2e10  # coordinates
_TIED = 1e-6  # of a distance: as far
_FEW = 500  # rows of which a walk meets most
_ENOUGH = 0.96  # of recall: what a mean of so many says is off by some .005
# A hop reads some twenty new lines, and one that is walked to takes three times as long as one in a
# scan (csrc/search/funnel_stages.cpp).
_ROWS_PER_HOP = 60
_SCANNED = 60  # rows that a scan passes on for ten answers


def default_plan(dims: int, effort: int) -> Plan:
    """Returns the plan of a measured effort, for ten answers; 0: nothing was measured."""
    if effort == SCAN:
        return flat_plan(dims=dims, keep=_SCANNED)
    if effort == SCAN_INT8:
        return flat_plan(dims=dims, precision=Precision.int8, keep=_SCANNED)
    return graph_plan(dims=dims, effort=effort) if effort else graph_plan(dims=dims)


def measure_effort(index: _kernels.Index, key_type: str, threads: int) -> int:
    """Returns the effort at which enough is found, or that of a scan.

    0 of a few rows, and of those whose vectors stay in PostgreSQL: there is nothing to ask with.
    """
    live, keys = index.live(None)
    n, dims = len(live), index.dims
    if not index.has_graph or n < _FEW or not index.vector_bytes:
        return 0
    asked = min(_ASKED, n // _SHARE, max(_LEAST_ASKED, int(_COMPARED / (n * dims))))
    drawn = np.unique(np.linspace(0, n - 1, asked).astype(np.uint32))
    queries = index.coordinates(live, drawn, 0, dims)
    if queries is None:
        return 0
    lengths = np.linalg.norm(queries, axis=1)
    drawn, queries = drawn[lengths > 0], np.ascontiguousarray(queries[lengths > 0])
    if not len(drawn):
        return 0
    hidden = index.hide(_encoded(keys, drawn, key_type), threads)

    def search(plan: Plan) -> NDArray[np.float64]:
        return index.search_many(queries, native_plan(plan), None, threads, False, hidden)[1]

    tenth = search(Plan("flat", 1, (Stage(dims, Precision.float32, _K),)))[:, -1:]
    tenth += _TIED * np.abs(tenth)
    effort = graph_plan(dims=dims).effort
    while (search(default_plan(dims, effort)) <= tenth).mean() < _ENOUGH:
        if effort == SCAN:
            return SCAN_INT8
        effort = 2 * effort if 2 * _ROWS_PER_HOP * effort < n else SCAN
    return effort


def _encoded(keys: Any, drawn: NDArray[np.uint32], key_type: str) -> Any:
    """Returns some of an index's keys as it takes them."""
    if isinstance(keys, np.ndarray):
        return encode(keys[drawn].tolist(), key_type)
    chosen = [keys[position] for position in drawn.tolist()]
    if key_type != "uuid":
        return chosen
    return np.frombuffer(b"".join(chosen), dtype=np.uint8).reshape(len(chosen), -1)
