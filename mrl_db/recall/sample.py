"""Queries with their exact answers: what recall is measured on.

Queries are the caller's, those of the log of earlier searches, or rows of the collection. A row is its own nearest neighbour, so it is left
out of its own answers; and an approximate search must not pass through it either, as its own node in a graph leads straight to its
neighbours: on 62,666 real rows a walk misses five times less for such queries than for ones that are no rows. The native engine hides
the row (csrc/index/hidden_rows.hpp). pgvector cannot, so what its walk misses is counted more than once: `walk_misses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines import exact
from mrl_db.model.errors import ShapeError
from mrl_db.postgres import rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

MAX_LISTED = 2500


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries (n, dims) with their exact answers (n, k), and the keys of the rows that they are, where they are rows."""

    kind: str  # "given", "log" or "rows"
    queries: NDArray[np.float32]
    ids: NDArray[Any]
    distances: NDArray[np.float64]
    keys: tuple[Any, ...] | None = None
    prefix_ranks: NDArray[np.int64] | None = (
        None  # (n, k): how many rows have a nearer low-dim prefix, MAX_LISTED where these or more
    )

    def __len__(self) -> int:
        """Queries."""
        return len(self.queries)

    @property
    def k(self) -> int:
        """Answers of each query."""
        return int(self.ids.shape[1])

    def part(self, begin: int, end: int) -> Sample:
        """The queries from begin to before end."""
        keys = None if self.keys is None else self.keys[begin:end]
        ranks = None if self.prefix_ranks is None else self.prefix_ranks[begin:end]
        return Sample(
            self.kind,
            self.queries[begin:end],
            self.ids[begin:end],
            self.distances[begin:end],
            keys,
            ranks,
        )


def walk_misses(ef_search: int) -> float:
    """Returns how many times as much a walk of pgvector's misses for a query that is no row as for a row.

    The row's node gives away its neighbours, all at once where the list of candidates is little longer than a node's 32 links. Measured
    with pgvector 0.8 (m = 16, ef_construction = 64, 1,500 queries of each kind) on 60,666 real rows and 200,000 generated ones: 2.5 to 3.8
    at ef_search 10 to 40, 2.2 to 2.6 at 64, 1.6 to 2.0 at 100, 1.3 to 1.9 at 130 to 800.
    """
    return float(np.interp(ef_search, (40, 100), (4.0, 2.0)))


def of_queries(
    session: Session, request: Request, queries: NDArray[np.float32], k: int, kind: str = "given"
) -> Sample:
    """Returns the queries with their k exact answers; fewer where fewer rows match."""
    found = exact.search(session, request, queries, k)
    return Sample(kind, queries, found.ids, found.distances)


def of_rows(session: Session, request: Request, n: int, k: int, seed: int) -> Sample:
    """Returns some n rows, drawn at random, with the k nearest other rows; raises ShapeError when there are fewer than two."""
    keys, vectors, _ = rows.get(
        session, request.info, rows.sample_keys(session, request, n, seed), ()
    )
    lengths = np.linalg.norm(vectors, axis=1)
    there = [
        place for place in range(len(keys)) if lengths[place] > 0
    ]  # the zero vector is no query
    keys, vectors = [keys[place] for place in there], vectors[there]
    if len(keys) < 2:
        raise ShapeError(
            f'collection "{request.info.name}" has {len(keys)} rows to ask for, wanted at least 2, or queries='
        )
    found = exact.search(session, request, vectors, k + 1)
    ids, distances = without(keys, found.ids, found.distances, found.ids.shape[1] - 1)
    return Sample("rows", vectors, ids, distances, tuple(keys))


def with_prefix_ranks(session: Session, request: Request, sample: Sample) -> Sample:
    """Returns the sample with the rank of each exact answer among the low-dim prefixes: what a shortlist without a walk would hold."""
    own = 0 if sample.keys is None else 1
    ranks = exact.prefix_ranks(
        session, request, sample.queries, request.info.low_dims, sample.ids, MAX_LISTED + own
    )
    return replace(
        sample, prefix_ranks=ranks - own
    )  # its own row is the nearest to each; where it is not, a rank is one too good


def without(
    keys: Sequence[Any], ids: NDArray[Any], distances: NDArray[np.float64], k: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Returns the answers (n, k) without each query's own row; where that was not among them, without the last."""
    own = ids == np.array(keys, dtype=ids.dtype)[:, np.newaxis]
    left_out = np.where(own.any(axis=1), own.argmax(axis=1), ids.shape[1] - 1)
    kept = np.ones(ids.shape, dtype=bool)
    kept[np.arange(len(ids)), left_out] = False
    return ids[kept].reshape(len(ids), -1)[:, :k], distances[kept].reshape(len(ids), -1)[:, :k]
