"""Queries with their exact answers: what recall is measured on.

Queries are the caller's, those of earlier searches, or rows of the collection. A row is its own
nearest neighbour, so it is left out of its own answers. An approximate search must not pass through
it either: its own node in a graph leads straight to its neighbours. On 62,666 real rows a walk
misses five times less for such queries than for fresh ones. `Engine.search(hidden=)` hides rows;
what an engine still misses less is known to it (`Engine.misses_for_rows`).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.plan_space import MAX_RANK, PlanSpace
from mrl_db.model.errors import PromiseWarning, ShapeError, ValueRangeError
from mrl_db.model.promise import SampleKind, Target, drift_of_queries, quantiles
from mrl_db.postgres.request import Request
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.source import Source

_LOG_WORTH = 500  # queries of the log that are tuned with, rather than rows
_FEWEST = 300  # queries, however little time there is
_EXACT_PER_SECOND = 2e10  # coordinates that the exact scan gets through on one core


@dataclass(frozen=True, slots=True)
class PrefixRanks:
    """How many rows have a nearer prefix of `dims` dims than each exact answer, (n, k).

    `MAX_RANK` where these are as many or more. It is what a shortlist without a walk would hold.
    """

    dims: int
    ranks: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and their exact answers.

    Attributes:
        kind: Where the queries are from.
        queries: (n, dims) float32.
        ids: Of the exact answers, (n, k).
        distances: Of the exact answers, (n, k).
        keys: Of the rows that the queries are, where they are rows.
        prefix: Ranks of the answers by a prefix, where they are of use.
    """

    kind: SampleKind
    queries: NDArray[np.float32]
    ids: NDArray[Any]
    distances: NDArray[np.float64]
    keys: tuple[Any, ...] | None = None
    prefix: PrefixRanks | None = None

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def k(self) -> int:
        """Answers of each query."""
        return int(self.ids.shape[1])

    def part(self, begin: int, end: int) -> Sample:
        """Returns the queries from begin to before end."""
        prefix = self.prefix
        return Sample(
            self.kind,
            self.queries[begin:end],
            self.ids[begin:end],
            self.distances[begin:end],
            None if self.keys is None else self.keys[begin:end],
            None if prefix is None else replace(prefix, ranks=prefix.ranks[begin:end]),
        )


def sample_to_tune(
    source: Source,
    request: Request,
    space: PlanSpace,
    log: QueryLog,
    *,
    target: Target | None,
    k: int,
    queries: NDArray[np.float32] | None,
    rows_in_all: int,
    seconds: float,
    seed: int,
) -> tuple[Sample, Sample]:
    """Draws the queries to explore plans on, and those to check the chosen one on.

    Args:
        source: Where the rows are.
        request: The collection, unfiltered.
        space: The plans: how many queries they need.
        log: Earlier queries, taken where none are given and there are at least 500.
        target: What is to be proven; None: nothing.
        k: Answers of each query.
        queries: (n, dims) of the caller's; None: the log's, or rows drawn at random.
        rows_in_all: Rows of the collection.
        seconds: For all of the tuning. The exact answers may take a third.
        seed: Of the draw.

    Raises:
        ShapeError: The collection has fewer than k rows.
        ValueRangeError: The queries are too few to prove the target.
    """
    fewest, most = space.checked_queries
    checked = fewest
    if target is not None:
        slack = 1 - target.recall if target.statistic == "mean" else 0.05
        checked = int(np.clip(40 / slack, fewest, most))
    affordable = int(seconds / 3 * _EXACT_PER_SECOND / (rows_in_all * request.info.dims))
    n = max(min(space.explored_queries + checked, affordable), _FEWEST)
    kind: SampleKind = "given"
    if queries is None:
        logged = log.queries(k)
        if len(logged) >= _LOG_WORTH:
            queries, kind = logged, "log"
    if queries is None:
        sample = sample_of_rows(source, request, n, k, seed)
        _warn_of_other_queries(sample, log.distances(k))
    else:
        order = np.random.default_rng(seed).permutation(len(queries))[:n]
        sample = sample_of_queries(source, request, queries[order], k, kind)
        _check_enough(len(sample), target)
    if sample.k < k:
        raise ShapeError(f'collection "{request.info.name}" has {sample.k} rows to find, k is {k}')
    if space.shortlist_dims is not None:
        sample = with_prefix_ranks(source, request, sample, space.shortlist_dims)
    explored = min(space.explored_queries, len(sample) // 3)
    return sample.part(0, explored), sample.part(explored, len(sample))


def sample_of_queries(
    source: Source,
    request: Request,
    queries: NDArray[np.float32],
    k: int,
    kind: SampleKind = "given",
) -> Sample:
    """Returns queries with their k exact answers; fewer where fewer rows match."""
    hits = source.exact(request, queries, k)
    return Sample(kind, queries, hits.ids, hits.distances)


def sample_of_rows(source: Source, request: Request, n: int, k: int, seed: int) -> Sample:
    """Returns about n rows, drawn at random, with the k nearest other rows.

    Raises:
        ShapeError: There are fewer than two rows that can be queries.
    """
    keys, vectors = source.draw(request, n, seed)
    usable = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)  # the zero vector is no query
    keys, vectors = [keys[position] for position in usable], vectors[usable]
    if len(keys) < 2:
        raise ShapeError(
            f'collection "{request.info.name}" has {len(keys)} rows that can be queries, '
            "2 are needed; or give queries="
        )
    hits = source.exact(request, vectors, k, keys)
    return Sample("rows", vectors, hits.ids, hits.distances, tuple(keys))


def with_prefix_ranks(source: Source, request: Request, sample: Sample, dims: int) -> Sample:
    """Returns the sample with the rank of each exact answer among the prefixes of `dims` dims."""
    ranks = source.prefix_ranks(request, sample.queries, dims, sample.ids, MAX_RANK, sample.keys)
    return replace(sample, prefix=PrefixRanks(dims, ranks))


def _check_enough(n: int, target: Target | None) -> None:
    """Raises ValueRangeError when so few queries could prove the target by no recall at all."""
    if target is None:
        return
    # A bettor who never loses multiplies what he has by at most 1 + .75 / m · (1 - m) a query, and
    # needs 25 times what he began with; half as many again, as stakes grow only with evidence.
    m = target.recall if target.statistic == "mean" else 0.95
    fewest = math.ceil(1.5 * math.log(25) / math.log1p(0.75 / m * (1 - m)) * 1.1)
    if n < fewest:
        raise ValueRangeError(
            f"{n} queries cannot prove {target}: at least {fewest} are needed, or a lower target"
        )


def _warn_of_other_queries(sample: Sample, distances: NDArray[np.float64]) -> None:
    evidence = quantiles(sample.distances[:, -1])
    if drift_of_queries(evidence, len(sample), distances) is not None:
        warnings.warn(
            "tuned on rows of the collection, but earlier queries lie elsewhere: their recall may "
            "be lower; give queries=",
            PromiseWarning,
            stacklevel=5,
        )
