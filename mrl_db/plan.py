"""A plan: which stages a search goes through, as pure data with its laws.

A plan is a route (where the first stage gets its rows from), an effort (the route's search width) and stages. Every stage looks at the
rows that are left, with a few dims or a low precision first, and keeps the best of them. The laws, checked when a plan is made:

1. dims rise, or precision rises at equal dims, from stage to stage;
2. keeps fall, and the last keep is k;
3. the last stage looks at the full vector at float32.

A plan whose keeps all equal the number of rows gives exactly the brute-force answer, whatever its stages (docs/design.md, law 1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mrl_db.errors import PlanError
from mrl_db.precision import Precision

Route = Literal["hnsw", "seqscan"]
Space = Literal["prefix"]

# pgvector refuses a wider search (hnsw.ef_search, 1 to 1000); beyond it an iterative scan goes on.
MAX_EFFORT = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """One look at the rows that are left: in which space, how many dims, how precisely, and how many rows it keeps."""

    dims: int
    precision: Precision
    keep: int
    space: Space = "prefix"

    def __str__(self) -> str:
        """Tells the stage in a few words, as traces show it."""
        return f"{self.space} {self.dims} {self.precision.value}, keep {self.keep}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A route, its effort and the stages of a search over vectors of `stages[-1].dims` dims. Raises PlanError when a law is broken."""

    route: Route
    effort: int
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        """Checks the laws."""
        if self.route not in ("hnsw", "seqscan"):
            raise PlanError(f"route is {self.route!r}, wanted 'hnsw' or 'seqscan'")
        if not 1 <= self.effort <= MAX_EFFORT:
            raise PlanError(f"effort is {self.effort}, pgvector searches with 1 to {MAX_EFFORT}")
        if not self.stages:
            raise PlanError("a plan without stages; the last stage must look at the full vector at float32")
        for stage in self.stages:
            if stage.dims < 1 or stage.keep < 1:
                raise PlanError(f"stage ({stage}) has dims or a keep below 1")
        for earlier, later in zip(self.stages, self.stages[1:], strict=False):
            wider = later.dims > earlier.dims
            finer = later.dims == earlier.dims and later.precision.bits > earlier.precision.bits
            if not (wider or finer):
                raise PlanError(f"stage ({later}) does not look at more than the stage before it ({earlier})")
            if later.precision.bits < earlier.precision.bits:
                raise PlanError(f"stage ({later}) is less precise than the stage before it ({earlier})")
            if later.keep > earlier.keep:
                raise PlanError(f"stage ({later}) keeps more than the stage before it ({earlier})")
        if self.stages[-1].precision is not Precision.float32:
            raise PlanError(f"the last stage ({self.stages[-1]}) must be at float32")

    @property
    def k(self) -> int:
        """How many rows the plan returns."""
        return self.stages[-1].keep

    @property
    def dims(self) -> int:
        """The full dims of the vectors it searches."""
        return self.stages[-1].dims

    def to_json(self) -> dict[str, object]:
        """Returns the plan as the catalogue stores it."""
        return {
            "route": self.route,
            "effort": self.effort,
            "stages": [{"space": s.space, "dims": s.dims, "precision": s.precision.value, "keep": s.keep} for s in self.stages],
        }


def default_plan(*, dims: int, low_dims: int, k: int, keep: int | None = None) -> Plan:
    """Returns the plan that a search uses when nothing was measured: a shortlist from the low-dim column, then the full vectors.

    `keep` is the length of the shortlist; None means `default_keep(k)`. The effort is the shortlist's length, because HNSW in pgvector
    returns no more rows than its search width.
    """
    length = max(k, default_keep(k) if keep is None else keep)
    low = Stage(dims=low_dims, precision=Precision.float16, keep=length)
    full = Stage(dims=dims, precision=Precision.float32, keep=k)
    return Plan(route="hnsw", effort=min(MAX_EFFORT, max(40, length)), stages=(low, full))


def default_keep(k: int) -> int:
    """Returns the length of a shortlist for k answers: at least 200 (the MRL paper's), twenty times k, at most 1,000 more than k.

    A guess: on 62,666 real rows, 128 of 384 dims, it gives recall@10 .987 where the vectors are Matryoshka-ordered, .979 where they are
    cut as they come (benchmarks/record/sql.json). Give shortlist= where that is not enough.
    """
    return max(200, min(20 * k, k + 1000))


def with_k(plan: Plan, k: int) -> Plan:
    """Returns the plan for another k: earlier stages keep at least k."""
    stages = [replace(stage, keep=max(stage.keep, k)) for stage in plan.stages[:-1]]
    return replace(plan, stages=(*stages, replace(plan.stages[-1], keep=k)))
