"""What an engine is: whoever plans, checks and runs the searches of one collection.

Three keep this protocol: `sql` runs a plan inside PostgreSQL, `native` in this process over loaded
rows, `exact` by brute force in this process. Collections, the tuner and the report know no more of
an engine than this; one that is added later needs no change in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.plan_space import PlanSpace
from mrl_db.hits import Hits, Trace
from mrl_db.model.plan import Plan
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request

EngineName = Literal["sql", "native", "exact"]


class Engine(Protocol):
    """Searches one collection. Arguments were checked at the door (`mrl_db.door`).

    Engines derive from it, so that they have what most of them need not do otherwise.
    """

    @property
    def name(self) -> EngineName:
        """The engine's name in the catalogue, in traces and in `search(engine=)`."""
        ...

    @property
    def info(self) -> CollectionInfo:
        """The collection as the engine last saw it; a request for it carries this."""
        ...

    @property
    def follows(self) -> bool:
        """Whether it sees what is committed later."""
        return True

    @property
    def parts(self) -> int:
        """Of how many parts it merges each answer (`mrl_db.parts`)."""
        return 1

    def sync(
        self,
        max_staleness: float | None = None,  # noqa: ARG002
        ahead: Request | None = None,  # noqa: ARG002
    ) -> None:
        """Makes the engine see what any client committed before this call.

        Nothing is to be done where each search asks the database.

        Args:
            max_staleness: Seconds that it may be behind instead; None: as the engine was made.
            ahead: The search that comes next, where it has a filter.
        """
        return

    def written(self) -> None:
        """Makes the next search see what this process has committed, however stale it may be."""
        return

    def close(self) -> None:
        """Gives back what the engine holds."""
        return

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """Returns the plan that a search for k answers follows unless it brings one.

        Args:
            k: Answers.
            shortlist: Rows that the first stage keeps; None: what the promise or the default says.

        Raises:
            PlanError: The engine takes no `shortlist`.
        """
        ...

    def check(self, plan: Plan) -> None:
        """Checks that the engine can run a plan.

        Raises:
            PlanError: The plan is another engine's, or does not fit the collection.
            NotLoadedError: It needs codes that are not here.
        """
        ...

    def search(
        self,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        *,
        threads: int | None = None,
        hidden: Sequence[Any] | None = None,
        fill: bool = True,
    ) -> Hits:
        """Returns the hits of each query, the nearest first, ties by key.

        Args:
            request: The filter, and the columns that come back.
            queries: (n, dims) float32, as they are compared with what is stored.
            plan: Already checked; its last keep is k.
            threads: For a batch; None: as many as the engine was made with.
            hidden: For each query the key of a stored row that is to be as if it were not there
                (rows as queries), or None. Samples are searched again with many plans: an engine
                that prepares hidden rows remembers them.
            fill: Whether a query for which the plan finds fewer than k rows is answered exactly;
                False shows what the plan itself finds.

        Returns:
            Ids and distances of shape (n, k); fewer columns only where fewer rows match.
        """
        ...

    def search_one(
        self,
        query: object,  # noqa: ARG002
        k: object,  # noqa: ARG002
        max_staleness: object = None,  # noqa: ARG002
    ) -> Hits | None:
        """Returns the hits of one query in the shortest way there is, without filter and columns.

        The one method whose arguments were not checked, and that syncs by itself: None means that
        there is no short way for them, and `sync` and `search` are to be used.
        """
        return None

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """Returns how one search for `query`, (dims,), goes: rows, bytes and time of each stage."""
        ...

    def misses_for_rows(self, plan: Plan) -> float:  # noqa: ARG002
        """Returns how many times as much the plan misses for a fresh query as for a hidden row.

        1.0 where hiding a row leaves no trace of it; more where its node still leads the walk to
        its neighbours (pgvector's HNSW, docs/recall.md).
        """
        return 1.0


class TunableEngine(Engine, Protocol):
    """An engine whose plans differ in recall and time, so that the tuner can choose among them."""

    @property
    def threads(self) -> int:
        """Threads, or connections, that batches are measured with: `search(threads=)`."""
        ...

    def follow_plan(self, plan: Plan) -> None:
        """Makes it the plan of searches that bring none."""
        ...

    def plan_space(self, k: int, rows: int) -> PlanSpace:
        """Returns the plans worth measuring for k answers over so many rows."""
        ...

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """Returns how long one search for `query`, (dims,), takes a caller."""
        ...
