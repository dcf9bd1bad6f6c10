"""Measures what the report shows of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines import sql as sql_engine
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.evaluate.representations import by_dims, energy
from mrl_db.hits import Trace
from mrl_db.model.plan import Plan
from mrl_db.postgres import rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.recall.explorer import Explorer, Facts, NativeExplorer, SqlExplorer
from mrl_db.recall.probe import microseconds
from mrl_db.recall.promise import Promise
from mrl_db.recall.report import Findings, PlanPoint
from mrl_db.recall.run import make_probe, measure

_LOOKED_AT = 20_000  # rows, of which recall against dims and the energy are measured
_ASKED_OF_DIMS = 200
_EXPLAINED = 30
_SHORTLIST = 100
_RECALL_WORTH = 0.5  # below, a plan is no point of the figure


def gather(
    session: Session,
    request: Request,
    native: NativeEngine | None,
    plan: Plan,
    promise: Promise | None,
    *,
    queries: NDArray[np.float32] | None,
    judgements: Sequence[Mapping[Any, float]] | None,
    k: int,
    n: int,
    seed: int,
    seconds: float,
) -> Findings:
    """Returns the findings for the plan that searches follow."""
    info = request.info
    total = rows.count(session, request)
    recall, sample, recalls = measure(session, request, native, plan, queries, k=k, n=n, seed=seed)
    probe = make_probe(session, request, native)
    timed = sample.queries[:_EXPLAINED]
    chosen = PlanPoint(
        str(plan),
        recall.mean,
        float(np.median(microseconds(probe, [plan], timed, 3)[0].mean(axis=1))),
    )
    facts = Facts(
        info.dims,
        info.low_dims,
        total,
        indexed=info.index is not None,
        loaded=None if native is None else native.plan,
    )
    form = SqlExplorer if native is None else NativeExplorer
    points = _points(
        form(probe, sample.part(0, min(len(sample), 300)), facts, seconds=seconds, report=None)
    )

    keys = rows.sample_keys(session, request, _LOOKED_AT, seed)
    present, vectors, _ = rows.get(session, info, keys, ())
    asked = (vectors if sample.keys is not None else sample.queries)[:_ASKED_OF_DIMS]
    qualities = by_dims(
        vectors,
        asked,
        info.nesting_dims if len(info.nesting_dims) > 1 else sorted({info.low_dims, info.dims}),
        metric=info.metric,
        k=k,
        shortlist=_SHORTLIST,
        ids=present,
        judgements=None if judgements is None or len(present) < total else judgements[: len(asked)],
        own_rows=None if sample.keys is None else range(len(asked)),
    )
    kind = (
        "given queries"
        if queries is not None
        else "rows drawn at random, each left out of its own answers"
    )
    return Findings(
        collection=info.name,
        engine=probe.engine,
        rows=total,
        dims=info.dims,
        low_dims=info.low_dims,
        metric=info.metric.value,
        k=k,
        asked=f"{len(sample):,} {kind}",
        promise=None if promise is None else str(promise),
        stale=None if promise is None else promise.stale,
        recall=recall,
        recalls=recalls,
        qualities=qualities,
        shortlist=_SHORTLIST,
        plans=points,
        chosen=chosen,
        energy=energy(vectors),
        stages=_mean_trace([_explained(session, request, native, query, plan) for query in timed]),
        made=f"Measured {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    )


def _points(explorer: Explorer) -> list[PlanPoint]:
    points = []
    for plan in explorer.ladder():
        if explorer.late:
            break
        recall = float(explorer.recalls(plan).mean()) if len(plan.stages) > 1 else 1.0
        if recall >= _RECALL_WORTH:
            explorer.time([plan], rounds=2)
            points.append(PlanPoint(str(plan), recall, explorer.mean_microseconds(plan)))
        if recall == 1.0:
            break
    return points


def _explained(
    session: Session,
    request: Request,
    native: NativeEngine | None,
    query: NDArray[np.float32],
    plan: Plan,
) -> Trace:
    if native is None:
        return sql_engine.explain(session, request, query, plan)
    return native.search(request, query[np.newaxis], plan.k, plan, 1).trace


def _mean_trace(traces: Sequence[Trace]) -> Trace:
    """One trace with each stage's median time."""
    stages = [
        replace(
            stage,
            microseconds=float(
                np.median([trace.stages[place].microseconds or 0.0 for trace in traces])
            ),
        )
        for place, stage in enumerate(traces[0].stages)
    ]
    return replace(
        traces[0],
        stages=tuple(stages),
        microseconds=float(np.median([trace.microseconds for trace in traces])),
    )
