"""The SQL engine: a plan becomes one statement, run inside PostgreSQL with nothing but pgvector.

Stage by stage the statement nests: the innermost takes the rows of the table in the order of their low-dim vector, by the HNSW
index where there is one, and each further stage orders what is left by more dims; the last one computes the exact distance.

HNSW in pgvector returns no more rows than `hnsw.ef_search`, whatever the LIMIT; so the statement itself raises it to the plan's effort and
lets the index scan go on (`hnsw.iterative_scan`) when a filter or dead rows leave too few. If a statement still gives fewer than k rows,
the exact statement is run: k rows come back whenever k rows match.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.model.errors import DatabaseError
from mrl_db.model.filters import AllOf
from mrl_db.model.plan import Plan, Stage
from mrl_db.postgres import rows, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session, VectorParameter

_MOST_MEMORY = (
    64 << 20
)  # for a shortlist from a scan: its rows are carried whole, and twice as many are held, in rounded pieces
_OTHER_BYTES = 256  # of a row beside its vectors, about
_PIPELINE = (
    64  # statements in flight of a batch: enough to hide the round trip, few enough to bound memory
)


def search(
    session: Session,
    request: Request,
    queries: NDArray[np.float32],
    plan: Plan,
    *,
    fill: bool = True,
    note: Callable[[], str | None] = lambda: None,
) -> Hits:
    """Returns the hits of each query, (n, k), by the plan. fill: searches that find fewer than k are done again exactly.

    note: tells, when the trace is looked at, what the plan promises.
    """
    began = time.perf_counter()
    text, parameters = _funnel_text(request, plan)
    with session.connection() as connection:
        results = _run(
            connection, text, [_parameters(plan, VectorParameter(q), parameters) for q in queries]
        )
        fallbacks = [place for place, found in enumerate(results) if fill and len(found) < plan.k]
        if fallbacks:
            exact, exact_parameters = exact_statement(request, plan.k)
            asked = [[VectorParameter(queries[place]), *exact_parameters] for place in fallbacks]
            for place, found in zip(
                fallbacks, _run(connection, exact.as_string(None), asked), strict=True
            ):
                results[place] = found
    microseconds = (time.perf_counter() - began) * 1e6
    exactly = len(fallbacks) == len(results)
    hits = collect(
        request,
        results,
        lambda: Trace("sql", microseconds, _stages(plan, results, exact=exactly), note()),
    )
    hits.certified = exactly or plan.leaves_out_none(2**62)
    return hits


def collect(
    request: Request,
    results: Sequence[Sequence[tuple[Any, ...]]],
    trace: Trace | Callable[[], Trace],
) -> Hits:
    """Returns rows of (key, distance, rows_in, columns…), equally many for each query, as hits."""
    n, k = len(results), min(len(found) for found in results)
    ids = np.empty((n, k), dtype=key_dtype(request.info))
    distances = np.empty((n, k))
    columns = {name: np.empty((n, k), dtype=object) for name in request.columns}
    for query, found in enumerate(results):
        for rank, row in enumerate(found[:k]):
            ids[query, rank] = row[0]
            distances[query, rank] = row[1]
            for place, name in enumerate(request.columns):
                columns[name][query, rank] = row[3 + place]
    return Hits(ids, distances, trace, columns)


def key_dtype(info: CollectionInfo) -> type[Any]:
    """The dtype of ids: int64 for integer keys, object for uuid and text."""
    return np.int64 if info.key_type in ("bigint", "integer", "smallint") else np.object_


def _funnel_text(request: Request, plan: Plan) -> tuple[str, list[Any]]:
    """The statement of a plan as text; kept for searches without a filter, as composing it costs 0.14 ms of a search's 0.5."""
    if request.where != AllOf(()):
        statement, parameters = funnel_statement(request, plan)
        return statement.as_string(None), parameters
    return _unfiltered_text(request.info, request.columns, plan), []


@lru_cache(maxsize=256)
def _unfiltered_text(info: CollectionInfo, columns: tuple[str, ...], plan: Plan) -> str:
    return funnel_statement(Request(info, AllOf(()), columns), plan)[0].as_string(None)


def funnel_statement(request: Request, plan: Plan) -> tuple[sql.Composed, list[Any]]:
    """Returns the statement of a plan, and the parameters of its filter. Its other parameters are the query, once for each stage."""
    if len(plan.stages) == 1:
        return exact_statement(request, plan.k)
    info = request.info
    parts = statements.fragments("prefix")
    condition, parameters = request.condition()
    source: sql.Composable = info.relation
    for number, stage in enumerate(plan.stages[:-1]):
        distance: sql.Composable = parts["nearest"].format(
            prefix=_row_prefix(info, stage),
            vector_schema=statements.identifier(info.vector_schema),
            operator=sql.SQL(info.metric.prefix_operator),
            target=_prefix(info, _target(info), stage.dims),
        )
        if plan.route == "seqscan":
            distance = parts["unindexed"].format(distance=distance)
        source = statements.query("stage").format(
            source=source if number == 0 else sql.SQL("({})").format(source),
            condition=parts["after_settings"].format(condition=condition)
            if number == 0
            else statements.fragments("filter")["always"],
            distance=distance,
            keep=sql.Literal(stage.keep),
        )
    scanned = max(20000, min(4 * plan.stages[0].keep, 2**31 - 1))
    settings = {
        "effort": sql.Literal(str(plan.effort)),
        "max_scan_tuples": sql.Literal(str(scanned)),
    }
    memory: sql.Composable = sql.SQL("")
    wanted = 4 * plan.stages[0].keep * (4 * info.dims + 2 * info.low_dims + _OTHER_BYTES)
    if plan.route == "seqscan" and wanted <= _MOST_MEMORY:
        memory = sql.SQL(" {}").format(
            statements.query("scan_memory").format(bytes=sql.Literal(wanted))
        )
    return _last(
        "last_stage", request, plan.k, shortlist=source, memory=memory, **settings
    ), parameters


def exact_statement(request: Request, k: int) -> tuple[sql.Composed, list[Any]]:
    """Returns the brute-force statement, and the parameters of its filter after the query."""
    condition, parameters = request.condition()
    return _last("exact", request, k, source=request.info.relation, condition=condition), parameters


def _last(name: str, request: Request, k: int, **parts: sql.Composable) -> sql.Composed:
    info = request.info
    return statements.query(name).format(
        key=statements.identifier(info.key),
        full=statements.of_row(info.vector),
        vector_schema=statements.identifier(info.vector_schema),
        operator=sql.SQL(info.metric.operator),
        target=_target(info),
        columns=rows.further_columns(request.columns),
        k=sql.Literal(k),
        **parts,
    )


def _target(info: CollectionInfo) -> sql.Composed:
    """The query as a parameter, in the type of the vector column."""
    return statements.fragments("prefix")["full"].format(
        parameter=sql.Placeholder(),
        vector_schema=statements.identifier(info.vector_schema),
        type=statements.identifier(info.vector_type),
        dims=sql.Literal(info.dims),
    )


def _row_prefix(info: CollectionInfo, stage: Stage) -> sql.Composable:
    """The row's prefix: the low-dim column where it has the stage's dims, else the expression (the indexed one, or cut on the fly)."""
    if stage.dims == info.low_dims and info.low_dim_column is not None:
        return statements.of_row(info.low_dim_column)
    return _prefix(info, statements.of_row(info.vector), stage.dims)


def _prefix(info: CollectionInfo, vector: sql.Composable, dims: int) -> sql.Composed:
    """The SQL of mrl.prefix_expression: a test holds the two together."""
    parts = statements.fragments("prefix")
    schema, width = statements.identifier(info.vector_schema), sql.Literal(dims)
    cut = parts["cut"].format(vector_schema=schema, vector=vector, dims=width)
    if info.metric.normalised_prefix:
        cut = parts["normalised"].format(vector_schema=schema, vector=cut)
    return parts["half"].format(vector_schema=schema, vector=cut, dims=width)


def _parameters(plan: Plan, query: VectorParameter, condition: Sequence[Any]) -> list[Any]:
    """The parameters in the order in which the statement names them: last stage outermost, so its query comes first."""
    stages = len(plan.stages)
    if stages == 1:
        return [query, *condition]
    return [query, *condition, *[query] * (stages - 1)]


def _run(
    connection: Connection, text: str, parameters: Sequence[list[Any]]
) -> list[list[tuple[Any, ...]]]:
    """Runs a statement once for each list of parameters: one message for one, a pipeline for many."""
    if len(parameters) == 1:
        return [connection.cursor(binary=True).execute(text, parameters[0]).fetchall()]
    results = []
    for begin in range(0, len(parameters), _PIPELINE):
        with connection.pipeline():
            cursors = [
                connection.cursor(binary=True).execute(text, each)
                for each in parameters[begin : begin + _PIPELINE]
            ]
        results += [cursor.fetchall() for cursor in cursors]
    return results


def _stages(
    plan: Plan, results: Sequence[Sequence[tuple[Any, ...]]], *, exact: bool
) -> tuple[StageTrace, ...]:
    """What is known of the stages without measuring them: how many rows reached the last one, for one query or on average."""
    bytes_full = plan.stages[-1].precision.bytes(plan.dims)
    reached = [int(found[0][2]) if found else 0 for found in results]
    rows_in = round(sum(reached) / len(reached))
    rows_out = round(sum(len(found) for found in results) / len(results))
    if exact or len(plan.stages) == 1:
        return (StageTrace(f"exact {plan.dims} float32", rows_in, rows_out, bytes_full),)
    traces = []
    for number, stage in enumerate(plan.stages[:-1]):
        last = number == len(plan.stages) - 2
        name = f"{plan.route}, {stage}" if number == 0 else str(stage)
        traces.append(
            StageTrace(name, None, rows_in if last else None, stage.precision.bytes(stage.dims))
        )
    traces.append(StageTrace(str(plan.stages[-1]), rows_in, rows_out, bytes_full))
    return tuple(traces)


def explain(session: Session, request: Request, query: NDArray[np.float32], plan: Plan) -> Trace:
    """Returns the trace of one search with rows and microseconds of every stage, as EXPLAIN ANALYZE measured them."""
    statement, parameters = funnel_statement(request, plan)
    values = _parameters(plan, VectorParameter(query), parameters)
    with session.connection() as connection:
        text = statements.query("explain").format(statement=statement).as_string(None)
        connection.execute(statement.as_string(None), values).fetchall()
        row = connection.execute(text, values).fetchone()
    if row is None:
        raise DatabaseError("EXPLAIN returned nothing; run it again")
    top = row[0][0]
    # Limits nest as the stages do: the outermost is the last stage. A one-stage plan has only that.
    limits = list(_limits(top["Plan"]))[::-1]
    traces = []
    before, reached = 0.0, None
    for stage, node in zip(plan.stages, limits, strict=False):
        elapsed = node["Actual Total Time"] * 1000.0
        passed = int(node["Actual Rows"])
        access = _access(node) if stage is plan.stages[0] else ""
        traces.append(
            StageTrace(
                f"{access}{stage}",
                reached,
                passed,
                stage.precision.bytes(stage.dims),
                elapsed - before,
            )
        )
        before, reached = elapsed, passed
    return Trace("sql", top["Execution Time"] * 1000.0, tuple(traces))


def _limits(node: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if node["Node Type"] == "Limit":
        yield node
    for child in node.get("Plans", ()):
        yield from _limits(child)


def _access(node: dict[str, Any]) -> str:
    """How the first stage gets its rows, in the planner's word for it."""
    while node.get("Plans"):
        node = node["Plans"][0]
    return {"Index Scan": "hnsw, ", "Seq Scan": "seqscan, "}.get(
        node["Node Type"], f"{node['Node Type'].lower()}, "
    )
