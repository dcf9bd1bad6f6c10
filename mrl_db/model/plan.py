"""A plan: which stages a search goes through, as pure data with its laws.

A plan is a route (where the first stage gets its rows from), an effort (the route's search width)
and stages. Every stage looks at the rows that are left, with a few dims or a low precision first,
and keeps the best of them. The laws, checked when a plan is made:

1. dims rise, or precision rises at equal dims, from stage to stage;
2. keeps fall, and the last keep is k;
3. the last stage looks at the full vector at float32.

A plan whose keeps all equal the number of rows gives exactly the brute-force answer, whatever its
stages (docs/design.md, law 1).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

from mrl_db.model.errors import PlanError
from mrl_db.model.precision import Precision, PrecisionName

Route = Literal["mrl", "hnsw", "seqscan", "graph", "flat"]
Space = Literal["prefix", "projection"]

# pgvector refuses a wider search (hnsw.ef_search, 1 to 1000); beyond it an iterative scan goes on.
MAX_EFFORT = 1000
# A walk of a graph of ours may go on for longer; at some point the flat route is faster.
MAX_HOPS = 100_000
# Coordinates of the projection that line codes hold (csrc/store/line_codes.hpp).
PROJECTION_DIMS = 240
_SQL_ROUTES = ("mrl", "hnsw", "seqscan")
_NATIVE_ROUTES = ("graph", "flat")


@dataclass(frozen=True, slots=True)
class Stage:
    """One look at the rows that are left.

    Attributes:
        dims: Coordinates that it looks at, the first ones.
        precision: How they are stored; a name is taken, too.
        keep: Rows that it passes on.
        space: "prefix" of the vector, or of its "projection".

    Raises:
        PlanError: One of these is nothing of the kind.
    """

    dims: int
    precision: Precision
    keep: int
    space: Space = "prefix"

    def __post_init__(self) -> None:
        """Checks what it was given."""
        if type(self.precision) is not Precision:
            object.__setattr__(self, "precision", Precision.of(self.precision))
        for name, value in (("dims", self.dims), ("keep", self.keep)):
            if type(value) is not int:
                object.__setattr__(self, name, _whole(value, f"a stage's {name}"))
        if self.space not in ("prefix", "projection"):
            raise PlanError(f"space is {self.space!r}, wanted 'prefix' or 'projection'")

    def __str__(self) -> str:
        """Tells the stage in a few words, as traces show it."""
        return f"{self.space} {self.dims} {self.precision.value}, keep {self.keep}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search goes. Raises PlanError when a law is broken.

    Attributes:
        route: "mrl", "hnsw" or "seqscan" in PostgreSQL, "graph" or "flat" in this process. A plan
            by "mrl" has one stage: the index has a shortlist of its own, and orders it by the full
            vectors.
        effort: `mrl.effort`, `hnsw.ef_search`, or how many hops a walk over the graph makes at
            most; the scans make nothing of it.
        stages: The last one looks at the full vector.
        margin: A walk over the graph ends earlier when the next row to follow is farther than the
            last answer so far by this much, as an inner product of vectors of length 1; so an easy
            query takes fewer hops than a hard one. None: what goes with the effort; infinity: all
            hops, for every query.
    """

    route: Route
    effort: int
    stages: tuple[Stage, ...]
    margin: float | None = None

    def __post_init__(self) -> None:
        """Checks the laws."""
        if type(self.effort) is not int:
            object.__setattr__(self, "effort", _whole(self.effort, "effort"))
        if type(self.stages) is not tuple:
            object.__setattr__(self, "stages", _listed(self.stages))
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise PlanError(f"stages holds {stage!r:.60}, wanted a Stage")
        if self.route not in (*_SQL_ROUTES, *_NATIVE_ROUTES):
            raise PlanError(
                f"route is {self.route!r}, wanted 'mrl', 'hnsw' or 'seqscan' in PostgreSQL, "
                "'graph' or 'flat' in this process"
            )
        of_pgvector = self.route in ("hnsw", "seqscan")
        if not 1 <= self.effort <= (MAX_EFFORT if of_pgvector else MAX_HOPS):
            limit = (
                f"pgvector searches with 1 to {MAX_EFFORT}"
                if of_pgvector
                else f"a walk makes 1 to {MAX_HOPS} hops"
            )
            raise PlanError(f"effort is {self.effort}, {limit}")
        margin = self.margin
        if margin is not None and not (
            self.route == "graph" and isinstance(margin, Real) and margin >= 0
        ):
            raise PlanError(
                f"margin is {margin!r} on route {self.route!r}; a walk over the graph takes one of "
                "at least 0"
            )
        if not self.stages:
            raise PlanError(
                "a plan without stages; the last stage must look at the full vector at float32"
            )
        if self.route == "mrl" and len(self.stages) != 1:
            raise PlanError(
                f"a plan by 'mrl' has {len(self.stages)} stages, wanted the full vectors' alone: "
                "the index makes its own shortlist"
            )
        for stage in self.stages:
            if stage.dims < 1 or stage.keep < 1:
                raise PlanError(f"stage ({stage}) has dims or a keep below 1")
        for earlier, later in zip(self.stages, self.stages[1:], strict=False):
            wider = later.dims > earlier.dims
            finer = later.dims == earlier.dims and later.precision.bits > earlier.precision.bits
            if not (wider or finer):
                raise PlanError(
                    f"stage ({later}) does not look at more than the stage before it ({earlier})"
                )
            if later.precision.bits < earlier.precision.bits:
                raise PlanError(
                    f"stage ({later}) is less precise than the stage before it ({earlier})"
                )
            if later.keep > earlier.keep:
                raise PlanError(f"stage ({later}) keeps more than the stage before it ({earlier})")
        if self.stages[-1].precision is not Precision.float32:
            raise PlanError(f"the last stage ({self.stages[-1]}) must be at float32")

    @property
    def native(self) -> bool:
        """Whether it is run in this process; otherwise in PostgreSQL."""
        return self.route in _NATIVE_ROUTES

    @property
    def walks(self) -> bool:
        """Whether the first stage gets its rows from a graph, and may miss some."""
        return self.route in ("graph", "mrl", "hnsw")

    @property
    def exact(self) -> bool:
        """Whether it looks at every row by its full vector, and at nothing else."""
        return len(self.stages) == 1 and self.route != "mrl"

    @property
    def most_effort(self) -> int:
        """The widest search of its route."""
        return {"graph": MAX_HOPS, "mrl": MAX_HOPS, "hnsw": MAX_EFFORT}.get(self.route, 1)

    @property
    def without_walk(self) -> Plan:
        """The same stages, the first of which looks at every row."""
        return replace(self, route="flat" if self.native else "seqscan", effort=1, margin=None)

    @property
    def k(self) -> int:
        """How many rows the plan returns."""
        return self.stages[-1].keep

    @property
    def dims(self) -> int:
        """The full dims of the vectors it searches."""
        return self.stages[-1].dims

    def leaves_out_none(self, rows: int) -> bool:
        """Whether it compares each of so many rows by its full vector: it is exact (law 1)."""
        return self.route in ("flat", "seqscan") and all(
            stage.keep >= rows for stage in self.stages[:-1]
        )

    def to_json(self) -> dict[str, object]:
        """Returns the plan as the catalogue stores it."""
        margin = (
            {}
            if self.margin is None
            else {"margin": None if math.isinf(self.margin) else self.margin}
        )  # JSON has no infinity
        return {
            "route": self.route,
            "effort": self.effort,
            **margin,
            "stages": [
                {"space": s.space, "dims": s.dims, "precision": s.precision.value, "keep": s.keep}
                for s in self.stages
            ],
        }

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Plan:
        """Returns the plan that `to_json` told."""
        stages = [
            Stage(s["dims"], Precision(s["precision"]), s["keep"], s.get("space", "prefix"))
            for s in entry["stages"]
        ]
        margin = (
            None
            if "margin" not in entry
            else math.inf
            if entry["margin"] is None
            else entry["margin"]
        )
        return Plan(entry["route"], entry["effort"], tuple(stages), margin)

    def __str__(self) -> str:
        """Tells the plan in one line."""
        walked = {
            "graph": f"graph, {self.effort} hops",
            "mrl": f"mrl, effort {self.effort}",
            "hnsw": f"hnsw, ef_search {self.effort}",
        }.get(self.route, self.route)
        margin = "" if self.margin is None else f", margin {self.margin:.3g}"
        return f"{walked}{margin}: " + " → ".join(str(stage) for stage in self.stages)


def _whole(value: object, what: str) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise PlanError(f"{what} is {value!r:.60}, wanted a whole number") from None


def _listed(stages: object) -> tuple[object, ...]:
    try:
        return tuple(stages)  # type: ignore[arg-type]
    except TypeError:
        raise PlanError(f"stages is {stages!r:.60}, wanted a tuple of Stage") from None


def graph_plan(*, dims: int, k: int = 10, effort: int = 80) -> Plan:
    """Returns a plan over the native engine's graph: int4 of the projection, int8, then float32.

    On 62,666 real rows (benchmarks/record/peers_debian.json) efforts of 22, 48 and 130 give
    recall@10 of about .95, .98 and .99; larger collections need more.

    Args:
        dims: Of the collection.
        k: Answers.
        effort: Hops of the walk. More hops find more and take longer; the stages' keeps grow with
            them.
    """
    dims, k, effort = _whole(dims, "dims"), _whole(k, "k"), _whole(effort, "effort")
    walked = Stage(
        min(dims, PROJECTION_DIMS), Precision.int4, max(2 * k, k + effort // 8), "projection"
    )
    coded = Stage(dims, Precision.int8, k + max(1, k // 10))
    return Plan("graph", effort, (walked, coded, Stage(dims, Precision.float32, k)))


def flat_plan(
    *,
    dims: int,
    k: int = 10,
    low_dims: int | None = None,
    precision: Precision | PrecisionName = Precision.int4,
    keep: int | None = None,
    space: Space | None = None,
) -> Plan:
    """Returns a plan of the native engine that scans a code of every row, then int8, then float32.

    Args:
        dims: Of the collection.
        k: Answers.
        low_dims: Of the prefix codes; None: all.
        precision: int4, of the projection; or int8 or bit, of the prefix or the projection.
        keep: Rows that the scan passes on; None: four times k, at least 40.
        space: "projection" for int8 or bit codes of it.
    """
    dims, k, precision = _whole(dims, "dims"), _whole(k, "k"), Precision.of(precision)
    keep = None if keep is None else _whole(keep, "keep")
    low_dims = None if low_dims is None else _whole(low_dims, "low_dims")
    if space == "prefix" and precision is Precision.int4:
        raise PlanError("int4 codes are of the projection")
    projected = precision is Precision.int4 or space == "projection"
    passed = max(k, 40, 4 * k) if keep is None else max(k, keep)
    width = min(dims, PROJECTION_DIMS) if projected else low_dims or dims
    first = Stage(width, precision, passed, "projection" if projected else "prefix")
    last = Stage(dims, Precision.float32, k)
    if first.precision is Precision.int8 and first.dims == dims:
        return Plan("flat", 1, (first, last))
    return Plan(
        "flat", 1, (first, Stage(dims, Precision.int8, min(passed, k + max(5, k // 5))), last)
    )


def with_k(plan: Plan, k: int) -> Plan:
    """Returns the plan for another k.

    Earlier stages keep at least k; the native engine's as many times more as k has grown.
    """
    if k == plan.k:
        return plan
    growth = max(1.0, k / plan.k) if plan.native else 1.0
    stages = [
        replace(stage, keep=max(math.ceil(stage.keep * growth), k)) for stage in plan.stages[:-1]
    ]
    return replace(plan, stages=(*stages, replace(plan.stages[-1], keep=k)))
