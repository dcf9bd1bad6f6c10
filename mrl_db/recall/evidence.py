"""Measures what the report shows of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.engine import TunableEngine
from mrl_db.evaluate.representations import Quality, by_dims, energy
from mrl_db.hits import Trace
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise, Recall
from mrl_db.postgres.request import Request
from mrl_db.recall.explorer import Explorer
from mrl_db.recall.measurement import measure, summarise
from mrl_db.recall.sample import Sample
from mrl_db.recall.source import Source

_ROWS = 20_000  # of which recall against dims and the energy are measured
_QUERIES_OF_DIMS = 200
_QUERIES_OF_PLANS = 300
_EXPLAINED = 30
_SHORTLIST = 100
_RECALL_WORTH = 0.5  # below, a plan is no point of the figure
_ROUNDS = 5  # of timing, the plans in turns


@dataclass(frozen=True, slots=True)
class PlanPoint:
    """A plan with its recall and its time.

    Attributes:
        plan: In words.
        recall: The mean.
        microseconds: Of one search: the mean over queries, in the round in the middle.
        spread: The same in the fastest round, and in the slowest.
    """

    plan: str
    recall: float
    microseconds: float
    spread: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of a collection.

    Attributes:
        collection: Its name.
        engine: That searches.
        rows: Rows of the collection.
        dims: Full dims.
        low_dims: Of the low-dim vectors.
        metric: Its name.
        k: Answers of a search.
        queries: What was searched for, in words.
        promise: In one line; None: nothing is promised.
        stale: Why the promise no longer speaks of what is there, or None.
        recall: Of the plan that searches follow.
        recalls: Of each query by this plan, as it was measured, (n,).
        qualities: What fewer dims are worth.
        shortlist: Rows of the shortlist in `qualities`.
        plans: Other plans, by recall and time.
        chosen: The plan that searches follow.
        energy: Shares of the squared length: of the first dims, and of the best directions.
        stages: Of the plan that searches follow, with median times.
        made: When, in words.
    """

    collection: str
    engine: str
    rows: int
    dims: int
    low_dims: int
    metric: str
    k: int
    queries: str
    promise: str | None
    stale: str | None
    recall: Recall
    recalls: NDArray[np.float64]
    qualities: Sequence[Quality]
    shortlist: int
    plans: Sequence[PlanPoint]
    chosen: PlanPoint
    energy: tuple[NDArray[np.float64], NDArray[np.float64]]
    stages: Trace
    made: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to be measured, and how long it may take.

    Attributes:
        queries: (n, dims); None: rows drawn at random, each left out of its own answers.
        judgements: For each query the gain of keys, for nDCG, or None.
        sample: How many rows are drawn.
        seed: Of the draw.
        seconds: For the plans, about.
    """

    queries: NDArray[np.float32] | None = None
    judgements: Sequence[Mapping[Any, float]] | None = None
    sample: int = 500
    seed: int = 0
    seconds: float = 20.0


def gather(
    engine: TunableEngine,
    source: Source,
    request: Request,
    plan: Plan,
    promise: Promise | None,
    scope: Scope,
) -> Evidence:
    """Measures a collection.

    Args:
        engine: Synchronised.
        source: Where the rows are.
        request: The collection, unfiltered.
        plan: That searches for k answers follow.
        promise: Of these searches, judged, or None.
        scope: What is to be measured.
    """
    info = request.info
    rows_in_all = source.count(request)
    sample, recalls = measure(
        engine,
        source,
        request,
        plan,
        queries=scope.queries,
        sample=scope.sample,
        seed=scope.seed,
    )
    timed = sample.queries[:_EXPLAINED]
    explorer = Explorer(
        engine,
        request,
        engine.plan_space(plan.k, rows_in_all),
        sample.part(0, min(len(sample), _QUERIES_OF_PLANS)),
        seconds=scope.seconds,
    )
    recall = summarise(recalls)
    chosen, points = _points(explorer, plan, recall.mean)
    vectors, qualities = _qualities(source, request, sample, plan.k, rows_in_all, scope)
    origin = (
        "given queries"
        if scope.queries is not None
        else "rows drawn at random, each left out of its own answers"
    )
    return Evidence(
        collection=info.name,
        engine=engine.name,
        rows=rows_in_all,
        dims=info.dims,
        low_dims=info.low_dims,
        metric=info.metric.value,
        k=plan.k,
        queries=f"{len(sample):,} {origin}",
        promise=None if promise is None else str(promise),
        stale=None if promise is None else promise.stale,
        recall=recall,
        recalls=recalls.measured,
        qualities=qualities,
        shortlist=_SHORTLIST,
        plans=points,
        chosen=chosen,
        energy=energy(vectors),
        stages=_median_trace([engine.explain(request, query, plan) for query in timed]),
        made=f"Measured {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    )


def _qualities(
    source: Source,
    request: Request,
    sample: Sample,
    k: int,
    rows_in_all: int,
    scope: Scope,
) -> tuple[NDArray[np.float32], list[Quality]]:
    """Some of the collection's vectors, (n, dims), and what fewer dims of them are worth."""
    info = request.info
    keys, vectors = source.draw(request, _ROWS, scope.seed)
    own = sample.keys is not None
    queries = (vectors if own else sample.queries)[:_QUERIES_OF_DIMS]
    # Gains of rows that were not drawn would be missing.
    judged = scope.judgements is not None and len(keys) == rows_in_all
    qualities = by_dims(
        vectors,
        queries,
        info.nesting_dims if len(info.nesting_dims) > 1 else sorted({info.low_dims, info.dims}),
        metric=info.metric,
        k=k,
        shortlist=_SHORTLIST,
        ids=keys,
        judgements=scope.judgements[: len(queries)] if judged and scope.judgements else None,
        own_rows=range(len(queries)) if own else None,
    )
    return vectors, qualities


def _points(explorer: Explorer, chosen: Plan, recall: float) -> tuple[PlanPoint, list[PlanPoint]]:
    """The chosen plan, whose recall was measured, and the ladder up to the first plan without miss.

    All are timed in turns, so that noise meets all of them.
    """
    recall_of: dict[Plan, float] = {}
    ladder = []
    for plan in explorer.space.ladder():
        if explorer.late:
            break
        recall_of[plan] = 1.0 if plan.exact else float(explorer.recalls(plan).measured.mean())
        if recall_of[plan] >= _RECALL_WORTH:
            ladder.append(plan)
        if recall_of[plan] == 1.0:
            break
    explorer.time(list(dict.fromkeys([chosen, *ladder])), rounds=_ROUNDS)

    def point(plan: Plan, recall: float) -> PlanPoint:
        mean, spread = explorer.mean_microseconds(plan), explorer.spread_microseconds(plan)
        return PlanPoint(str(plan), recall, mean, spread)

    return point(chosen, recall), [point(plan, recall_of[plan]) for plan in ladder]


def _median_trace(traces: Sequence[Trace]) -> Trace:
    """One trace with each stage's median time."""
    first = traces[0]
    stages = tuple(
        replace(
            stage,
            microseconds=float(
                np.median([trace.stages[number].microseconds or 0.0 for trace in traces])
            ),
        )
        for number, stage in enumerate(first.stages)
    )
    total = float(np.median([trace.microseconds for trace in traces]))
    return replace(first, stages=stages, microseconds=total)
