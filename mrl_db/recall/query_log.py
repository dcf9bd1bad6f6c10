"""The last queries of a collection: to tune with, and to notice when they change in kind."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from mrl_db.hits import Hits
from mrl_db.lifetime import renew_after_fork

_OF_A_BATCH = 256  # at most, evenly spread
_ONE_IN = 16  # of queries that take the short way: to copy each would cost a tenth of the search
_MOST_KS = 4  # a log each; the k that was not searched for the longest time is forgotten


class QueryLog:
    """Keeps the last queries for each k, with the distance of their k-th answer.

    Of single native searches it keeps one in sixteen, of a batch at most 256. Any number of threads
    may write and read it.
    """

    def __init__(self, keep: int = 2048) -> None:
        """Makes an empty log.

        Args:
            keep: Queries to remember for each k; 0 remembers none.
        """
        self.keep = keep
        self._rings: OrderedDict[int, _Ring] = OrderedDict()
        self._lock = threading.Lock()
        self._passed = itertools.count(1)  # next() is one step for all threads
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forgets what another thread of the parent was writing."""
        if self._lock.locked():
            self._rings.clear()
            self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(len(ring.distances) for ring in list(self._rings.values()))

    def pass_by(self, query: object, hits: Hits, k: int) -> None:
        """Remembers one in sixteen of the queries, (dims,), that it is called with."""
        if next(self._passed) % _ONE_IN == 0 and isinstance(query, np.ndarray):
            self.note(query[np.newaxis], hits.distances[np.newaxis], k)

    def note(self, queries: NDArray[np.float32], distances: NDArray[np.float64], k: int) -> None:
        """Remembers queries.

        Args:
            queries: (n, dims).
            distances: Of their answers, (n, up to k). Fewer than k say that there are fewer rows:
                such queries are not remembered, as their last distance says nothing.
            k: Answers of each query.
        """
        if not self.keep or distances.shape[-1] < k:
            return
        step = max(1, -(-len(queries) // _OF_A_BATCH))
        with self._lock:
            ring = self._rings.setdefault(k, _Ring())
            self._rings.move_to_end(k)
            if len(self._rings) > _MOST_KS:
                self._rings.popitem(last=False)
            for query, distance in zip(
                queries[::step], distances[::step, -1].tolist(), strict=True
            ):
                ring.put(query.copy(), distance, self.keep)

    def queries(self, k: int) -> NDArray[np.float32]:
        """Returns the queries for k answers, (n, dims), in no order."""
        with self._lock:
            ring = self._rings.get(k)
            return np.stack(ring.queries) if ring else np.empty((0, 0), dtype=np.float32)

    def distances(self, k: int) -> NDArray[np.float64]:
        """Returns the distance of each query for k answers to its k-th, (n,)."""
        with self._lock:
            ring = self._rings.get(k)
            return np.array(ring.distances if ring else (), dtype=np.float64)


class _Ring:
    """Queries and distances in the same order; the oldest is replaced when it is full."""

    def __init__(self) -> None:
        self.queries: list[NDArray[np.float32]] = []
        self.distances: list[float] = []
        self._next = 0

    def put(self, query: NDArray[np.float32], distance: float, keep: int) -> None:
        if len(self.queries) < keep:
            self.queries.append(query)
            self.distances.append(distance)
        else:
            self.queries[self._next], self.distances[self._next] = query, distance
            self._next = (self._next + 1) % keep
