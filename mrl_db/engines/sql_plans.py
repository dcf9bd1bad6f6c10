"""The SQL engine's plans worth measuring.

Three families: a walk of an index of kind mrl, which has one stage; a shortlist by pgvector's index
on the low-dim vectors; a shortlist by a scan of them. Intermediate stages are left out: they read
the same full rows as the last stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mrl_db.engines.plan_space import MAX_RANK, Trials, least, scaled, steps
from mrl_db.model.plan import MAX_EFFORT, Plan, Stage
from mrl_db.model.precision import Precision

_WIDER = (1.0, 1.4)  # efforts, times the least, for shorter lists
# Of a search's time: where a walk alone takes more, wider walks with shorter lists gain nothing.
_WALK_SHARE = 0.6
_LIKELY = 200  # an effort or a keep that is often enough
_LIKELY_WALK = 64  # the same of an index of kind mrl: its codes are of all dims
# For ten answers: for more the index walks farther by itself, up to the greatest.
_LEAST_WALK, _MOST_WALK = 16, 4096


@dataclass(frozen=True, slots=True)
class SqlPlanSpace:
    """Plans that walk an index of kind mrl, or look at low-dim vectors, then at the full ones.

    Attributes:
        dims: Full dims.
        low_dims: Of the low-dim vectors.
        rows: Rows of the collection.
        k: Answers.
        kinds: Of the indexes that there are: "mrl" on the full vectors, "hnsw" on the low-dim ones.
    """

    dims: int
    low_dims: int
    rows: int
    k: int
    kinds: frozenset[str]

    explored_queries = 200
    checked_queries = (1000, 1500)
    timed_queries = 30
    final_rounds = 3
    finest = 1.12

    @property
    def shortlist_dims(self) -> int:
        """The low-dim vectors' dims."""
        return self.low_dims

    @property
    def exact(self) -> Plan:
        """A scan of the full vectors."""
        return Plan("seqscan", 1, (Stage(self.dims, Precision.float32, self.k),))

    def candidates(self, trials: Trials) -> Iterator[Plan]:
        """Yields plans that meet the target, the cheapest of each form.

        The dearest walk or scan is yielded too where it only might meet the target: it is so much
        cheaper than the next form that a test is worth its time.
        """
        if "mrl" in self.kinds:
            effort = least(
                self._walks(1.1),
                lambda effort: trials.meets(self._full_walk(effort)),
                first=_LIKELY_WALK,
            )
            if effort is not None:
                yield self._full_walk(effort)
                return
            widest = self._full_walk(_MOST_WALK)
            if trials.hopeful(widest):
                yield widest
        if "hnsw" in self.kinds:
            effort = least(
                self._efforts(1.1), lambda effort: trials.meets(self._walk(effort)), first=_LIKELY
            )
            if effort is not None:
                yield self._walk(effort)
                yield from self._shorter_lists(trials, effort)
                return
            widest = self._walk(MAX_EFFORT, min(self.rows, MAX_EFFORT))
            if trials.hopeful(widest):
                yield widest
        keep = least(self._keeps(1.1), lambda keep: trials.meets(self._scan(keep)), first=_LIKELY)
        longest = self._scan(self._most_scanned)
        if keep is not None:
            yield self._scan(keep)
        elif trials.hopeful(longest):
            yield longest

    def _shorter_lists(self, trials: Trials, effort: int) -> Iterator[Plan]:
        """Wider walks with shorter lists, where ordering the list is a good part of a search."""
        whole, none = self._walk(effort), self._walk(effort, self.k)
        trials.time([whole, none], rounds=2)
        if trials.mean_microseconds(none) > _WALK_SHARE * trials.mean_microseconds(whole):
            return
        for ratio in _WIDER:
            if trials.late:
                return
            wider = min(MAX_EFFORT, math.ceil(effort * ratio))
            keep = self._least_keep(trials, wider)
            if keep is not None:
                yield self._walk(wider, keep)

    def _least_keep(self, trials: Trials, effort: int) -> int | None:
        return least(
            steps(self.k, effort, 1.3), lambda keep: trials.meets(self._walk(effort, keep))
        )

    def ladder(self) -> Iterator[Plan]:
        """Yields plans from the cheapest to the dearest."""
        if "mrl" in self.kinds:
            yield from map(self._full_walk, self._walks(1.25))
        elif "hnsw" in self.kinds:
            yield from map(self._walk, self._efforts(1.25))
        else:
            yield from map(self._scan, self._keeps(1.6))
        yield self.exact

    def scaled(self, plan: Plan, scale: float) -> Plan:
        """Returns a dearer (scale > 1) or cheaper form of a plan."""
        if plan.route == "mrl":
            effort = math.ceil(plan.effort * scale)
            return self._full_walk(min(_MOST_WALK, max(_LEAST_WALK, effort)))
        # pgvector begins anew for more rows than the effort.
        effort = min(MAX_EFFORT, math.ceil(plan.effort * scale))
        most = min(self.rows, effort) if plan.walks else self._most_scanned
        return scaled(plan, scale, most=most, most_effort=plan.most_effort)

    @property
    def _most_scanned(self) -> int:
        return min(self.rows, MAX_RANK)

    def _walks(self, ratio: float) -> list[int]:
        return steps(_LEAST_WALK, _MOST_WALK, ratio)

    def _full_walk(self, effort: int) -> Plan:
        return Plan("mrl", effort, (Stage(self.dims, Precision.float32, self.k),))

    def _efforts(self, ratio: float) -> list[int]:
        return steps(max(self.k, 16), MAX_EFFORT, ratio)

    def _keeps(self, ratio: float) -> list[int]:
        return steps(self.k, self._most_scanned, ratio)

    def _walk(self, effort: int, keep: int | None = None) -> Plan:
        return Plan("hnsw", effort, self._stages(effort if keep is None else keep))

    def _scan(self, keep: int) -> Plan:
        return Plan("seqscan", 1, self._stages(keep))

    def _stages(self, keep: int) -> tuple[Stage, ...]:
        low = Stage(self.low_dims, Precision.float16, max(keep, self.k))
        return (low, Stage(self.dims, Precision.float32, self.k))
