"""Rows by key or by filter: get, delete, count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session


def get(
    session: Session, info: CollectionInfo, keys: list[Any], columns: Sequence[str]
) -> tuple[list[Any], NDArray[np.float32], dict[str, list[Any]]]:
    """Returns (keys, vectors (n, dims), columns) of the rows that are there and have a vector, in the order of the keys."""
    statement = statements.query("rows_get").format(
        key=statements.identifier(info.key),
        vector=statements.identifier(info.vector),
        columns=further_columns(columns),
        source=info.relation,
    )
    with session.connection() as connection:
        found = {row[0]: row for row in _execute(connection, statement, [keys]).fetchall()}
    rows = [found[key] for key in keys if key in found and found[key][1] is not None]
    vectors = np.stack([row[1] for row in rows]) if rows else np.empty((0, info.dims), dtype=np.float32)
    return (
        [row[0] for row in rows],
        vectors,
        {name: [row[2 + place] for row in rows] for place, name in enumerate(columns)},
    )


def delete_ids(session: Session, info: CollectionInfo, keys: list[Any]) -> int:
    """Deletes rows by key; returns how many were there."""
    condition = sql.SQL("{} = ANY(%s)").format(statements.of_row(info.key))
    return _delete(session, info, condition, [keys])


def delete_where(session: Session, request: Request) -> int:
    """Deletes the rows that a filter selects, those without a vector included; returns how many."""
    condition, parameters = request.filter()
    return _delete(session, request.info, condition, parameters)


def count(session: Session, request: Request) -> int:
    """Returns the number of rows with a vector that pass the filter."""
    condition, parameters = request.condition()
    statement = statements.query("rows_count").format(source=request.info.relation, condition=condition)
    with session.connection() as connection:
        row = _execute(connection, statement, parameters).fetchone()
    return 0 if row is None else int(row[0])


def further_columns(columns: Sequence[str]) -> sql.Composed:
    """Returns the columns as they follow others in a SELECT."""
    further = statements.fragments("columns")["further"]
    return sql.SQL("").join([further.format(column=statements.identifier(column)) for column in columns])


def _delete(session: Session, info: CollectionInfo, condition: sql.Composable, parameters: list[Any]) -> int:
    statement = statements.query("rows_delete").format(source=info.relation, condition=condition)
    with session.connection() as connection:
        return int(_execute(connection, statement, parameters).rowcount)


def _execute(connection: Connection, statement: sql.Composed, parameters: list[Any]) -> Any:
    return connection.cursor(binary=True).execute(statement, parameters)
