"""Loading: the rows in this process, and the native engine over them."""

from __future__ import annotations

from typing import Literal, get_args

from mrl_db import _kernels, door
from mrl_db.collection.opened import Face
from mrl_db.engines.native import engine
from mrl_db.engines.native.index import BuildName, Loading, plan_to_load
from mrl_db.faces.progress import Progress
from mrl_db.model.plan import Plan
from mrl_db.postgres import changes


def load(
    self: Face,
    *,
    route: Literal["graph", "flat"] = "graph",
    plan: Plan | None = None,
    effort: int | None = None,
    rows: Literal["memory", "postgres"] = "memory",
    max_memory: int | None = None,
    build: BuildName = "default",
    threads: int | None = None,
    max_staleness: float = 0.0,
    allow_rls_bypass: bool = False,
    cache: bool = True,
    part: tuple[int, int] | None = None,
    progress: Progress | bool = False,
) -> None:
    """Loads the rows into this process: searches run here at the speed of memory.

    A search then asks PostgreSQL first, in one round trip, what was committed since the last
    one, and applies it. Loading again starts afresh.

    Args:
        route: "graph" walks a proximity graph; "flat" scans a code of every row.
        plan: The stages to load codes for, instead of the route's promised or default ones.
        effort: Of the default plan's walk (`mrl_db.graph_plan`); None: as far as the rows need,
            which is measured.
        rows: "memory" keeps the float32 vectors here; "postgres" leaves them there, and fetches
            those of the last stage with one more round trip a search.
        max_memory: Bytes that may be taken; None: what is free.
        build: "fast": a graph in a third of the time that finds a little less.
        threads: To build and to search batches with; None: all.
        max_staleness: Seconds that searches may be behind the database: a thread then follows,
            and searches ask nobody, but see what this object wrote. Infinity: the rows stay as
            they are until `refresh()`, and no right on the change log is needed.
        allow_rls_bypass: Load a table under row-level security, whose policies then bind no
            search here.
        cache: Keep what was built as a file in the user's cache folder (MRL_DB_CACHE), which
            all processes of this machine map: the next load() takes a moment.
        part: (number from 0, of how many): only the rows of one part of the table, by a hash of
            the key. Searches here then answer from this part only, as their traces say; `recall()`
            measures within it. Everything else sees the whole table: `count`, `get`, `exact=True`,
            `engine="sql"`. `mrl_db.parts` searches several parts as one (docs/scale.md).
        progress: As above.

    Raises:
        MemoryLimitError: Before anything is read.
        PlanError: The plan is none of this engine's.
        ValueRangeError: Vectors are so short or so long that float32 tells no distances apart.
        RowSecurityError, PrivilegeError: Policies or rights stand in the way.
        FreshnessError: Writes to the table are not all logged.
    """
    opened = self._opened
    door.checked_choice(rows, "rows", ("memory", "postgres"))
    door.checked_choice(build, "build", get_args(BuildName))
    if plan is not None:
        door.checked_plan(plan)
    opened.promises = opened.stored_promises()
    promise = opened.promises.get("native")
    promised = None if promise is None else promise.plan
    loading = Loading(
        plan=plan_to_load(opened.info, route, plan, effort, promised),
        in_memory=rows == "memory",
        max_memory=None
        if max_memory is None
        else door.checked_count(max_memory, "max_memory", 2**62),
        build=build,
        threads=_kernels.available_threads()
        if threads is None
        else door.checked_count(threads, "threads"),
        max_staleness=door.checked_staleness(max_staleness),
        allow_rls_bypass=allow_rls_bypass,
        cache=cache,
        part=None if part is None else door.checked_part(part),
        measured=route == "graph" and plan is None and effort is None and promised is None,
    )
    unload(self)  # its memory is needed
    opened.describe()
    opened.engines["native"] = engine.load(opened.own, opened.info, loading, progress)


def summary(loaded: engine.NativeEngine) -> str:
    """Returns how many rows are here, and of which part of the table, in words."""
    of_part = "" if loaded.part is None else f", part {loaded.part} of the table"
    return f"{loaded.rows:,} rows{of_part}"


def unload(self: Face) -> None:
    """Gives the native engine's memory back; searches run in PostgreSQL again."""
    opened = self._opened
    loaded = opened.engines.pop("native", None)
    if loaded is not None:
        loaded.close()


def refresh(self: Face) -> None:
    """Loads the rows again as they are now, graph and projection included.

    Searches see what was written without it. It pays when a collection has become another one:
    twice as many rows, another model.

    Raises:
        NotLoadedError: They were not loaded.
    """
    opened = self._opened
    opened.native().load_afresh()


def log_health(self: Face) -> tuple[int, int, bool]:
    """Returns (changes that the log holds, its readers, whether all writes are logged)."""
    opened = self._opened
    return changes.health(opened.session, opened.info.name)
