"""Loading a collection into this process: rows by COPY, decoded and encoded in C++ while they stream, then codes and the graph.

What it takes, in bytes a row (docs/native.md shows the sum):

    float32 rows              4 dims, unless they stay in PostgreSQL
    int8 codes                dims, rounded up to 64, and 8 for scale and square (12 under cosine)
    keys                      their bytes (text: 12 more), and 5.3 to 10.7 for the table that finds them
    marks                     4.1
    line codes                128, where the plan has an int4 stage
    graph                     136
    prefix codes              dims of the prefix (or an eighth of it) and 4 to 10, where the plan has such a stage
    while the graph is built  1,350 more
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from mrl_db import _kernels
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.engines.native.following import NEVER, LiveIndex
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection
from mrl_db.faces.progress import Report, reporting
from mrl_db.model.errors import MemoryLimitError, PlanError, ValueRangeError
from mrl_db.model.filters import AllOf
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan
from mrl_db.model.precision import Precision
from mrl_db.postgres import rows as stored_rows
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog, Position
from mrl_db.postgres.copy_out import copy_rows
from mrl_db.postgres.ingest import KEY_TYPES
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

_BLOCK_BYTES = 8 << 20  # of decoded rows that are encoded together
_BUILD_BYTES = 1350
_TEXT_KEY_BYTES = 24  # a guess, for the arithmetic only
_KEY_BYTES = {"smallint": 2, "integer": 4, "bigint": 8, "uuid": 16}
_NATIVE_METRIC = {
    Metric.cosine: _kernels.Metric.cosine,
    Metric.inner_product: _kernels.Metric.inner_product,
    Metric.l2: _kernels.Metric.l2,
}


# How much work goes into the graph: candidates that cells give, rows compared with each row, rounds of walks and their length.
@dataclass(frozen=True, slots=True)
class Build:
    """What `csrc/index/build.hpp` calls BuildOptions."""

    candidates: int
    compared_rows: int
    rounds: int
    walk_hops: int
    walk_pool: int
    alpha: float = 1.2


BUILDS = {
    "default": Build(candidates=96, compared_rows=4096, rounds=2, walk_hops=128, walk_pool=160),
    "fast": Build(candidates=48, compared_rows=2048, rounds=1, walk_hops=112, walk_pool=128),
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a loaded collection takes: its float32 vectors, all else, and what only the building of the graph needs."""

    vectors: int
    resident: int
    building: int

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.vectors + self.resident + self.building


def footprint(count: int, info: CollectionInfo, plan: Plan, *, in_memory: bool) -> Footprint:
    """Returns the bytes that loading `count` rows for a plan takes."""
    table = 64
    while 4 * count > 3 * table:
        table *= 2
    a_row = (
        -(-info.dims // 64) * 64
        + (12 if info.metric is Metric.cosine else 8)
        + _KEY_BYTES.get(info.key_type, _TEXT_KEY_BYTES + 12)
        + 4.125
    )
    for stage in plan.stages:
        width = _kernels.PROJECTION_DIMS if stage.space == "projection" else stage.dims
        if stage.precision is Precision.int4:
            a_row += 128
        elif stage.precision is Precision.bit:
            a_row += -(-width // 64) * 8 + 6 + (4 if info.metric is Metric.l2 else 0)
        elif stage.precision is Precision.int8 and (
            stage.dims < info.dims or stage.space == "projection"
        ):
            a_row += -(-width // 16) * 16 + 4 + (4 if info.metric is Metric.l2 else 0)
    graph = plan.route == "graph"
    resident = int(count * (a_row + (136 if graph else 0))) + 4 * table
    return Footprint(
        4 * info.dims * count if in_memory else 0, resident, _BUILD_BYTES * count if graph else 0
    )


def load(
    session: Session,
    info: CollectionInfo,
    plan: Plan,
    *,
    in_memory: bool,
    max_memory: int | None,
    build: str,
    threads: int,
    max_staleness: float,
    allow_rls_bypass: bool,
    cache: bool,
    progress: Report | bool,
) -> NativeEngine:
    """Returns the engine over all rows with a vector.

    progress: of the rows, then of the graph in per cent. Raises MemoryLimitError before a row is read.
    """
    if build not in BUILDS:
        raise ValueRangeError(f"build is {build!r}, wanted one of {', '.join(map(repr, BUILDS))}")
    check_native(plan, info)

    def read_rows(
        now: CollectionInfo, log: ChangeLog | None
    ) -> tuple[_kernels.Index, Position | None]:
        return read(
            session,
            now,
            log,
            plan,
            in_memory=in_memory,
            max_memory=max_memory,
            build=build,
            threads=threads,
            progress=progress,
        )

    # What makes an index another one; how long its shortlists are does not.
    codes = [[stage.space, stage.dims, stage.precision.value] for stage in plan.stages]
    form = {"route": plan.route, "codes": codes, "in_memory": in_memory, "build": build}
    live = LiveIndex(
        session,
        info,
        read_rows,
        allow_rls_bypass=allow_rls_bypass,
        follow=max_staleness < NEVER,
        cache=form if cache else None,
    )
    return NativeEngine(
        session, live, plan, in_memory=in_memory, threads=threads, max_staleness=max_staleness
    )


def read(
    session: Session,
    info: CollectionInfo,
    log: ChangeLog | None,
    plan: Plan,
    *,
    in_memory: bool,
    max_memory: int | None,
    build: str,
    threads: int,
    progress: Report | bool,
) -> tuple[_kernels.Index, Position | None]:
    """Returns the index of a table as one snapshot of the database sees it, and where a reader of its log stands that has seen this."""
    request = Request(info, AllOf(()), ())
    with session.transaction() as connection:
        connection.execute(statements.query("repeatable_read"))
        count = stored_rows.count_in(connection, request)
        position = None if log is None else log.position(connection)
        _check_memory(footprint(count, info, plan, in_memory=in_memory), count, max_memory)
        index = _kernels.Index(
            _NATIVE_METRIC[info.metric], info.dims, KEY_TYPES[info.key_type], in_memory
        )
        index.reserve(count)
        done = 0
        with reporting(progress, "rows") as report:
            for keys, vectors in copy_rows(
                connection, request, max(1, _BLOCK_BYTES // (4 * info.dims))
            ):
                index.append(keys, vectors, threads)
                done += len(vectors)
                if report is not None:
                    report(done, count)
    _add_codes(index, plan, threads)
    if plan.route == "graph":
        with reporting(progress, "graph, %") as report:
            told = (
                None if report is None else lambda part, whole: report(int(100 * part / whole), 100)
            )
            index.build(threads=threads, progress=told, **asdict(BUILDS[build]))
    return index, position


def check_native(plan: Plan, info: CollectionInfo) -> None:
    """Raises PlanError when the native engine has no codes for a stage of the plan."""
    if not plan.native:
        raise PlanError(
            f"the plan's route {plan.route!r} is PostgreSQL's, the native engine's are 'graph' and 'flat'"
        )
    if plan.dims != info.dims:
        raise PlanError(
            f'the plan ends at {plan.dims} dims, collection "{info.name}" has {info.dims}'
        )
    for stage in plan.stages:
        if stage.precision is Precision.float16:
            raise PlanError(
                f"stage ({stage}): the native engine has bit, int4, int8 and float32 codes, no float16"
            )
        if stage.precision is Precision.int4 and stage.space != "projection":
            raise PlanError(f"stage ({stage}): int4 codes are of the projection")
        if stage.precision is Precision.float32 and stage.space != "prefix":
            raise PlanError(
                f"stage ({stage}): the projection has bit, int4 and int8 codes, no float32"
            )
        if stage.space == "projection" and stage.dims != min(info.dims, _kernels.PROJECTION_DIMS):
            raise PlanError(
                f"stage ({stage}): the projection has {min(info.dims, _kernels.PROJECTION_DIMS)} dims here"
            )


def _add_codes(index: _kernels.Index, plan: Plan, threads: int) -> None:
    """Makes the codes that the plan's stages look at."""
    sample = index.sample(SAMPLE_ROWS)
    projection, prefix = _kernels.Space.projection, _kernels.Space.prefix
    if any(stage.space == "projection" for stage in plan.stages):
        index.set_projection(*fit_projection(sample))
    if plan.route != "graph" and any(stage.precision is Precision.int4 for stage in plan.stages):
        index.add_line_codes(threads)
    for stage in plan.stages:
        bits = stage.precision is Precision.bit
        if stage.space == "projection":
            if stage.precision is not Precision.int4:
                precision = _kernels.Precision.bit if bits else _kernels.Precision.int8
                index.add_flat_codes(projection, stage.dims, precision, None, threads)
        elif bits:
            cut = sample[:, : stage.dims]
            mean = cut.mean(axis=0) if len(cut) else cut.sum(axis=0)
            index.add_flat_codes(prefix, stage.dims, _kernels.Precision.bit, mean, threads)
        elif stage.precision is Precision.int8 and stage.dims < plan.dims:
            index.add_flat_codes(prefix, stage.dims, _kernels.Precision.int8, None, threads)


def _check_memory(needed: Footprint, count: int, max_memory: int | None) -> None:
    limit = _available_memory() if max_memory is None else max_memory
    if needed.peak <= limit:
        return
    whose = "is free here" if max_memory is None else "max_memory= allows"
    raise MemoryLimitError(
        f"{count} rows take {_megabytes(needed.vectors)} of float32 vectors, {_megabytes(needed.resident)} of codes, keys and links, and "
        f"{_megabytes(needed.building)} more while the graph is built: {_megabytes(needed.peak)}, and {_megabytes(limit)} {whose}; "
        "rows='postgres' leaves the vectors in PostgreSQL, route='flat' needs no graph, engine='sql' loads nothing"
    )


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _available_memory() -> int:
    """What this process may still take without swapping: the system's figure, and the control group's where that is smaller."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return available if limit == "max" else min(available, max(0, int(limit) - used))
    except (OSError, ValueError):
        return available
