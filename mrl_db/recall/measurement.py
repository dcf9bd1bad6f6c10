"""The recall and the time of plans, by any engine, on a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import TunableEngine
from mrl_db.engines.plan_space import MAX_RANK
from mrl_db.evaluate.metrics import percentile05, recall_of
from mrl_db.model.errors import ShapeError
from mrl_db.model.plan import Plan, with_k
from mrl_db.model.promise import Recall
from mrl_db.postgres.request import Request
from mrl_db.recall.bounds import mean_lower_bound, mean_upper_bound
from mrl_db.recall.sample import (
    Sample,
    sample_of_queries,
    sample_of_rows,
    with_prefix_ranks,
)
from mrl_db.recall.source import Source


@dataclass(frozen=True, slots=True)
class Recalls:
    """The recall of each query of a sample by one plan, (n,) float64.

    Attributes:
        measured: As searches delivered it, 0 to 1.
        weighted: What proofs and lower bounds look at: with rows as queries, what the walk missed
            counts `weight` times, so that it can be below 0.
        weight: See `Recall.weight`.
    """

    measured: NDArray[np.float64]
    weighted: NDArray[np.float64]
    weight: float = 1.0

    @property
    def least(self) -> float:
        """The smallest weighted recall that there can be."""
        return 1.0 - self.weight

    @staticmethod
    def ones(n: int) -> Recalls:
        """Returns the recalls of a plan that is exact."""
        return Recalls(np.ones(n), np.ones(n))

    def followed_by(self, more: Recalls) -> Recalls:
        """Returns these and the recalls of further queries by the same plan."""
        return Recalls(
            np.concatenate([self.measured, more.measured]),
            np.concatenate([self.weighted, more.weighted]),
            more.weight,
        )


def recalls_of(engine: TunableEngine, request: Request, plan: Plan, sample: Sample) -> Recalls:
    """Returns the recall of each query of a sample by a plan."""
    if not plan.walks:
        scanned = _of_scan(plan, sample)
        if scanned is not None:
            return Recalls(scanned, scanned)
    measured = _searched(engine, request, plan, sample)
    weight = 1.0 if sample.keys is None else engine.misses_for_rows(plan)
    if weight == 1.0:
        return Recalls(measured, measured)
    scanned = np.ones(len(sample)) if plan.without_walk.exact else _of_scan(plan, sample)
    if scanned is None:
        scanned = _searched(engine, request, plan.without_walk, sample)
    missed_by_walk = np.maximum(scanned - measured, 0.0)
    return Recalls(measured, measured - (weight - 1.0) * missed_by_walk, weight)


def _searched(
    engine: TunableEngine, request: Request, plan: Plan, sample: Sample
) -> NDArray[np.float64]:
    hits = engine.search(
        request,
        sample.queries,
        with_k(plan, sample.k),
        threads=engine.threads,
        hidden=sample.keys,
    )
    return recall_of(hits.ids, hits.distances, sample.ids, sample.distances)


def _of_scan(plan: Plan, sample: Sample) -> NDArray[np.float64] | None:
    """The recall where the first stage looks at every row; None where prefix ranks cannot tell."""
    prefix, first = sample.prefix, plan.stages[0]
    if (
        prefix is None
        or len(plan.stages) != 2
        or (first.space, first.dims) != ("prefix", prefix.dims)
    ):
        return None
    if first.keep > MAX_RANK:
        return None
    return np.asarray((prefix.ranks < first.keep).mean(axis=1), dtype=np.float64)


def summarise(recalls: Recalls) -> Recall:
    """Returns what recalls, in random order, say of all queries of their kind.

    Mean, percentile and minimum are those that were measured, and so is the upper bound; the weight
    of what a walk misses goes into the lower bound alone.

    Raises:
        ShapeError: There are none.
    """
    measured = recalls.measured
    if len(measured) == 0:
        raise ShapeError("no queries, wanted at least one")
    return Recall(
        queries=len(measured),
        mean=float(measured.mean()),
        p05=percentile05(measured),
        minimum=float(measured.min()),
        low=max(0.0, mean_lower_bound(recalls.weighted, 0.05, recalls.least)),
        high=mean_upper_bound(measured, 0.05),
        weight=recalls.weight,
    )


def measure(
    engine: TunableEngine,
    source: Source,
    request: Request,
    plan: Plan,
    *,
    queries: NDArray[np.float32] | None,
    sample: int,
    seed: int,
) -> tuple[Sample, Recalls]:
    """Measures the recall of a plan as it is now; `summarise` says what it means.

    Args:
        engine: Synchronised.
        source: Where the rows are.
        request: The filter.
        plan: For k answers.
        queries: (n, dims); None: rows, each left out of its own answers.
        sample: How many rows.
        seed: Of their draw.
    """
    if queries is not None:
        drawn = sample_of_queries(source, request, queries, plan.k)
    else:
        drawn = sample_of_rows(source, request, sample, plan.k, seed)
        of_prefix = len(plan.stages) == 2 and plan.stages[0].space == "prefix"
        if of_prefix and engine.misses_for_rows(plan) != 1.0:
            drawn = with_prefix_ranks(source, request, drawn, plan.stages[0].dims)
    return drawn, recalls_of(engine, request, plan, drawn)


def microseconds(
    engine: TunableEngine,
    request: Request,
    plans: Sequence[Plan],
    queries: NDArray[np.float32],
    rounds: int,
) -> list[NDArray[np.float64]]:
    """Returns the time of each search by each plan, (rounds, n).

    One query at a time, and the plans in turns, so that noise meets all of them.
    """
    times = [np.empty((rounds, len(queries))) for _ in plans]
    for turn in range(rounds):
        for plan, own in zip(plans, times, strict=True):
            own[turn] = [1e6 * engine.seconds_of_one(request, query, plan) for query in queries]
    return times
