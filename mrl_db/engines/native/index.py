"""Reading a collection into this process: rows by COPY, then their codes, then the graph."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels, kernels
from mrl_db.door import checked_choice, checked_count
from mrl_db.engines.native.default_effort import measure_effort
from mrl_db.engines.native.memory import check_memory, footprint, has_flat_codes
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection
from mrl_db.engines.native.unique_keys import check_unique
from mrl_db.faces.progress import Progress, reporting
from mrl_db.lifetime import Ended
from mrl_db.model.errors import PlanError, ValueRangeError
from mrl_db.model.filters import AllOf
from mrl_db.model.plan import Plan, flat_plan, graph_plan
from mrl_db.model.precision import Precision
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.positions import Position
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

BuildName = Literal["default", "fast"]  # csrc/graph/build.hpp says what each takes
_SHORTEST = 1e-15  # typical length of vectors; longest, its inverse
_BLOCK_BYTES = 8 << 20  # of decoded rows that are encoded together


@dataclass(frozen=True, slots=True)
class Loading:
    """What to load, and how; checked at the door.

    Attributes:
        plan: Its stages say which codes are made; the plan of searches that bring none.
        in_memory: Whether the float32 vectors are kept here, or stay in PostgreSQL.
        max_memory: Bytes that may be taken; None: what is free.
        build: The name of a build.
        threads: To build and to search batches with.
        max_staleness: Seconds that searches may be behind the database; infinity: no following.
        allow_rls_bypass: Load a table under row-level security.
        cache: Keep what was built as a file.
        part: Only the rows of one part of the table, (number, of how many); None: all.
        measured: The plan is the default one, and how far it walks is to be measured.
    """

    plan: Plan
    in_memory: bool = True
    max_memory: int | None = None
    build: BuildName = "default"
    threads: int = 1
    max_staleness: float = 0.0
    allow_rls_bypass: bool = False
    cache: bool = True
    part: tuple[int, int] | None = None
    measured: bool = False

    @property
    def form(self) -> dict[str, Any]:
        """What tells an index from others of the table; lengths of shortlists do not."""
        codes = [[stage.space, stage.dims, stage.precision.value] for stage in self.plan.stages]
        return {
            "route": self.plan.route,
            "codes": codes,
            "in_memory": self.in_memory,
            "build": self.build,
        }


def plan_to_load(
    info: CollectionInfo, route: str, plan: Plan | None, effort: int | None, promised: Plan | None
) -> Plan:
    """Returns the plan to load codes for: the given, the promised, or the default one of a route.

    Raises:
        ValueRangeError: There is no such route, or effort is no count.
        PlanError: effort and plan were both given.
    """
    checked_choice(route, "route", ("graph", "flat"))
    if plan is not None:
        if effort is not None:
            raise PlanError("effort= and plan= were both given; the plan says its effort")
        return plan
    if effort is not None:
        checked_count(effort, "effort")
    elif promised is not None and promised.route == route:
        return promised
    if route == "flat":
        return flat_plan(dims=info.dims)
    return (
        graph_plan(dims=info.dims) if effort is None else graph_plan(dims=info.dims, effort=effort)
    )


def read(
    session: Session,
    info: CollectionInfo,
    log: ChangeLog | None,
    loading: Loading,
    progress: Progress | bool,
    ended: threading.Event | None = None,
) -> tuple[_kernels.Index, Position | None]:
    """Returns the index of a table as one snapshot of the database sees it.

    Args:
        session: To read by.
        info: The collection.
        log: Its change log, where it is to be followed.
        loading: What to make.
        progress: Of the rows, then of the graph in per cent.
        ended: When it is set, the work is given up.

    Returns:
        The index, and where a reader of the log stands that has seen this; None without a log, or
        when the collection is gone.

    Raises:
        MemoryLimitError: Before a row is read.
        FreshnessError: The log does not see every write.
        Ended: `ended` was set.
    """
    request = Request(info, AllOf(()), ())
    plan, threads = loading.plan, loading.threads
    with session.snapshot(info.relation) as connection:
        count = rows.count_in(connection, request)
        position = None if log is None else log.position(connection)
        needed = footprint(count, info, plan, in_memory=loading.in_memory)
        check_memory(needed, count, loading.max_memory)
        index = _kernels.Index(
            kernels.native_metric(info.metric),
            info.dims,
            kernels.key_type(info.key_type),
            loading.in_memory,
        )
        index.reserve(count)
        done = 0
        blocks: list[Any] = []
        with reporting(progress, "rows") as report:
            for keys, vectors in copy_rows(
                connection, request, block_rows(info.dims, _BLOCK_BYTES)
            ):
                _give_up_once(ended)
                index.append(keys, vectors, threads)
                if not info.key_indexed:
                    blocks.append(keys)
                done += len(vectors)
                if report is not None:
                    report(done, count)
    if log is not None and position is not None:
        position = log.confirmed(info, position)
    check_unique(blocks, info)
    _add_codes(index, plan, threads)
    if plan.route == "graph":
        with reporting(progress, "graph, %") as report:

            def on(part: float, whole: float) -> None:
                _give_up_once(ended)
                if report is not None:
                    report(int(100 * part / whole), 100)

            index.build(loading.build, threads, on)
        if loading.measured:
            index.effort = measure_effort(index, info, threads, session)
    return index, position


def _give_up_once(ended: threading.Event | None) -> None:
    if ended is not None and ended.is_set():
        raise Ended


def check_plan(plan: Plan, info: CollectionInfo) -> None:
    """Raises PlanError when the native engine has no codes for a stage of the plan."""
    if not plan.native:
        raise PlanError(
            f"the plan's route {plan.route!r} is PostgreSQL's, the native engine's are 'graph' and "
            "'flat'"
        )
    if plan.dims != info.dims:
        raise PlanError(
            f'the plan ends at {plan.dims} dims, collection "{info.name}" has {info.dims}'
        )
    projected = min(info.dims, _kernels.PROJECTION_DIMS)
    for stage in plan.stages:
        if stage.precision.value not in _kernels.Precision.__members__:
            here = ", ".join(_kernels.Precision.__members__)
            why = f"the native engine has codes of {here}, no {stage.precision.value}"
        elif stage.precision is Precision.int4 and stage.space != "projection":
            why = "int4 codes are of the projection"
        elif stage.precision is Precision.float32 and stage.space != "prefix":
            why = "the projection has bit, int4 and int8 codes, no float32"
        elif stage.space == "projection" and stage.dims != projected:
            why = f"the projection has {projected} dims here"
        else:
            continue
        raise PlanError(f"stage ({stage}): {why}")


def _check_lengths(sample: NDArray[np.float32]) -> None:
    """Raises ValueRangeError where most squares of lengths are beyond float32."""
    lengths = np.linalg.norm(sample.astype(np.float64), axis=1)
    lengths = lengths[lengths > 0]
    typical = float(np.median(lengths)) if len(lengths) else 1.0
    if not _SHORTEST <= typical <= 1 / _SHORTEST:
        raise ValueRangeError(
            f"vectors have a length of some {typical:.1g}, wanted {_SHORTEST:g} to "
            f"{1 / _SHORTEST:g}: float32 does not hold the squares of others, so that distances "
            "are all alike; multiply the vectors by one number, or search with exact=True"
        )


def _add_codes(index: _kernels.Index, plan: Plan, threads: int) -> None:
    """Makes the codes that the plan's stages look at."""
    sample = index.sample(SAMPLE_ROWS)
    _check_lengths(sample)
    if any(stage.space == "projection" for stage in plan.stages):
        index.set_projection(*fit_projection(sample))
    if plan.route != "graph" and any(stage.precision is Precision.int4 for stage in plan.stages):
        index.add_line_codes(threads)
    for stage in plan.stages:
        if not has_flat_codes(stage, plan.dims):
            continue
        mean = None
        if stage.precision is Precision.bit and stage.space == "prefix":
            cut = sample[:, : stage.dims]
            mean = cut.mean(axis=0) if len(cut) else cut.sum(axis=0)
        precision = _kernels.Precision.__members__[stage.precision.value]
        space = _kernels.Space.__members__[stage.space]
        index.add_flat_codes(space, stage.dims, precision, mean, threads)
