"""What all that is done with a collection starts from: its description, its session, and the engine in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.door import checked_count
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.learn.change import Change, change_from_bytes
from mrl_db.model import filters
from mrl_db.model.errors import NotLoadedError, PlanError, ValueRangeError
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, default_plan, with_k
from mrl_db.postgres import catalog, ingest, rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.recall import promises
from mrl_db.recall.explorer import Measured
from mrl_db.recall.query_log import QueryLog


class Handle:
    """A collection that is open: what it is, and how arguments become requests."""

    def __init__(self, session: Session, info: CollectionInfo) -> None:
        """Not for callers: use `Database.open`."""
        self._session = session
        self._info = info
        self._native: NativeEngine | None = None
        self._loaded_by: dict[str, Any] = {}  # the arguments of load(), for refresh()
        self._log = QueryLog()
        self._promises = promises.stored(session, info.name)
        kept = catalog.adaptor_of(session, info)
        self._adaptor = None if kept is None else change_from_bytes(kept)
        self._tried: tuple[Measured, ...] = ()

    def __repr__(self) -> str:
        """Tells what the collection is."""
        info = self._info
        return f"Collection({info.name!r}, dims={info.dims}, nesting_dims={info.nesting_dims}, metric={info.metric.value!r})"

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._info.name

    @property
    def dims(self) -> int:
        """The full dims of its vectors."""
        return self._info.dims

    @property
    def nesting_dims(self) -> tuple[int, ...]:
        """The legal prefix widths, rising; the last is the full dims."""
        return self._info.nesting_dims

    @property
    def low_dims(self) -> int:
        """The width of the low-dim column that makes the shortlist."""
        return self._info.low_dims

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._info.metric

    @property
    def columns(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return {name: column.type for name, column in self._info.columns.items()}

    @property
    def table(self) -> tuple[str, str]:
        """(schema, table) in PostgreSQL."""
        return self._info.schema, self._info.table

    @property
    def indexed(self) -> bool:
        """Whether the HNSW index on the low-dim vectors stood when the collection was opened or last changed here."""
        return self._info.index is not None

    @property
    def adaptor(self) -> Change | None:
        """What changes vectors before they are written, and queries alike; None in most collections."""
        return self._adaptor

    def parse_key(self, text: str) -> Any:
        """Returns a key of this collection from its text form, as a command line has it; raises ValueRangeError."""
        return ingest.parse_key(text, self._info.key_type)

    def _queries(
        self, query: ArrayLike, as_stored: bool = False
    ) -> tuple[NDArray[np.float32], bool]:
        """(n, dims), as they are compared with what is stored, and whether it was one query alone."""
        queries, single = ingest.check_query(query, self._info)
        return queries if self._adaptor is None or as_stored else self._adaptor.apply(
            queries
        ), single

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """Returns the number of rows with a vector, of those that pass the filter."""
        return rows.count(self._session, self._request(where))

    @property
    def loaded(self) -> NativeEngine | None:
        """The native engine with its plan, rows and bytes, or None when nothing is loaded."""
        return self._native

    def _runs_here(self, engine: str, shortlist: int | None, plan: Plan | None) -> bool:
        """Whether the native engine is to run a search."""
        if engine == "auto":
            return self._native is not None and shortlist is None if plan is None else plan.native
        if engine == "native" and shortlist is not None:
            raise PlanError(
                "shortlist= is the SQL engine's; the native engine's plans say what each stage keeps: plan=graph_plan(…)"
            )
        return engine == "native"

    def _loaded(self) -> NativeEngine:
        if self._native is None:
            raise NotLoadedError(
                f'collection "{self.name}" is not loaded; call load(), or search with engine="sql"'
            )
        return self._native

    @property
    def plan(self) -> Plan:
        """The plan that a search for ten answers uses."""
        return self._plan(10, None, None)

    def _request(self, where: Mapping[str, Any] | None, columns: Sequence[str] = ()) -> Request:
        return Request(self._info, filters.parse(where, self.columns), self._column_names(columns))

    def _column_names(self, columns: Sequence[str]) -> tuple[str, ...]:
        for name in (columns,) if isinstance(columns, str) else columns:
            if name not in self._info.columns:
                known = ", ".join(self._info.columns) or "none"
                raise ValueRangeError(
                    f'collection "{self.name}" has no column {name!r}; there are: {known}'
                )
        return (columns,) if isinstance(columns, str) else tuple(columns)

    def _keys(self, ids: Any) -> list[Any]:
        alone = isinstance(ids, (str, bytes)) or not isinstance(ids, (Iterable, np.ndarray))
        _, values = ingest.check_keys(
            [ids] if alone else ids if isinstance(ids, np.ndarray) else list(ids),
            self._info.key_type,
        )
        return values

    def _plan(self, k: int, shortlist: int | None, plan: Plan | None) -> Plan:
        if plan is not None:
            if shortlist is not None:
                raise PlanError(
                    "shortlist= and plan= were both given; the plan says how long its shortlists are"
                )
            self._check_plan(plan)
            return plan if plan.k == k else with_k(plan, k)
        if shortlist is None and self._info.plan is not None:
            return with_k(self._info.plan, k)
        keep = None if shortlist is None else checked_count(shortlist, "shortlist")
        return default_plan(dims=self.dims, low_dims=self.low_dims, k=k, keep=keep)

    def _check_plan(self, plan: Plan) -> None:
        if plan.native:
            raise PlanError(
                f"the plan's route {plan.route!r} is the native engine's, PostgreSQL's are 'hnsw' and 'seqscan'"
            )
        if plan.dims != self.dims:
            raise PlanError(
                f'the plan ends at {plan.dims} dims, collection "{self.name}" has {self.dims}'
            )
        for stage in plan.stages[:-1]:
            if stage.precision.value != "float16":
                raise PlanError(
                    f"the SQL engine looks at prefixes in float16, stage ({stage}) asks for {stage.precision.value}"
                )
