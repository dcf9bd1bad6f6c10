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
from mrl_db.model.plan import Plan, flat_plan, graph_plan

SCAN = 2**32 - 1  # an effort that says so
_K = 10
_ASKED = 128  # rows, of …
_SHARE = 16  # … so many times as many
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
    return graph_plan(dims=dims, effort=effort) if effort else graph_plan(dims=dims)


def measure_effort(index: _kernels.Index, key_type: str, threads: int) -> int:
    """Returns the effort at which enough is found, or SCAN; 0 where there are too few rows."""
    live, keys = index.live(None)
    n = len(live)
    if not index.has_graph or n < _FEW:
        return 0
    drawn = np.unique(np.linspace(0, n - 1, min(_ASKED, n // _SHARE)).astype(np.uint32))
    queries = index.coordinates(live, drawn, 0, index.dims)
    if queries is None:
        return 0
    lengths = np.linalg.norm(queries, axis=1)
    drawn, queries = drawn[lengths > 0], np.ascontiguousarray(queries[lengths > 0])
    if not len(drawn):
        return 0
    hidden = index.hide(_encoded(keys, drawn, key_type), threads)

    def search(plan: Plan) -> NDArray[np.float64]:
        ids_aside = index.vector_bytes == 0  # the last stage is PostgreSQL's then
        native = native_plan(plan)
        return index.search_many(queries, native, None, threads, ids_aside, hidden)[1][:, :_K]

    tenth = search(flat_plan(dims=index.dims, keep=20 * _K))[:, -1:]
    effort = graph_plan(dims=index.dims).effort
    while True:
        found = search(graph_plan(dims=index.dims, effort=effort))
        if (found <= tenth + _TIED * np.abs(tenth)).mean() >= _ENOUGH:
            return effort
        effort *= 2
        if _ROWS_PER_HOP * effort >= n:
            return SCAN


def _encoded(keys: Any, drawn: NDArray[np.uint32], key_type: str) -> Any:
    """Returns some of an index's keys as it takes them."""
    if isinstance(keys, np.ndarray):
        return encode(keys[drawn].tolist(), key_type)
    chosen = [keys[position] for position in drawn.tolist()]
    if key_type != "uuid":
        return chosen
    return np.frombuffer(b"".join(chosen), dtype=np.uint8).reshape(len(chosen), -1)
