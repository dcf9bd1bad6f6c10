"""The exact engine: the rows streamed out of PostgreSQL once, decoded and scanned in C++.

This is the oracle: float64 distances, ties by key, nothing approximate. Memory is bounded by one
block of rows, plus the keys.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels, kernels
from mrl_db.engines.engine import Engine
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.model.errors import PlanError
from mrl_db.model.key import decode, id_dtype
from mrl_db.model.plan import Plan, Stage
from mrl_db.model.precision import Precision
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session


class ExactEngine(Engine):
    """Searches a collection by brute force."""

    name: Literal["exact"] = "exact"

    def __init__(self, session: Session, info: CollectionInfo) -> None:
        self._session = session
        self._info = info

    @property
    def info(self) -> CollectionInfo:
        """The collection as it was when the engine was made."""
        return self._info

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """Returns the plan of one stage: every row, by its full vector."""
        if shortlist is not None:
            raise PlanError("an exact search makes no shortlist; leave shortlist= out")
        return Plan("seqscan", 1, (Stage(self._info.dims, Precision.float32, k),))

    def check(self, plan: Plan) -> None:
        """Raises PlanError for any plan but that of one stage."""
        if plan != self.plan(plan.k):
            raise PlanError(f"an exact search follows no plan; leave plan= out ({plan})")

    def search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        *,
        threads: int | None = None,  # noqa: ARG002
        hidden: Sequence[Any] | None = None,
        fill: bool = True,  # noqa: ARG002
    ) -> Hits:
        """Returns the brute-force answer of each query; columns are of the same snapshot."""
        began = time.perf_counter()
        k = plan.k + (hidden is not None)
        scan = kernels.exact_scan(request.info.metric, queries, k)
        blocks: list[Any] = []
        with self._session.snapshot(request.info.relation) as connection:
            for block_keys, vectors in copy_rows(connection, request, block_rows(plan.dims)):
                blocks.append(block_keys)
                scan.scan(vectors)
            ids, distances = _best(scan, len(queries), k, blocks, request.info.key_type)
            columns = rows.columns_in(connection, request, ids)
        stage = StageTrace(
            f"exact {plan.dims} float32", scan.rows_scanned, ids.shape[1], 4 * plan.dims
        )
        trace = Trace("exact", (time.perf_counter() - began) * 1e6, (stage,))
        hits = Hits(ids, distances, trace, columns, certified=True)
        return hits if hidden is None else hits.without(hidden, plan.k)

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """Returns the trace of one search."""
        return self.search(request, query[np.newaxis], plan).trace

    def prefix_ranks(
        self,
        request: Request,
        queries: NDArray[np.float32],
        dims: int,
        ids: NDArray[Any],
        most: int,
    ) -> NDArray[np.int64]:
        """Returns where rows stand in the order of prefixes.

        Args:
            request: The rows that take part.
            queries: (n, dims of the collection).
            dims: Of the prefixes.
            ids: (n, k), of rows whose rank is wanted for each query.
            most: Ranks from this one on are not told apart.

        Returns:
            (n, k): how many rows have a prefix nearer to the query's than this row's; at most
            `most`.
        """
        scan = kernels.exact_scan(request.info.metric, queries[:, :dims], most)
        keys: list[Any] = []
        with self._session.snapshot(request.info.relation) as connection:
            for block_keys, vectors in copy_rows(
                connection, request, block_rows(request.info.dims)
            ):
                keys += decode(block_keys, request.info.key_type)
                scan.scan(vectors[:, :dims])
        every = np.array(keys, dtype=ids.dtype)
        ranks = np.full(ids.shape, most)
        for query, own in enumerate(ids):
            distances, positions = scan.hits(query)
            ordered = every[positions[np.argsort(distances, kind="stable")][:most]]
            rank, column = np.nonzero(ordered[:, np.newaxis] == own)
            ranks[query, column] = rank
        return ranks


def _best(
    scan: _kernels.ExactScan, n: int, k: int, blocks: list[Any], key_type: str
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Returns the k best of each query by distance, then key, NaN last.

    The scan hands over all that tie with the k-th. Blocks are of keys, as COPY brought them.
    """
    fixed = isinstance(blocks[0], np.ndarray)
    keys = np.concatenate(blocks) if fixed else list(chain.from_iterable(blocks))
    answers = []
    for query in range(n):
        distances, positions = scan.hits(query)
        encoded = keys[positions] if fixed else [keys[row] for row in positions.tolist()]
        far = np.where(np.isnan(distances), np.inf, distances).tolist()
        answers.append(sorted(zip(far, decode(encoded, key_type), strict=True))[:k])
    width = min(len(answer) for answer in answers)
    ids = np.empty((n, width), dtype=id_dtype(key_type))
    distances = np.empty((n, width))
    for query, answer in enumerate(answers):
        for rank, (distance, key) in enumerate(answer[:width]):
            distances[query, rank], ids[query, rank] = distance, key
    distances[np.isinf(distances)] = np.nan
    return ids, distances
