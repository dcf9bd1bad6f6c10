"""Rows by key or by filter: get, delete, count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.adapt import Transformer
from psycopg.pq import Format

from mrl_db.model.errors import ValueRangeError
from mrl_db.model.key import Encoded, encode
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.conditions import conjunction
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session

_LOOKED_AT = 20_000  # rows, to learn how many are new


def get(
    session: Session,
    info: CollectionInfo,
    keys: list[Any],
    columns: Sequence[str],
    *,
    every: bool = False,
) -> tuple[list[Any], NDArray[np.float32], dict[str, list[Any]]]:
    """Returns rows by key, in the order of the keys.

    Args:
        session: To ask.
        info: The collection.
        keys: Of the rows.
        columns: To bring along.
        every: Whether those without a vector, too, come back, with NaN for it.

    Returns:
        Keys, vectors (n, dims), and columns as lists.
    """
    statement = statements.query("rows_get").format(
        key=statements.identifier(info.key),
        vector=statements.identifier(info.vector),
        columns=further_columns(info, columns),
        source=info.relation,
    )
    with session.connection() as connection:
        present = {row[0]: row for row in fetched(_execute(connection, statement, [keys]))}
    rows = [
        present[key] for key in keys if key in present and (every or present[key][1] is not None)
    ]
    return (
        [row[0] for row in rows],
        stacked([row[1] for row in rows], info.dims),
        {name: [row[2 + place] for row in rows] for place, name in enumerate(columns)},
    )


def stacked(vectors: Sequence[NDArray[np.float32] | None], dims: int) -> NDArray[np.float32]:
    """Returns vectors as (n, dims), of NaN for those that are None."""
    nothing = np.full(dims, np.nan, np.float32)
    listed = [nothing if vector is None else vector for vector in vectors]
    return np.stack(listed) if listed else np.empty((0, dims), np.float32)


def delete_ids(connection: Connection, info: CollectionInfo, keys: list[Any]) -> int:
    """Deletes rows by key; returns how many were there."""
    condition = sql.SQL("{} = ANY(%s)").format(statements.of_row(info.key))
    return _delete(connection, info, condition, [keys])


def delete_where(connection: Connection, request: Request) -> int:
    """Deletes the rows that a filter selects, those without a vector included; returns how many."""
    condition, parameters = request.filter()
    return _delete(connection, request.info, condition, parameters)


def count(session: Session, request: Request, *, every: bool = False) -> int:
    """Returns the number of rows with a vector that pass the filter; of every row that does."""
    with session.connection() as connection:
        return count_in(connection, request, every=every)


def count_in(connection: Connection, request: Request, *, every: bool = False) -> int:
    """The same, in a transaction of the caller's."""
    condition, parameters = request.filter() if every else request.condition()
    statement = statements.query("rows_count").format(
        source=request.info.relation, condition=condition
    )
    row = _execute(connection, statement, parameters).fetchone()
    return 0 if row is None else int(row[0])


def keys_where(session: Session, request: Request, among: Sequence[Any] | None = None) -> Encoded:
    """Returns the keys of the rows with a vector that pass the filter, as the index takes them.

    Args:
        session: To ask.
        request: The filter.
        among: Only rows with one of these keys.
    """
    condition, parameters = request.condition() if among is None else request.condition_among(among)
    statement = statements.query("rows_keys").format(
        key=statements.identifier(request.info.key),
        source=request.info.relation,
        condition=condition,
    )
    with session.connection() as connection:
        return encode(
            [row[0] for row in _execute(connection, statement, parameters).fetchall()],
            request.info.key_type,
        )


def present(session: Session, request: Request, keys: list[Any]) -> set[Any]:
    """Returns those of the keys whose rows have a vector and pass the filter."""
    condition, parameters = request.condition()
    among = statements.fragments("filter")["among"].format(
        key=statements.identifier(request.info.key), type=sql.SQL(request.info.key_type)
    )
    statement = statements.query("rows_keys").format(
        key=statements.identifier(request.info.key),
        source=request.info.relation,
        condition=conjunction(among, condition),
    )
    with session.connection() as connection:
        return {row[0] for row in _execute(connection, statement, [keys, *parameters]).fetchall()}


def sample_keys(session: Session, request: Request, n: int, seed: int) -> list[Any]:
    """Returns the keys of n rows with a vector that pass the filter, drawn at random, or of all."""
    total = count(session, request)
    condition, parameters = request.condition()
    # A fifth and 50 more than wanted, as each row is drawn by itself.
    percent = 100.0 if total == 0 else min(100.0, 100.0 * (1.2 * n + 50) / total)
    statement = statements.query("rows_sample").format(
        key=statements.identifier(request.info.key),
        source=request.info.relation,
        percent=sql.Literal(percent),
        seed=sql.Literal(seed),
        condition=condition,
    )
    with session.connection() as connection:
        keys = [row[0] for row in _execute(connection, statement, parameters).fetchall()]
    chosen = np.random.default_rng(seed).permutation(len(keys))[:n]
    return [keys[position] for position in chosen]


def share_newer(session: Session, info: CollectionInfo, transaction: int, total: int) -> float:
    """Returns the share of the rows that were written since a transaction, by a sample.

    Args:
        session: To ask.
        info: The collection.
        transaction: Later ones count.
        total: How many rows there are, about.
    """
    percent = min(100.0, 100.0 * _LOOKED_AT / max(total, 1))
    statement = statements.query("rows_newer").format(
        source=info.relation,
        percent=sql.Literal(percent),
        vector=statements.identifier(info.vector),
    )
    with session.connection() as connection:
        row = _execute(connection, statement, [transaction]).fetchone()
    return 0.0 if row is None else float(row[0])


def columns_of(
    session: Session, request: Request, ids: NDArray[Any]
) -> dict[str, NDArray[np.object_]]:
    """Returns columns of some rows (n, k), in that shape; None for a row that is gone."""
    if not request.columns:
        return {}
    with session.connection() as connection:
        return columns_in(connection, request, ids)


def columns_in(
    connection: Connection, request: Request, ids: NDArray[Any]
) -> dict[str, NDArray[np.object_]]:
    """The same, in a transaction of the caller's."""
    if not request.columns:
        return {}
    statement = statements.query("rows_columns").format(
        key=statements.identifier(request.info.key),
        columns=further_columns(request.info, request.columns),
        source=request.info.relation,
    )
    keys = ids.ravel().tolist()
    rows = fetched(_execute(connection, statement, [list(set(keys))]))
    of_key = {row[0]: row[1:] for row in rows}
    nothing = (None,) * len(request.columns)
    columns = {}
    for position, name in enumerate(request.columns):
        values = np.empty(len(keys), dtype=object)
        values[:] = [of_key.get(key, nothing)[position] for key in keys]
        columns[name] = values.reshape(ids.shape)
    return columns


def further_columns(info: CollectionInfo, columns: Sequence[str]) -> sql.Composed:
    """Returns the columns as they follow others in a SELECT."""

    def further(name: str) -> sql.Composed:
        column = info.columns.get(name)  # the vector is none of them
        part = "further"
        if column is not None and column.as_text:
            part = "further_as_texts" if column.type.endswith("[]") else "further_as_text"
        return statements.query(part).format(column=statements.identifier(name))

    return sql.SQL("").join([further(name) for name in columns])


def fetched(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Returns the rows of a statement whose first column is the key.

    Raises:
        ValueRangeError: A column has a value that Python has none for, as a year beyond 9999.
    """
    try:
        return cursor.fetchall()
    except psycopg.DataError as error:
        raise ValueRangeError(_unreadable(cursor) or str(error)) from None


def _unreadable(cursor: psycopg.Cursor[tuple[Any, ...]]) -> str | None:
    """Says which value of a binary result cannot be read: each is, by itself."""
    result, transformer = cursor.pgresult, Transformer(cursor.connection)
    assert result is not None
    for row in range(result.ntuples):
        key: Any = None
        for column in range(result.nfields):
            wire, name = result.get_value(row, column), result.fname(column) or b""
            loader = transformer.get_loader(result.ftype(column), Format.BINARY)
            try:
                value = None if wire is None else loader.load(wire)
            except psycopg.DataError as error:
                return (
                    f"column {name.decode()!r} of the row with key {key!r} has a value that Python "
                    f"has none for ({error}); leave the column out with columns=, or read it as "
                    "text by SQL"
                )
            key = value if column == 0 else key
    return None


def _delete(
    connection: Connection, info: CollectionInfo, condition: sql.Composable, parameters: list[Any]
) -> int:
    statement = statements.query("rows_delete").format(source=info.relation, condition=condition)
    return int(_execute(connection, statement, parameters).rowcount)


def _execute(connection: Connection, statement: sql.Composed, parameters: list[Any]) -> Any:
    return connection.cursor(binary=True).execute(statement, parameters)
