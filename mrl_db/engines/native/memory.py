"""What a loaded collection takes, in bytes, and what may be taken.

A row takes (docs/native.md shows the sum):

    float32 rows              4 dims, unless they stay in PostgreSQL
    int8 codes                dims, rounded up to 64, and 8 for scale and square (12 under cosine)
    keys                      their bytes (text: 12 more), and 5.3 to 10.7 for the table of them
    marks                     8.1
    line codes                128, where the plan has an int4 stage
    graph                     136
    prefix codes              dims of the prefix (or an eighth) and 4 to 10, where a stage has them
    while the graph is built  580 more
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mrl_db import _kernels
from mrl_db.model.errors import MemoryLimitError
from mrl_db.model.key import KEY_TYPES
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, Stage
from mrl_db.model.precision import Precision
from mrl_db.postgres.catalog import CollectionInfo

_TEXT_KEY_BYTES = 24 + 12  # a guess at the text, for the arithmetic only
_LINE_BYTES, _GRAPH_BYTES, _MARK_BYTES = 128, 136, 8.125


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that a loaded collection takes.

    Attributes:
        vectors: Its float32 vectors.
        resident: Codes, keys and links.
        building: What only the building of the graph needs.
    """

    vectors: int
    resident: int
    building: int

    @property
    def peak(self) -> int:
        """The most that is held at once."""
        return self.vectors + self.resident + self.building


def footprint(count: int, info: CollectionInfo, plan: Plan, *, in_memory: bool) -> Footprint:
    """Returns the bytes that loading `count` rows for a plan takes."""
    table = 64  # slots of the table of keys: a power of two, at most three quarters full
    while 4 * count > 3 * table:
        table *= 2
    scale_and_square = 12 if info.metric is Metric.cosine else 8
    key = KEY_TYPES[info.key_type].size or _TEXT_KEY_BYTES
    a_row = -(-info.dims // 64) * 64 + scale_and_square + key + _MARK_BYTES
    a_row += sum(_code_bytes(stage, info) for stage in plan.stages)
    graph = plan.route == "graph"
    return Footprint(
        vectors=4 * info.dims * count if in_memory else 0,
        resident=int(count * (a_row + (_GRAPH_BYTES if graph else 0))) + 4 * table,
        building=_kernels.BUILD_ROW_BYTES * count if graph else 0,
    )


def has_flat_codes(stage: Stage, dims: int) -> bool:
    """Whether codes are made for this stage; others look at the rows' own, or at lines."""
    return stage.precision is Precision.bit or (
        stage.precision is Precision.int8 and (stage.space == "projection" or stage.dims < dims)
    )


def _code_bytes(stage: Stage, info: CollectionInfo) -> int:
    """Bytes of a row that a stage adds."""
    width = _kernels.PROJECTION_DIMS if stage.space == "projection" else stage.dims
    square = 4 if info.metric is Metric.l2 else 0
    match stage.precision:
        case Precision.float32 | Precision.float16:
            return 0
        case Precision.int8:
            own = -(-width // 16) * 16 + 4 + square
            return own if has_flat_codes(stage, info.dims) else 0
        case Precision.int4:
            return _LINE_BYTES
        case Precision.bit:
            return -(-width // 64) * 8 + 6 + square


def check_memory(needed: Footprint, count: int, max_memory: int | None) -> None:
    """Raises MemoryLimitError when `count` rows need more than max_memory; None: what is free."""
    limit = _available_memory() if max_memory is None else max_memory
    if needed.peak <= limit:
        return
    whose = "is free here" if max_memory is None else "max_memory= allows"
    raise MemoryLimitError(
        f"{count} rows take {_megabytes(needed.vectors)} of float32 vectors, "
        f"{_megabytes(needed.resident)} of codes, keys and links, and "
        f"{_megabytes(needed.building)} more while the graph is built: {_megabytes(needed.peak)}, "
        f"and {_megabytes(limit)} {whose}; rows='postgres' leaves the vectors in PostgreSQL, "
        "route='flat' needs no graph, engine='sql' loads nothing"
    )


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _available_memory() -> int:
    """What this process may take without swapping: the system's figure, or the control group's."""
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
