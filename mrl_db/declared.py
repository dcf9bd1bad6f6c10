"""Recall, declared and measured: the part of a collection that promises, checks and explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mrl_db.door import checked_count, checked_engine
from mrl_db.engines.engine import TunableEngine
from mrl_db.engines.native import index as loading
from mrl_db.engines.sql import SqlEngine
from mrl_db.engines.tunable import TunableNative
from mrl_db.faces.progress import Progress, reporting
from mrl_db.handle import Handle
from mrl_db.hits import Trace
from mrl_db.model.errors import ShapeError
from mrl_db.model.plan import Plan, with_k
from mrl_db.model.promise import Promise, Recall, Statistic
from mrl_db.postgres import catalog
from mrl_db.recall import fates, promises
from mrl_db.recall.evidence import Scope, gather
from mrl_db.recall.explorer import Measured
from mrl_db.recall.measurement import measure, summarise
from mrl_db.recall.report import write as write_report
from mrl_db.recall.tuner import Wish, checked_target, tune


class DeclaredRecall(Handle):
    """A collection whose searches keep a recall that was asked for."""

    def tune(
        self,
        *,
        recall: float | None = None,
        k: int = 10,
        statistic: Statistic = "mean",
        p95_ms: float | None = None,
        queries: ArrayLike | None = None,
        engine: str = "auto",
        budget_seconds: float = 60.0,
        seed: int = 0,
        progress: Progress | bool = False,
    ) -> Promise:
        """Measures plans, stores the fastest one that is proven to keep the recall, and returns the promise; searches follow it from then
        on.

        recall: of k answers, above 0 and below 1. statistic: "mean" over queries, or "p05", the recall that 95 % of the queries reach.
        p95_ms: milliseconds that 95 % of the searches shall keep within; without recall=, the best recall within that is promised. queries:
        (n, dims) of the kind that will be asked; by default the queries that this object was asked, when it remembers 500, else rows of the
        collection, each left out of its own answers. engine: "sql", "native", or "auto": native where rows are loaded. budget_seconds:
        about as long as it may take; less means fewer queries, so a plan that is dearer than it need be. progress: True for a bar, or a
        function.

        A promise speaks of queries like those that it was measured on, with 95 % confidence, and of unfiltered searches. Raises
        TargetNotMetError when no plan that keeps the recall is fast enough for p95_ms, and says what the best reaches.
        """
        checked_engine(engine)
        target = checked_target(recall, statistic, p95_ms)
        wanted = checked_count(k, "k", 1000)
        asked = None if queries is None else self._queries(queries)[0]
        native = self._loaded() if self._runs_here(engine, None, None) else None
        if native is not None:
            native.sync()
        self._info = catalog.describe(self._session, self.name)
        wish = Wish(target, statistic, p95_ms, wanted, asked, budget_seconds, seed)
        with reporting(progress, "plans") as report:
            promise, self._tried = tune(
                self._tunable(native is not None),
                self._session,
                self._request(None),
                self._log,
                wish,
                report,
            )
        if native is not None:
            native.follow_plan(promise.plan)
        self._info = catalog.describe(self._session, self.name)
        self._promises[promise.engine] = promise
        return promise

    @property
    def tried(self) -> tuple[Measured, ...]:
        """The plans that the last `tune()` of this object measured, with their recall and time."""
        return self._tried

    @property
    def promise(self) -> Promise | None:
        """What searches are promised by the engine that answers them, or None; `stale` says why it no longer speaks of them, if so."""
        self._promises = promises.stored(self._session, self.name)
        promise = self._promises.get("sql" if self._native is None else "native")
        if promise is None:
            return None
        promise = promises.judged(self._session, self._request(None), promise, self._log)
        self._promises[promise.engine] = promise
        return promise

    def _tunable(self, here: bool) -> TunableEngine:
        return TunableNative(self._loaded()) if here else SqlEngine(self._session, self._info)

    def recall(
        self,
        queries: ArrayLike | None = None,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        plan: Plan | None = None,
        engine: str = "auto",
        sample: int = 500,
        seed: int | None = None,
    ) -> Recall:
        """Measures the recall of searches as they are now: mean, 5th percentile, minimum, and bounds of the mean.

        queries: (n, dims); by default `sample` rows drawn at random (of those that pass the filter), each left out of its own answers; what
        PostgreSQL's index misses of these counts more than once, as it finds rows too easily. where: measures searches with this filter.
        """
        checked_engine(engine)
        asked = None if queries is None else self._queries(queries)[0]
        here = self._runs_here(engine, None, plan)
        native = self._loaded() if here else None
        if native is not None:
            native.sync()
        wanted = checked_count(k, "k")
        used = (
            with_k(plan or self._loaded().plan, wanted) if here else self._plan(wanted, None, plan)
        )
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        n = checked_count(sample, "sample")
        _, recalls = measure(
            self._tunable(here),
            self._session,
            self._request(where),
            used,
            queries=asked,
            sample=n,
            seed=drawn,
        )
        return summarise(recalls)

    def explain(
        self,
        query: ArrayLike,
        *,
        want: Any = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        shortlist: int | None = None,
        plan: Plan | None = None,
        engine: str = "auto",
        as_stored: bool = False,
    ) -> Trace:
        """Returns how one search goes, stage by stage: rows in and out, bytes a row, microseconds; and what became of wanted rows.

        want: ids; `trace.fates` says of each whether it was found, else the stage that lost it, its rank there, and the least keep (or,
        where the walk did not meet it, effort) that would have saved it.
        """
        checked_engine(engine)
        queries, single = self._queries(query, as_stored)
        if not single:
            raise ShapeError(
                f"query has shape {queries.shape}, explain() takes one query: ({self.dims},)"
            )
        wanted, request = checked_count(k, "k"), self._request(where)
        if self._runs_here(engine, shortlist, plan):
            native = self._loaded()
            native.sync()
            if plan is not None:
                loading.check_native(plan, self._info)
            used = with_k(native.plan if plan is None else plan, wanted)
        else:
            used = self._plan(wanted, shortlist, plan)
        here = used.native
        keys = () if want is None else self._keys(want)
        return fates.explain(self._tunable(here), self._session, request, queries[0], used, keys)

    def report(
        self,
        folder: Path | str,
        *,
        queries: ArrayLike | None = None,
        judgements: Sequence[Mapping[Any, float]] | None = None,
        k: int = 10,
        engine: str = "auto",
        sample: int = 500,
        seed: int = 0,
        budget_seconds: float = 20.0,
    ) -> Path:
        """Measures this collection and writes report.html and its figures into a folder; returns the page's path.

        It shows recall (and nDCG) against dims, plans by time and recall with the one that searches follow, the recall of single queries,
        the energy of the first dims, and the stages' times. queries: (n, dims); by default rows of the collection. judgements: for each
        query the gain of ids, for nDCG, where the collection has at most 20,000 rows. Needs the extra `report`.
        """
        checked_engine(engine)
        asked = None if queries is None else self._queries(queries)[0]
        wanted = checked_count(k, "k")
        here = self._runs_here(engine, None, None)
        native = self._loaded() if here else None
        if native is not None:
            native.sync()
        evidence = gather(
            self._tunable(here),
            self._session,
            self._request(None),
            with_k(self._loaded().plan, wanted) if here else self._plan(wanted, None, None),
            self.promise,
            Scope(asked, judgements, checked_count(sample, "sample"), seed, budget_seconds),
        )
        return write_report(evidence, Path(folder))

    def _note(self, engine: str) -> Callable[[], str | None]:
        """Tells, when a trace is looked at, what the plan that was followed promises."""
        promise = self._promises.get(engine)
        if promise is None:
            return _nothing
        return lambda: str(
            replace(promise, stale=promise.stale or promises.drift_since(promise, self._log))
        )


def _nothing() -> None:
    return None
