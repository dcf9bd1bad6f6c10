"""Traces of searches in this process."""

from __future__ import annotations

from mrl_db import _kernels
from mrl_db.hits import StageTrace, Trace
from mrl_db.model.plan import Plan


def trace(
    plan: Plan,
    counts: _kernels.StageCounts,
    queries: int,
    microseconds: float | None = None,
    part: tuple[int, int] | None = None,
) -> Trace:
    """Rows and microseconds of every stage, on average of the queries; the time is a thread's."""
    n = max(queries, 1)
    stages = tuple(
        StageTrace(
            f"{plan.route}, {stage}" if number == 0 else str(stage),
            round(rows_in / n),
            round(rows_out / n),
            stage.precision.bytes(stage.dims),
            nanoseconds / n / 1000,
        )
        for number, (stage, (rows_in, rows_out, nanoseconds)) in enumerate(
            zip(plan.stages, counts, strict=True)
        )
    )
    total = sum(stage.microseconds or 0.0 for stage in stages)
    return Trace("native", total if microseconds is None else microseconds, stages, part=part)
