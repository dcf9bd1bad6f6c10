"""How plans do on a sample, by either engine: the recall of each query, and the time of each search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines import sql as sql_engine
from mrl_db.engines.native.engine import HiddenRows, NativeEngine
from mrl_db.evaluate.metrics import recall_of
from mrl_db.model.plan import Plan, with_k
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.recall.sample import MAX_LISTED, Sample, walk_misses, without

_CONNECTIONS = 2


class Probe(Protocol):
    """An engine to be measured."""

    engine: str

    def recalls(self, plan: Plan, sample: Sample) -> NDArray[np.float64]:
        """Returns the recall of each query of the sample, (n,)."""
        ...

    def least(self, plan: Plan, sample: Sample) -> float:
        """Returns what a recall may be at least: less than 0 where misses count more than once."""
        ...

    def search(self, queries: NDArray[np.float32], plan: Plan) -> None:
        """Searches once, for the one query of (1, dims), as a user does."""
        ...


class NativeProbe:
    """The native engine."""

    engine = "native"

    def __init__(self, engine: NativeEngine, request: Request) -> None:
        """engine: loaded, with what the plans need."""
        self._engine, self._request = engine, request
        self._hidden: dict[
            tuple[Any, ...], HiddenRows
        ] = {}  # samples are asked again with other plans

    def recalls(self, plan: Plan, sample: Sample) -> NDArray[np.float64]:
        """Returns the recall of each query of the sample, (n,)."""
        hidden = (
            None
            if sample.keys is None
            else self._hidden.setdefault(sample.keys, HiddenRows(sample.keys))
        )
        hits = self._engine.search(self._request, sample.queries, sample.k, plan, hidden=hidden)
        return recall_of(hits.ids, hits.distances, sample.ids, sample.distances)

    def least(self, plan: Plan, sample: Sample) -> float:  # noqa: ARG002
        """Returns 0."""
        return 0.0

    def search(self, queries: NDArray[np.float32], plan: Plan) -> None:
        """Searches once."""
        if self._engine.in_memory:
            self._engine.search_once(queries[0], plan)
        else:
            self._engine.search(self._request, queries, plan.k, plan, 1)


class SqlProbe:
    """PostgreSQL, through as many connections as keep two cores at work."""

    engine = "sql"

    def __init__(self, session: Session, request: Request) -> None:
        """Lends connections of the session's pool."""
        self._session, self._request = session, request

    def recalls(self, plan: Plan, sample: Sample) -> NDArray[np.float64]:
        """Returns the recall of each query of the sample, (n,); with rows as queries, what the walk misses counts more than once."""
        middle = (len(sample) + 1) // _CONNECTIONS
        parts = [
            part for part in (sample.part(0, middle), sample.part(middle, len(sample))) if len(part)
        ]
        with ThreadPoolExecutor(_CONNECTIONS) as threads:
            return np.concatenate(list(threads.map(lambda part: self._recalls(plan, part), parts)))

    def _recalls(self, plan: Plan, sample: Sample) -> NDArray[np.float64]:
        if (
            plan.route == "seqscan"
            and sample.prefix_ranks is not None
            and plan.stages[0].keep <= MAX_LISTED
        ):
            return np.asarray(
                (sample.prefix_ranks < plan.stages[0].keep).mean(axis=1), dtype=np.float64
            )  # a scan misses nothing else
        if sample.keys is None:
            hits = sql_engine.search(
                self._session, self._request, sample.queries, with_k(plan, sample.k)
            )
            return recall_of(hits.ids, hits.distances, sample.ids, sample.distances)
        # Each row takes the first place of every list of its own: lists are one longer, and it is left out.
        longer = replace(
            plan,
            stages=tuple(
                replace(stage, keep=stage.keep + 1) for stage in with_k(plan, sample.k).stages
            ),
        )
        hits = sql_engine.search(self._session, self._request, sample.queries, longer)
        ids, distances = without(sample.keys, hits.ids, hits.distances, sample.k)
        recalls = recall_of(ids, distances, sample.ids, sample.distances)
        if plan.route != "hnsw" or sample.prefix_ranks is None:
            return recalls
        without_walk = (sample.prefix_ranks < plan.stages[0].keep).mean(axis=1)
        missed = np.maximum(without_walk - recalls, 0.0)
        return np.asarray(recalls - (walk_misses(plan.effort) - 1.0) * missed, dtype=np.float64)

    def least(self, plan: Plan, sample: Sample) -> float:
        """Returns what a recall may be at least; with rows as queries what the walk misses counts more than once."""
        more_than_once = (
            plan.route == "hnsw" and sample.keys is not None and sample.prefix_ranks is not None
        )
        return 1.0 - walk_misses(plan.effort) if more_than_once else 0.0

    def search(self, queries: NDArray[np.float32], plan: Plan) -> None:
        """Searches once."""
        sql_engine.search(self._session, self._request, queries, plan)


def microseconds(
    probe: Probe, plans: Sequence[Plan], queries: NDArray[np.float32], rounds: int
) -> list[NDArray[np.float64]]:
    """Returns the time of each search by each plan, (rounds, n): one query at a time, the plans in turns, so that noise meets all."""
    times = [np.empty((rounds, len(queries))) for _ in plans]
    for turn in range(rounds):
        for plan, own in zip(plans, times, strict=True):
            for place in range(len(queries)):
                began = time.perf_counter()
                probe.search(queries[place : place + 1], plan)
                own[turn, place] = (time.perf_counter() - began) * 1e6
    return times
