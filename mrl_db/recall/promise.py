"""A promise: a recall that was declared, the plan that keeps it, and the evidence. Stored in `mrl.promise`, stale by measured drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.evaluate.metrics import Recall
from mrl_db.model.plan import Plan
from mrl_db.recall.bounds import mean_exceeds

CHANGED_SHARE = 0.2  # of the rows written since the evidence, from which on a promise is stale
QUERIES_TO_JUDGE = 50
_LEVELS = np.linspace(0.0, 1.0, 21)
# The mean place of new queries' distances among the evidence's, 0.5 where they are of one kind, is off by this much ...
_SHIFT = 0.1
_SIGMAS = 4.0  # ... and by so many standard errors


@dataclass(frozen=True, slots=True)
class Target:
    """What recall shall reach: its mean over queries, or the recall that 95 % of the queries reach ("p05")."""

    recall: float
    statistic: str = "mean"

    def proven(
        self,
        recalls: NDArray[np.float64],
        alpha: float,
        planned: int | None = None,
        least: float = 0.0,
    ) -> bool:
        """Whether recalls prove it at confidence 1 - alpha.

        planned: queries that there will be in the end, looked at one after another. least: what a recall may be at least (`Probe.least`).
        """
        return mean_exceeds(
            *self._as_mean(recalls), alpha, planned, least if self.statistic == "mean" else 0.0
        )

    def hopeless(self, recalls: NDArray[np.float64]) -> bool:
        """Whether what was seen lies so far below that more queries are not worth their time."""
        values, m = self._as_mean(recalls)
        return bool(values.mean() + 2.0 * values.std() / math.sqrt(len(values)) < m)

    def _as_mean(self, recalls: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """The target as a mean of values in [0, 1] that has to be above m."""
        if self.statistic == "mean":
            return recalls, self.recall
        return (recalls >= self.recall - 1e-9).astype(np.float64), 0.95

    def __str__(self) -> str:
        """Tells the target."""
        return f"{'mean recall' if self.statistic == 'mean' else '5th percentile of recall'} {self.recall:g}"


@dataclass(frozen=True, slots=True)
class Promise:
    """A target for k answers, the plan that meets it, and what was measured, on queries that were not used to choose the plan.

    confidence: that the target is met for queries of the same kind. kind: "given", "log" or "rows". microseconds, p95_microseconds: of one
    search, one at a time. rows: how many there were. written: rows written to the table until then, as PostgreSQL counted them. distances:
    21 quantiles of the distance to the k-th answer. stale: why it no longer speaks of what is there; None while it does.
    """

    engine: str
    target: Target
    k: int
    plan: Plan
    confidence: float
    recall: Recall
    kind: str
    microseconds: float
    p95_microseconds: float
    rows: int
    as_of: int
    distances: tuple[float, ...]
    made_at: datetime | None = None
    stale: str | None = None

    def __str__(self) -> str:
        """Tells the promise in one line."""
        what = {"rows": "rows as queries", "log": "queries of the log", "given": "given queries"}[
            self.kind
        ]
        when = "" if self.made_at is None else f" on {self.made_at:%Y-%m-%d}"
        stale = "" if self.stale is None else f"; stale: {self.stale}"
        return (
            f"{self.target} at k = {self.k} ({self.confidence:.0%} confidence), measured {self.recall.mean:.4f} on {self.recall.queries} "
            f"{what}{when}, {self.microseconds:.0f} µs a search{stale}"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns what the catalogue stores beside the plan."""
        r = self.recall
        return {
            "recall": self.target.recall,
            "statistic": self.target.statistic,
            "k": self.k,
            "confidence": self.confidence,
            "measured": {
                "queries": r.queries,
                "mean": r.mean,
                "p05": r.p05,
                "minimum": r.minimum,
                "low": r.low,
                "high": r.high,
            },
            "kind": self.kind,
            "microseconds": self.microseconds,
            "p95_microseconds": self.p95_microseconds,
            "rows": self.rows,
            "as_of": self.as_of,
            "distances": list(self.distances),
        }

    @staticmethod
    def from_json(
        engine: str, plan: Mapping[str, Any], entry: Mapping[str, Any], made_at: datetime
    ) -> Promise:
        """Returns the promise that `to_json` told."""
        return Promise(
            engine=engine,
            target=Target(entry["recall"], entry["statistic"]),
            k=entry["k"],
            plan=Plan.from_json(plan),
            confidence=entry["confidence"],
            recall=Recall(**entry["measured"]),
            kind=entry["kind"],
            microseconds=entry["microseconds"],
            p95_microseconds=entry["p95_microseconds"],
            rows=entry["rows"],
            as_of=entry["as_of"],
            distances=tuple(entry["distances"]),
            made_at=made_at,
        )


def quantiles(distances: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the 21 quantiles of distances that a promise keeps; none where there are no finite ones."""
    finite = distances[np.isfinite(distances)]
    return tuple(float(value) for value in np.quantile(finite, _LEVELS)) if len(finite) else ()


def drift_of_rows(promise: Promise, rows: int, newer: float) -> str | None:
    """Says when so many rows came, went or were replaced that the evidence speaks of another collection. newer: share of the rows now."""
    old = round(rows * (1 - newer))
    if newer > CHANGED_SHARE:
        return f"{newer:.0%} of the {rows:,} rows were written since"
    if old < (1 - CHANGED_SHARE) * promise.rows:
        return f"{promise.rows - old:,} of the {promise.rows:,} rows that there were are gone"
    return None


def drift_of_queries(
    evidence: tuple[float, ...], measured: int, distances: NDArray[np.float64]
) -> str | None:
    """Says when queries lie farther from their k-th answers, or nearer, than those of the evidence did.

    evidence: 21 quantiles of the distances of `measured` queries to their k-th answers. distances: those of other queries.

    Each distance's place among the evidence's quantiles is uniform between 0 and 1 where the queries are of one kind; the mean of n has the
    standard error 1 / sqrt(12 n).
    """
    finite = distances[np.isfinite(distances)]
    if len(finite) < QUERIES_TO_JUDGE or len(evidence) < 2:
        return None
    # A distance that many of the evidence's share has the middle of their places.
    marks = np.array(evidence)
    left, right = np.searchsorted(marks, finite, "left"), np.searchsorted(marks, finite, "right")
    inner = np.interp(finite, marks, _LEVELS)
    ties = np.clip((left + right - 1) / 2, 0, len(marks) - 1) / (len(marks) - 1)
    places = np.where(right > left + 1, ties, inner)
    shift = float(places.mean()) - 0.5
    noise = math.sqrt(1 / (12 * len(finite)) + 1 / (12 * max(measured, 1)))
    if abs(shift) < max(_SHIFT, _SIGMAS * noise):
        return None
    nearer = "nearer to" if shift < 0 else "farther from"
    return f"the last {len(finite)} queries lie {nearer} their answers than those that it was measured on; tune with queries like them"
