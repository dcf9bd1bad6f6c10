"""The last queries that a collection was asked here: to tune with, and to notice when they are no longer like those of the evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_db.hits import Hits

_KEPT = 2048
_OF_A_BATCH = 256  # at most, evenly spread
_ONE_IN = 16  # of the queries that take the short way, where remembering each would cost a tenth of the search


class QueryLog:
    """Keeps the last 2,048 queries with the distance of their last answer; of single native searches one in sixteen, of a batch 256."""

    def __init__(self) -> None:
        """Empty."""
        self._queries: list[NDArray[np.float32]] = []
        self._distances: list[float] = []
        self._next = 0
        self._passed = 0
        self.k = 0

    def __len__(self) -> int:
        """Queries that are remembered."""
        return len(self._queries)

    def pass_by(self, query: object, hits: Hits, k: int) -> None:
        """Remembers one in sixteen."""
        self._passed += 1
        if self._passed % _ONE_IN == 0 and isinstance(query, np.ndarray):
            self.note(query[np.newaxis], hits.distances[np.newaxis], k)

    def note(self, queries: NDArray[np.float32], distances: NDArray[np.float64], k: int) -> None:
        """Remembers queries (n, dims) with their answers' distances (n, up to k). Another k begins anew: its distances are others."""
        if k != self.k:
            self.__init__()  # type: ignore[misc]
            self.k = k
        if distances.shape[-1] < k:
            return  # fewer rows than asked for: the distance says nothing
        step = max(1, -(-len(queries) // _OF_A_BATCH))
        for query, distance in zip(queries[::step], distances[::step, -1].tolist(), strict=True):
            if len(self._queries) < _KEPT:
                self._queries.append(query.copy())
                self._distances.append(distance)
            else:
                place = self._next % _KEPT
                self._queries[place], self._distances[place] = query.copy(), distance
            self._next += 1

    @property
    def queries(self) -> NDArray[np.float32]:
        """(n, dims), in no order."""
        return np.stack(self._queries) if self._queries else np.empty((0, 0), dtype=np.float32)

    @property
    def distances(self) -> NDArray[np.float64]:
        """Of each query to its k-th answer, (n,)."""
        return np.array(self._distances)
