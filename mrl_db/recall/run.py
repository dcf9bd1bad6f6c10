"""Tuning and measuring one collection: draws the sample, asks the explorer, keeps the promise."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.native.engine import NativeEngine
from mrl_db.evaluate.metrics import Recall, summarise
from mrl_db.faces.progress import Report
from mrl_db.model.errors import PromiseWarning, ShapeError, ValueRangeError
from mrl_db.model.plan import Plan
from mrl_db.postgres import catalog, rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.recall import sample as samples
from mrl_db.recall.explorer import Explorer, Facts, Measured, NativeExplorer, SqlExplorer
from mrl_db.recall.probe import NativeProbe, Probe, SqlProbe
from mrl_db.recall.promise import Promise, Target, drift_of_queries, quantiles
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.sample import Sample
from mrl_db.recall.tuner import CONFIDENCE, Choice, choose, choose_within

_LOG_WORTH = 500  # queries of the log that are tuned with, rather than rows
_EXPLORED = {"native": 1000, "sql": 200}
_CHECKED = {"native": (1000, 6000), "sql": (1000, 1500)}
_EXACT_PER_SECOND = 2e10  # coordinates that the exact scan gets through on one core


def check_target(recall: float | None, statistic: str, p95_ms: float | None) -> Target | None:
    """Returns the target, or None where only the time is given; raises ValueRangeError."""
    if recall is None and p95_ms is None:
        raise ValueRangeError("tune() takes recall= or p95_ms=, or both")
    if statistic not in ("mean", "p05"):
        raise ValueRangeError(f"statistic is {statistic!r}, wanted 'mean' or 'p05'")
    if p95_ms is not None and not p95_ms > 0:
        raise ValueRangeError(f"p95_ms is {p95_ms!r}, wanted milliseconds above 0")
    if recall is None:
        return None
    if isinstance(recall, bool) or not isinstance(recall, (int, float)) or not 0 < recall < 1:
        raise ValueRangeError(
            f"recall is {recall!r}, wanted above 0 and below 1; search(exact=True) has recall 1"
        )
    return Target(float(recall), statistic)


def tune(
    session: Session,
    request: Request,
    native: NativeEngine | None,
    log: QueryLog,
    *,
    target: Target | None,
    statistic: str,
    p95_ms: float | None,
    k: int,
    queries: NDArray[np.float32] | None,
    seconds: float,
    seed: int,
    report: Report | None,
) -> tuple[Promise, tuple[Measured, ...]]:
    """Chooses a plan for the native engine, or for PostgreSQL where that is None, stores its promise, and returns it and what was tried."""
    engine = "sql" if native is None else "native"
    info = request.info
    total = rows.count(session, request)
    if total == 0:
        raise ShapeError(f'collection "{info.name}" is empty; tune it when it has rows')
    explored, checked = _samples(
        session, request, engine, log, target, k, queries, seconds, seed, total
    )
    facts = Facts(
        info.dims,
        info.low_dims,
        total,
        indexed=info.index is not None,
        loaded=None if native is None else native.plan,
    )
    probe = make_probe(session, request, native)
    form = SqlExplorer if native is None else NativeExplorer
    explorer: Explorer = form(probe, explored, facts, seconds=seconds / 3, report=report)
    if target is None:
        assert p95_ms is not None  # check_target
        choice = choose_within(explorer, checked, p95_ms, statistic)
    else:
        choice = choose(explorer, checked, target, p95_ms)
    promise = _promise(session, info, engine, choice, checked, total)
    return promise, choice.tried


def _promise(
    session: Session, info: CollectionInfo, engine: str, choice: Choice, checked: Sample, total: int
) -> Promise:
    promise = Promise(
        engine=engine,
        target=choice.target,
        k=checked.k,
        plan=choice.plan,
        confidence=CONFIDENCE,
        recall=choice.recall,
        kind=checked.kind,
        microseconds=choice.microseconds,
        p95_microseconds=choice.p95_microseconds,
        rows=total,
        as_of=rows.next_transaction(session),
        distances=quantiles(checked.distances[:, -1]),
    )
    return replace(
        promise,
        made_at=catalog.keep_promise(session, info.name, engine, promise.plan, promise.to_json()),
    )


def make_probe(session: Session, request: Request, native: NativeEngine | None) -> Probe:
    """Returns what measures the native engine, or PostgreSQL where that is None."""
    return SqlProbe(session, request) if native is None else NativeProbe(native, request)


def measure(
    session: Session,
    request: Request,
    native: NativeEngine | None,
    plan: Plan,
    queries: NDArray[np.float32] | None,
    *,
    k: int,
    n: int,
    seed: int,
) -> tuple[Recall, Sample, NDArray[np.float64]]:
    """Returns the recall of a plan as it is now, with the sample that it was measured on and the recall of each of its queries."""
    sample = (
        samples.of_rows(session, request, n, k, seed)
        if queries is None
        else samples.of_queries(session, request, queries, k)
    )
    if native is None and plan.route == "hnsw" and sample.kind == "rows":
        sample = samples.with_prefix_ranks(session, request, sample)
    probe = make_probe(session, request, native)
    recalls = probe.recalls(plan, sample)
    return summarise(recalls, probe.least(plan, sample)), sample, np.maximum(recalls, 0.0)


def _samples(
    session: Session,
    request: Request,
    engine: str,
    log: QueryLog,
    target: Target | None,
    k: int,
    queries: NDArray[np.float32] | None,
    seconds: float,
    seed: int,
    total: int,
) -> tuple[Sample, Sample]:
    """Returns the queries that plans are explored on, and those that the chosen one is checked on."""
    fewest, most = _CHECKED[engine]
    wanted = (
        fewest
        if target is None
        else int(
            np.clip(40 / (1 - target.recall if target.statistic == "mean" else 0.05), fewest, most)
        )
    )
    affordable = int(seconds / 3 * _EXACT_PER_SECOND / (total * request.info.dims))
    n = max(min(_EXPLORED[engine] + wanted, affordable), 300)
    if queries is None and log.k == k and len(log) >= _LOG_WORTH:
        queries, kind = log.queries, "log"
    else:
        kind = "given"
    if queries is None:
        sample = samples.of_rows(session, request, n, k, seed)
        asked = log.distances if log.k == k else np.empty(0)
        _warn_of_other_queries(sample, asked)
    else:
        order = np.random.default_rng(seed).permutation(len(queries))[:n]
        sample = samples.of_queries(session, request, queries[order], k, kind)
        _check_enough(len(sample), target)
    if sample.k < k:
        raise ShapeError(f'collection "{request.info.name}" has {sample.k} rows to find, k is {k}')
    if engine == "sql":
        sample = samples.with_prefix_ranks(session, request, sample)
    explored = min(_EXPLORED[engine], len(sample) // 3)
    return sample.part(0, explored), sample.part(explored, len(sample))


def _check_enough(n: int, target: Target | None) -> None:
    """Raises ValueRangeError when so few queries could prove the target by no recall at all."""
    if target is None:
        return
    m = target.recall if target.statistic == "mean" else 0.95
    fewest = math.ceil(1.5 * math.log(25) / math.log1p(0.75 / m * (1 - m)) * 1.1)
    if n < fewest:
        raise ValueRangeError(
            f"{n} queries cannot prove {target}: at least {fewest} are needed, or a lower target"
        )


def _warn_of_other_queries(sample: Sample, asked: NDArray[np.float64]) -> None:
    if drift_of_queries(quantiles(sample.distances[:, -1]), len(sample), asked) is not None:
        warnings.warn(
            "tuned on rows of the collection, and the queries that it was asked lie elsewhere: what they find may be less; give queries=",
            PromiseWarning,
            stacklevel=5,
        )
