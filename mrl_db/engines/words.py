"""Searches by the words of a text, and by vectors and words at once, in one statement.

Each list gives its first rows, some more than are asked for; what both say is fused (`Fusion`).
If fewer than k rows come back, the statement is run again with every row and every word.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg
from psycopg import sql
from psycopg.pq import TransactionStatus

from mrl_db.engines.sql import SqlEngine, collect
from mrl_db.hits import Hits, StageTrace, Trace, joined
from mrl_db.model.filters import AllOf
from mrl_db.model.plan import Plan, with_k
from mrl_db.postgres import rows, statements
from mrl_db.postgres.catalog import TextColumn
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session
from mrl_db.postgres.vectors import VectorParameter

_LONGER, _SHORTEST = 3, 30  # times k, and rows at least, of each list that is fused
_ALL = 2**31 - 1  # rows, before a filter


@dataclass(frozen=True, slots=True)
class Fusion:
    """How two lists become one.

    Attributes:
        weights: Of the vectors and of the words, in a sum of scores scaled to 0 … 1; None:
            reciprocal rank fusion.
    """

    weights: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """What is asked for, checked.

    Attributes:
        column: The text that is searched.
        texts: One for each query.
        queries: (n, dims), or None for words alone.
        k: Answers.
        plan: Of the vectors' list.
        fusion: Of the lists.
        exact: Whether every row and every word counts.
    """

    column: TextColumn
    texts: Sequence[str]
    queries: NDArray[np.float32] | None
    k: int
    plan: Plan
    fusion: Fusion
    exact: bool


def search(session: Session, engine: SqlEngine, request: Request, words: Words) -> Hits:
    """Returns the hits of each query, (n, k), the best score first, ties by key."""
    began = time.perf_counter()
    exact = replace(words, plan=Plan("seqscan", 1, words.plan.stages[-1:]), exact=True)
    results = []
    with session.connection() as connection:
        for number in range(len(words.texts)):
            result = _run(connection, engine, request, exact if words.exact else words, number)
            if len(result) < words.k and not words.exact:
                result = _run(connection, engine, request, exact, number)
            results.append(result)
    microseconds = (time.perf_counter() - began) * 1e6
    name = "words" if words.queries is None else f"{words.plan.route} and words, fused"
    trace = Trace("sql", microseconds, (StageTrace(name, None, words.k),))
    parts = []
    for result in results:
        hits = collect(request, [result], trace)[0]
        hits.scores = np.array([row[2] for row in result], dtype=np.float64)
        parts.append(hits)
    return joined(parts)


def _run(
    connection: Connection, engine: SqlEngine, request: Request, words: Words, number: int
) -> list[tuple[Any, ...]]:
    cursor = connection.cursor(binary=True)
    try:
        return rows.fetched(cursor.execute(*_statement(connection, engine, request, words, number)))
    except (pg.UndefinedFunction, pg.WrongObjectType):  # dropped, or the table has heirs now?
        if words.column.ranks is None or _has_failed(connection):
            raise
        words = replace(words, column=replace(words.column, ranks=None))
        return rows.fetched(cursor.execute(*_statement(connection, engine, request, words, number)))


def _has_failed(connection: Connection) -> bool:
    return connection.info.transaction_status is TransactionStatus.INERROR


def _statement(
    connection: Connection, engine: SqlEngine, request: Request, words: Words, number: int
) -> tuple[str | sql.Composed, list[Any]]:
    """The statement of one search, and its parameters; kept where there is no filter."""
    depth = words.k if words.queries is None else max(_LONGER * words.k, _SHORTEST)
    ranks, column, text = words.column.ranks, words.column, words.texts[number]
    unfiltered = request.where == AllOf(())
    condition, values = request.filter()
    if words.exact:
        ranks = None
    if ranks is None:
        parameters = [text, words.exact, request.info.name, *values, depth]
    else:
        places = depth if unfiltered else _ALL
        parameters = [column.words, column.language, text, places, *values, depth]
    nearest = ""
    if words.queries is not None:
        query, plan = words.queries[number], with_k(words.plan, depth)
        ordered = engine.statement(connection, replace(request, columns=()), plan)
        nearest = ordered.text
        weights = words.fusion.weights or ()
        parameters += [*ordered.parameters(query), *weights, words.k, VectorParameter(query)]

    def compose() -> sql.Composed:
        return _composed(request, words, ranks, condition, nearest)

    if not unfiltered:
        return compose(), parameters
    key = request.columns, words.fusion, ranks, nearest
    return engine.kept(key, lambda: compose().as_string(connection)), parameters


def _composed(
    request: Request, words: Words, ranks: str | None, condition: sql.Composable, nearest: str
) -> sql.Composed:
    info = request.info
    names: dict[str, sql.Composable] = {
        "key": statements.identifier(info.key),
        "key_order": sql.SQL(info.key_order),
        "source": info.relation,
        "condition": condition,
        "columns": rows.further_columns(info, request.columns),
    }
    if ranks is None:
        by_words = statements.query("rows_by_words").format(
            words=statements.identifier(words.column.words), **names
        )
    else:
        table = sql.Literal(info.relation.as_string())
        by_words = statements.query("rows_by_words_compiled").format(
            ranks=sql.SQL(ranks), table=sql.SQL("{}::regclass").format(table), **names
        )
    if words.queries is None:
        return statements.query("search_by_words").format(by_words=by_words, **names)
    weighs = words.fusion.weights is not None
    return statements.query("search_by_both").format(
        by_words=by_words,
        nearest=sql.SQL(nearest),
        fusion=statements.query("weighted_scores" if weighs else "reciprocal_ranks"),
        vector=statements.identifier(info.vector),
        vector_schema=statements.identifier(info.vector_schema),
        vector_type=statements.identifier(info.vector_type),
        operator=sql.SQL(info.metric.operator),
        **names,
    )
