"""A promise: a recall that was asked for, the plan that reaches it, and the evidence.

Stored in `mrl.promise`. It becomes stale by measured drift: rows that were written since, or
queries that lie elsewhere than those of the evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db.model import html
from mrl_db.model.plan import Plan

Statistic = Literal["mean", "p05"]
SampleKind = Literal["given", "log", "rows"]

CHANGED_SHARE = 0.2  # of the rows written since the evidence, from which on a promise is stale
QUERIES_TO_JUDGE = 50
_LEVELS = np.linspace(0.0, 1.0, 21)
# Ranks of new queries' distances among the evidence's have the mean 0.5 where the queries are of
# one kind. They are not where it is off by this much, and by so many standard errors.
_SHIFT = 0.1
_SIGMAS = 4.0


@dataclass(frozen=True, slots=True)
class Target:
    """The recall to reach.

    Attributes:
        recall: Above 0, below 1.
        statistic: "mean" over queries, or "p05": the recall that 95 % of the queries reach.
    """

    recall: float
    statistic: Statistic = "mean"

    def __str__(self) -> str:
        name = "mean recall" if self.statistic == "mean" else "5th percentile of recall"
        return f"{name} {self.recall:g}"


@dataclass(frozen=True, slots=True)
class Recall:
    """The recall of a number of queries, and bounds of the mean over all queries of their kind.

    Attributes:
        queries: How many were measured.
        mean: Of the measured queries, like `p05` and `minimum`.
        p05: The recall that 95 % of the queries reach.
        minimum: Of the worst query.
        low: Lower bound of the mean over all queries, at 95 % confidence, however recall is
            distributed (`mrl_db.recall.bounds`).
        high: Upper bound, likewise.
        weight: How many times each miss of the walk counts in `low`. Above 1 where rows of the
            collection were the queries and the index finds rows more easily than fresh queries.
    """

    queries: int
    mean: float
    p05: float
    minimum: float
    low: float
    high: float
    weight: float = 1.0

    def __str__(self) -> str:
        weight = (
            ""
            if self.weight == 1.0
            else f"; misses of the index count {self.weight:.2g} times in the lower bound, as rows"
            " are easier to find than fresh queries"
        )
        return (
            f"mean {self.mean:.4f} ({self.low:.4f} to {self.high:.4f}), "
            f"5th percentile {self.p05:.3f}, minimum {self.minimum:.3f} "
            f"over {self.queries} queries{weight}"
        )


@dataclass(frozen=True, slots=True)
class Promise:
    """A target for k answers, the plan that meets it, and what was measured.

    Attributes:
        engine: "sql" or "native".
        target: What was asked for.
        k: Answers of a search.
        plan: Chosen on other queries than those that it was measured on.
        confidence: That queries of the same kind meet the target.
        recall: Of the queries that the plan was checked on.
        kind: The queries: "given", "log" (earlier searches) or "rows" of the collection.
        microseconds: Of one search, one at a time.
        p95_microseconds: The time that 95 % of the searches keep within.
        rows: How many there were.
        as_of: The transaction that stored it; rows written later bear a later id. None where a dump
            was restored since: the ids of its rows tell nothing.
        distances: 21 quantiles of the distance to the k-th answer.
        made_at: When it was stored.
        parts: How many parts a search was merged of (`mrl_db.parts`); of other searches it does not
            speak.
        stale: Why it no longer speaks of what is there; None while it does.
    """

    engine: str
    target: Target
    k: int
    plan: Plan
    confidence: float
    recall: Recall
    kind: SampleKind
    microseconds: float
    p95_microseconds: float
    rows: int
    as_of: int | None
    distances: tuple[float, ...]
    made_at: datetime | None = None
    stale: str | None = None
    parts: int = 1

    def __str__(self) -> str:
        queries = {"rows": "rows as queries", "log": "queries of the log", "given": "given queries"}
        when = "" if self.made_at is None else f" on {self.made_at:%Y-%m-%d}"
        stale = "" if self.stale is None else f"; stale: {self.stale}"
        return (
            f"{self.target} at k = {self.k} ({self.confidence:.0%} confidence), "
            f"measured {self.recall.mean:.4f} on {self.recall.queries} {queries[self.kind]}{when}, "
            f"{self.microseconds:.0f} µs a search{stale}"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("target", f"{self.target} at k = {self.k}, {self.confidence:.0%} confidence"),
            ("measured", self.recall),
            ("plan", f"{self.engine}: {self.plan}"),
            ("a search", f"{self.microseconds:.0f} µs, 95 % within {self.p95_microseconds:.0f} µs"),
            ("made at", self.made_at),
            ("stale", self.stale),
        ]
        return html.table("promise", (), [row for row in rows if row[1] is not None])

    def to_json(self) -> dict[str, Any]:
        """Returns what the catalogue stores beside the plan."""
        return {
            "recall": self.target.recall,
            "statistic": self.target.statistic,
            "k": self.k,
            "confidence": self.confidence,
            "measured": asdict(self.recall),
            "kind": self.kind,
            "microseconds": self.microseconds,
            "p95_microseconds": self.p95_microseconds,
            "rows": self.rows,
            "as_of": self.as_of,
            "distances": list(self.distances),
            **({"parts": self.parts} if self.parts > 1 else {}),
        }

    @staticmethod
    def from_json(
        engine: str, plan: Mapping[str, Any], entry: Mapping[str, Any], made_at: datetime
    ) -> Promise:
        """Returns the promise that `to_json` gave the catalogue."""
        same = ("k", "confidence", "kind", "microseconds", "p95_microseconds", "rows", "as_of")
        return Promise(
            engine=engine,
            target=Target(entry["recall"], entry["statistic"]),
            plan=Plan.from_json(plan),
            recall=Recall(**entry["measured"]),
            distances=tuple(entry["distances"]),
            made_at=made_at,
            parts=entry.get("parts", 1),
            **{name: entry[name] for name in same},
        )


def quantiles(distances: NDArray[np.float64]) -> tuple[float, ...]:
    """Returns the 21 quantiles of distances that a promise keeps; none where none are finite."""
    finite = distances[np.isfinite(distances)]
    return tuple(np.quantile(finite, _LEVELS).tolist()) if len(finite) else ()


def drift_of_rows(promise: Promise, rows: int, newer: float) -> str | None:
    """Says when so many rows came, went or were replaced that the evidence is of other rows.

    Args:
        promise: What was promised.
        rows: How many there are now.
        newer: Share of them that was written since.

    Returns:
        Why the promise is stale, or None.
    """
    old = round(rows * (1 - newer))
    if newer > CHANGED_SHARE:
        return f"{newer:.0%} of the {rows:,} rows were written since"
    if old < (1 - CHANGED_SHARE) * promise.rows:
        return f"{promise.rows - old:,} of the {promise.rows:,} rows that there were are gone"
    return None


def drift_of_queries(
    evidence: tuple[float, ...], measured: int, distances: NDArray[np.float64]
) -> str | None:
    """Says when queries lie farther from their answers, or nearer, than those of the evidence.

    Each distance's rank among the evidence's, as a share, is uniform between 0 and 1 where the
    queries are of one kind; the mean of n of them has the standard error 1 / sqrt(12 n).

    Args:
        evidence: 21 quantiles of the distances of `measured` queries to their k-th answers.
        measured: How many queries these were.
        distances: Of other queries to their k-th answers.

    Returns:
        Why a promise is stale, or None; None too where there are too few queries to judge.
    """
    finite = distances[np.isfinite(distances)]
    if len(finite) < QUERIES_TO_JUDGE or len(evidence) < 2:
        return None
    # A distance that many of the evidence's share has the middle of their ranks.
    marks = np.array(evidence)
    left, right = np.searchsorted(marks, finite, "left"), np.searchsorted(marks, finite, "right")
    between = np.interp(finite, marks, _LEVELS)
    tied = np.clip((left + right - 1) / 2, 0, len(marks) - 1) / (len(marks) - 1)
    ranks = np.where(right > left + 1, tied, between)
    shift = float(ranks.mean()) - 0.5
    noise = math.sqrt(1 / (12 * len(finite)) + 1 / (12 * max(measured, 1)))
    if abs(shift) < max(_SHIFT, _SIGMAS * noise):
        return None
    nearer = "nearer to" if shift < 0 else "farther from"
    return (
        f"the last {len(finite)} queries lie {nearer} their answers than those that it was measured"
        " on; tune with queries like them"
    )
