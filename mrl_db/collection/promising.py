"""Recall, promised and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mrl_db.collection.opened import EngineChoice, Face, Where
from mrl_db.door import checked_count, checked_seconds
from mrl_db.faces.progress import Progress, reporting
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise, Recall, Statistic
from mrl_db.postgres import standbys
from mrl_db.recall import evidence, measurement, tuner
from mrl_db.recall import report as pages


def tune(
    self: Face,
    *,
    recall: float | None = None,
    k: int = 10,
    statistic: Statistic = "mean",
    p95_ms: float | None = None,
    queries: ArrayLike | None = None,
    engine: EngineChoice = "auto",
    budget_seconds: float = 60.0,
    seed: int = 0,
    progress: Progress | bool = False,
) -> Promise:
    """Measures plans and stores the fastest one that is proven to keep the recall.

    Searches follow it from then on. The promise speaks of queries like those that it was measured
    on, with 95 % confidence, and of unfiltered searches.

    Args:
        recall: Of k answers, above 0 and below 1.
        k: Answers.
        statistic: "mean" over queries, or "p05", the recall that 95 % of the queries reach.
        p95_ms: Milliseconds that 95 % of the searches shall keep within; without recall=, the best
            recall within that is promised.
        queries: (n, dims) of the kind that will be searched for; by default the last queries of
            this object, when it remembers 500, else rows of the collection, each left out of its
            own answers.
        engine: Whose plans.
        budget_seconds: About as long as it may take; less means fewer queries, so a plan that is
            dearer than it need be.
        seed: Of what is drawn at random.
        progress: True for a bar, or a function called with (done, all or None).

    Raises:
        ReadOnlyError: Nothing can be stored here, as on a standby; before anything is measured.
        TargetNotMetError: No plan that keeps the recall is fast enough for p95_ms; the message says
            what the best reaches.
    """
    opened = self._opened
    target = tuner.checked_target(recall, statistic, p95_ms)
    k = checked_count(k, "k", 1000)
    seconds = checked_seconds(budget_seconds, "budget_seconds")
    given = None if queries is None else opened.queries(queries)[0]
    wish = tuner.Wish(target, statistic, p95_ms, k, given, seconds, seed)
    standbys.check_writable(opened.session, "the plan that tune() chooses")
    opened.describe()
    runner = opened.synced(engine)
    if runner.info.part is not None:
        raise ValueRangeError(
            f"what is loaded is part {runner.info.part} of the table, whose answers a promise does "
            'not speak of; tune a collection with all parts (mrl_db.parts), or engine="sql"'
        )
    with reporting(progress, "plans") as report:
        promise, opened.tried = tuner.tune(
            runner,
            opened.source(),
            opened.request(),
            opened.log,
            wish,
            report,
        )
    runner.follow_plan(promise.plan)
    opened.describe()
    opened.promises[promise.engine] = promise
    return promise


def promise(self: Face) -> Promise | None:
    """What the engine that answers searches promises; see `Collection.promise`."""
    opened = self._opened
    opened.promises = opened.stored_promises()
    stored = opened.promise_of(opened.engine("auto"))
    if stored is None:
        return None
    judged = opened.judged(stored)
    opened.promises[judged.engine] = judged
    return judged


def recall(
    self: Face,
    queries: ArrayLike | None = None,
    *,
    k: int = 10,
    where: Where | None = None,
    plan: Plan | None = None,
    engine: EngineChoice = "auto",
    sample: int = 500,
    seed: int | None = None,
) -> Recall:
    """Measures the recall of searches as they are now.

    Args:
        queries: (n, dims); by default rows drawn at random of those that pass the filter, each left
            out of its own answers. What PostgreSQL's index misses of these counts more than once,
            as it finds rows too easily.
        k: Answers.
        where: Measures searches with this filter.
        plan: By default the one that searches follow.
        engine: Whose searches.
        sample: How many rows are drawn.
        seed: Of the draw.

    Returns:
        Mean, 5th percentile, minimum, and bounds of the mean.
    """
    opened = self._opened
    given = None if queries is None else opened.queries(queries)[0]
    runner = opened.synced(engine, plan)
    _, recalls = measurement.measure(
        runner,
        opened.source(),
        opened.request(where, engine=runner),
        opened.plan_of(runner, checked_count(k, "k"), plan=plan),
        queries=given,
        sample=checked_count(sample, "sample"),
        seed=int(np.random.default_rng().integers(2**31)) if seed is None else seed,
    )
    return measurement.summarise(recalls)


def report(
    self: Face,
    folder: Path | str,
    *,
    queries: ArrayLike | None = None,
    judgements: Sequence[Mapping[Any, float]] | None = None,
    k: int = 10,
    engine: EngineChoice = "auto",
    sample: int = 500,
    seed: int = 0,
    budget_seconds: float = 20.0,
) -> Path:
    """Measures the collection and writes report.html and its figures into a folder.

    It shows recall (and nDCG) against dims, plans by time and recall with the one that searches
    follow, the recall of single queries, the energy of the first dims, and the stages' times. Needs
    the extra `report`.

    Args:
        folder: Made if need be.
        queries: (n, dims); by default rows of the collection.
        judgements: For each query the gain of ids, for nDCG, where the collection has at most
            20,000 rows.
        k: Answers.
        engine: Whose searches.
        sample: How many rows are drawn.
        seed: Of the draw.
        budget_seconds: For the plans, about.

    Returns:
        The page's path.
    """
    opened = self._opened
    target = pages.checked_folder(folder)
    given = None if queries is None else opened.queries(queries)[0]
    k = checked_count(k, "k")
    seconds = checked_seconds(budget_seconds, "budget_seconds")
    runner = opened.synced(engine)
    scope = evidence.Scope(given, judgements, checked_count(sample, "sample"), seed, seconds)
    gathered = evidence.gather(
        runner,
        opened.source(),
        opened.request(engine=runner),
        opened.plan_of(runner, k),
        promise(self),
        scope,
    )
    return pages.write(gathered, target)
