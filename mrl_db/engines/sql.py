"""The SQL engine: a plan becomes one statement, run inside PostgreSQL.

It needs nothing but pgvector, and is faster by an index of kind mrl, where the extension mrl_db is.

The statement is made by `mrl.search_statement` (sql/functions/search.sql), of which this engine
keeps a template for every shape of plan that it has met. HNSW in pgvector returns no more rows than
`hnsw.ef_search`, whatever the LIMIT; so the statement itself raises it to the plan's effort and
lets the index scan go on when a filter or dead rows leave too few. If a statement still gives fewer
than k rows, the exact statement is run: k rows come back whenever k rows match.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from mrl_db.engines.engine import TunableEngine
from mrl_db.engines.sql_plans import SqlPlanSpace
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.model.errors import DatabaseError, PlanError
from mrl_db.model.filters import AllOf
from mrl_db.model.key import id_dtype
from mrl_db.model.plan import Plan, with_k
from mrl_db.model.precision import Precision
from mrl_db.postgres import rows, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session
from mrl_db.postgres.vectors import VectorParameter

_PIPELINE = 64  # statements in flight of a batch: they hide the round trip, and memory is bounded
_KEPT = 256  # statements: composing one costs .14 ms of a search's .5
_QUERY, _FILTER = 1, 3  # the marks of mrl.search_statement that become parameters

T = TypeVar("T")
U = TypeVar("U")
Rows = list[tuple[Any, ...]]
"""What a statement returns: (key, distance, rows that reached the last stage, further columns…)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A search as text, with the query and the values of the filter as parameters."""

    text: str
    marks: tuple[int, ...]
    values: Sequence[Any]

    def parameters(self, query: NDArray[np.float32]) -> list[Any]:
        """Returns the parameters in the order in which the text names them."""
        of_mark = {_QUERY: [VectorParameter(query)], _FILTER: self.values}
        return [value for mark in self.marks for value in of_mark[mark]]


class SqlEngine(TunableEngine):
    """Searches one collection inside PostgreSQL (`mrl_db.engines.engine.TunableEngine`)."""

    name: Literal["sql"] = "sql"
    threads = 2  # connections that a measurement takes of the pool

    def __init__(self, session: Session, info: CollectionInfo) -> None:
        """Asks the database for nothing yet.

        Args:
            session: Where the statements are run.
            info: The collection; a later description takes a new engine.
        """
        self._info = info
        self._session = session
        self._templates: dict[tuple[Any, ...], str] = {}
        self._statements: dict[tuple[tuple[str, ...], Plan], Statement] = {}
        self._default_plans: dict[tuple[int, int | None], Plan] = {}
        self._misses_for_rows: dict[tuple[str, int], float] = {}
        self._texts: dict[Hashable, str] = {}

    def on(self, session: Session) -> SqlEngine:
        """Returns this engine over another session, with the statements that are ready here."""
        engine = copy.copy(self)
        engine._session = session
        return engine

    @property
    def info(self) -> CollectionInfo:
        """The collection as it was when the engine was made."""
        return self._info

    def follow_plan(self, plan: Plan) -> None:
        """Makes it the plan of searches that bring none."""
        self._info = replace(self._info, plan=plan)

    def plan(self, k: int, shortlist: int | None = None) -> Plan:
        """Returns the stored plan for k answers, or the default with a shortlist of this length."""
        if shortlist is None and self.info.plan is not None:
            return with_k(self.info.plan, k)
        key = k, shortlist
        if key not in self._default_plans:
            with self._session.connection() as connection:
                plan = _value(connection, "default_plan", (self.info.name, k, shortlist))
            self._default_plans[key] = Plan.from_json(plan)
        return self._default_plans[key]

    def check(self, plan: Plan) -> None:
        """Raises PlanError when the plan is the native engine's, or does not fit the collection."""
        if plan.native:
            raise PlanError(
                f"the plan's route {plan.route!r} is the native engine's, PostgreSQL's are 'mrl', "
                "'hnsw' and 'seqscan'"
            )
        if plan.dims != self.info.dims:
            raise PlanError(
                f'the plan ends at {plan.dims} dims, collection "{self.info.name}" has '
                f"{self.info.dims}"
            )
        for stage in plan.stages[:-1]:
            if stage.precision is not Precision.float16:
                raise PlanError(
                    f"the SQL engine looks at prefixes in float16, stage ({stage}) asks for "
                    f"{stage.precision.value}"
                )

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
        """Returns the hits of each query, (n, k).

        Args:
            request: The filter, and the columns that come back.
            queries: (n, dims).
            plan: Checked.
            threads: Connections that share a batch; None: one.
            hidden: For each query the key of a row that is left out. The lists are one longer for
                it, and the row's node still leads the walk to its neighbours (`misses_for_rows`).
            fill: Whether searches that find fewer than k are done again exactly.
        """
        if hidden is not None:
            longer = [replace(stage, keep=stage.keep + 1) for stage in plan.stages]
            every = replace(plan, stages=tuple(longer))
            hits = self.search(request, queries, every, threads=threads, fill=fill)
            return hits.without(hidden, plan.k)
        began = time.perf_counter()
        parts = np.array_split(queries, min(threads or 1, len(queries)))
        if len(parts) == 1:
            done = [self._run(request, queries, plan, fill)]
        else:
            done = self._session.aside(
                lambda: _on_threads(lambda part: self._run(request, part, plan, fill), parts)
            )
        results = [hits for part, _ in done for hits in part]
        exactly = all(exact for _, exact in done)
        microseconds = (time.perf_counter() - began) * 1e6
        hits = collect(
            request,
            results,
            lambda: Trace("sql", microseconds, _stages(plan, results, exact=exactly)),
        )
        hits.certified = exactly or plan.leaves_out_none(2**62)
        return hits

    def explain(self, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
        """Returns the trace of one search as EXPLAIN ANALYZE measured it, after one that warms."""
        with self._session.connection() as connection:
            statement = self.statement(connection, request, plan)
            values = statement.parameters(query)
            connection.execute(statement.text, values).fetchall()
            explain = statements.query("explain").as_string(None) + " " + statement.text
            row = connection.execute(explain, values).fetchone()
            if row is None:
                raise DatabaseError("EXPLAIN returned nothing; run it again")
            times = connection.execute(statements.query("stage_times"), (Jsonb(row[0]),)).fetchall()
        traces = []
        rows_in = None
        for stage, (_, access, rows_out, milliseconds) in zip(plan.stages, times, strict=False):
            name = str(stage) if access is None else f"{access}, {stage}"
            bytes_per_row = stage.precision.bytes(stage.dims)
            traces.append(StageTrace(name, rows_in, rows_out, bytes_per_row, milliseconds * 1e3))
            rows_in = rows_out
        return Trace("sql", row[0][0]["Execution Time"] * 1e3, tuple(traces))

    def misses_for_rows(self, plan: Plan) -> float:
        """Returns `mrl.misses_for_rows` where the plan walks an index, else 1.0."""
        if plan.exact or not plan.walks:
            return 1.0
        key = plan.route, plan.effort
        if key not in self._misses_for_rows:
            with self._session.connection() as connection:
                self._misses_for_rows[key] = _value(connection, "misses_for_rows", key)
        return self._misses_for_rows[key]

    def plan_space(self, k: int, rows: int) -> SqlPlanSpace:
        """Returns the plans over so many rows."""
        info = self.info
        return SqlPlanSpace(info.dims, info.low_dims, rows, k, frozenset(info.index_kinds))

    def seconds_of_one(self, request: Request, query: NDArray[np.float32], plan: Plan) -> float:
        """Returns how long one search takes."""
        began = time.perf_counter()
        self.search(request, query[np.newaxis], plan)
        return time.perf_counter() - began

    def _run(
        self, request: Request, queries: NDArray[np.float32], plan: Plan, fill: bool
    ) -> tuple[list[Rows], bool]:
        """Returns the rows of each query, and whether all of them were searched exactly."""
        with self._session.connection() as connection:
            try:
                return self._run_in(connection, request, queries, plan, fill)
            except (pg.UndefinedTable, pg.UndefinedColumn):  # renamed by another client?
                if connection.info.transaction_status is TransactionStatus.INERROR:
                    raise
                self._templates.clear()
                self._statements.clear()
                return self._run_in(connection, request, queries, plan, fill)

    def _run_in(
        self,
        connection: Connection,
        request: Request,
        queries: NDArray[np.float32],
        plan: Plan,
        fill: bool,
    ) -> tuple[list[Rows], bool]:
        results = _execute(connection, self.statement(connection, request, plan), queries)
        short = [number for number, hits in enumerate(results) if fill and len(hits) < plan.k]
        if short:
            exact = Plan("seqscan", 1, plan.stages[-1:])
            statement = self.statement(connection, request, exact)
            for number, hits in zip(
                short, _execute(connection, statement, queries[short]), strict=True
            ):
                results[number] = hits
        return results, len(short) == len(results)

    def statement(self, connection: Connection, request: Request, plan: Plan) -> Statement:
        """Returns the statement of a plan; kept for searches without a filter."""
        key = request.columns, plan
        unfiltered = request.where == AllOf(())
        if unfiltered and key in self._statements:
            return self._statements[key]
        condition, values = request.filter_of_search()
        columns = statements.query("rows_in") + rows.further_columns(request.info, request.columns)
        texts = [
            "%s",
            str(plan.k),
            condition.as_string(None),
            columns.as_string(None),
            str(plan.effort),
            *(str(stage.keep) for stage in plan.stages),
        ]
        statement = _filled(self._template(connection, plan), texts, values)
        if unfiltered:
            if len(self._statements) >= _KEPT:
                self._statements.clear()
            self._statements[key] = statement
        return statement

    def kept(self, key: Hashable, compose: Callable[[], str]) -> str:
        """Returns a text of this collection that is composed once: of a search by words, too."""
        if key not in self._texts:
            if len(self._texts) >= _KEPT:
                self._texts.clear()
            self._texts[key] = compose()
        return self._texts[key]

    def _template(self, connection: Connection, plan: Plan) -> str:
        """Returns the statement of all plans with this route and these widths."""
        key = plan.route, *(stage.dims for stage in plan.stages)
        if key not in self._templates:
            shape = {"route": plan.route, "stages": [{"dims": dims} for dims in key[1:]]}
            values = self.info.name, Jsonb(shape)
            self._templates[key] = _value(connection, "search_statement", values)
        return self._templates[key]


def collect(request: Request, results: Sequence[Rows], trace: Trace | Callable[[], Trace]) -> Hits:
    """Returns the rows of each query, equally many, as hits."""
    n, k = len(results), min(len(hits) for hits in results)
    ids = np.empty((n, k), dtype=id_dtype(request.info.key_type))
    distances = np.empty((n, k))
    columns = {name: np.empty((n, k), dtype=object) for name in request.columns}
    for query, hits in enumerate(results):
        for rank, row in enumerate(hits[:k]):
            ids[query, rank] = row[0]
            distances[query, rank] = row[1]
            for number, name in enumerate(request.columns, 3):
                columns[name][query, rank] = row[number]
    return Hits(ids, distances, trace, columns)


def _on_threads(run: Callable[[U], T], parts: Sequence[U]) -> list[T]:
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, parts))


def _filled(template: str, texts: Sequence[str], values: Sequence[Any]) -> Statement:
    """Puts a text in place of each mark; every other % of a template is doubled, and stays so."""
    marks: list[int] = []

    def text(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        mark = int(match[1])
        if mark in (_QUERY, _FILTER):
            marks.append(mark)
        return texts[mark - 1]

    return Statement(re.sub(r"%%|%(\d+)\$s", text, template), tuple(marks), values)


def _execute(
    connection: Connection, statement: Statement, queries: NDArray[np.float32]
) -> list[Rows]:
    """Runs a statement for each query: one message for one, a pipeline for many."""
    if len(queries) == 1:
        cursor = connection.cursor(binary=True)
        return [rows.fetched(cursor.execute(statement.text, statement.parameters(queries[0])))]
    results = []
    for begin in range(0, len(queries), _PIPELINE):
        with connection.pipeline():
            cursors = [
                connection.cursor(binary=True).execute(statement.text, statement.parameters(query))
                for query in queries[begin : begin + _PIPELINE]
            ]
        results += [rows.fetched(cursor) for cursor in cursors]
    return results


def _value(connection: Connection, name: str, values: Sequence[Any]) -> Any:
    row = connection.execute(statements.query(name), values).fetchone()
    return None if row is None else row[0]


def _stages(plan: Plan, results: Sequence[Rows], *, exact: bool) -> tuple[StageTrace, ...]:
    """Returns what is known of the stages without measuring them: rows, on average over queries."""
    bytes_full = plan.stages[-1].precision.bytes(plan.dims)
    rows_in = round(sum(int(hits[0][2]) if hits else 0 for hits in results) / len(results))
    rows_out = round(sum(len(hits) for hits in results) / len(results))
    if exact or plan.exact:
        return (StageTrace(f"exact {plan.dims} float32", rows_in, rows_out, bytes_full),)
    if plan.route == "mrl":
        return (StageTrace(f"mrl, {plan.stages[0]}", None, rows_out, bytes_full),)
    traces = []
    for number, stage in enumerate(plan.stages[:-1]):
        name = f"{plan.route}, {stage}" if number == 0 else str(stage)
        passed = rows_in if number == len(plan.stages) - 2 else None
        traces.append(StageTrace(name, None, passed, stage.precision.bytes(stage.dims)))
    traces.append(StageTrace(str(plan.stages[-1]), rows_in, rows_out, bytes_full))
    return tuple(traces)
