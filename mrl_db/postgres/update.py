"""Columns of rows that are there: one value for all that a filter selects, or each its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from psycopg import sql
from psycopg.types.json import Json, Jsonb

from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.conditions import type_name
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection

_ROWS = 1000  # of a statement
_PARAMETERS = 60_000  # PostgreSQL takes 65,535

_JSON = {"json": Json, "jsonb": Jsonb}


def update_where(
    connection: Connection,
    request: Request,
    values: Mapping[str, Any],
    merged: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> int:
    """Gives the rows that a filter selects these values; returns how many they are.

    Args:
        connection: In a transaction.
        request: The filter.
        values: For each column one.
        merged: For columns of jsonb, keys that their objects get besides those that they have.
    """
    types = request.column_types
    condition, parameters = request.filter()
    set_value, set_merged = statements.query("set_value"), statements.query("set_merged")
    assignments = [
        set_value.format(column=statements.identifier(name), type=type_name(types[name]))
        for name in values
    ]
    assignments += [set_merged.format(column=statements.identifier(name)) for name in merged]
    statement = statements.query("rows_update_where").format(
        target=request.info.relation,
        assignments=sql.SQL(", ").join(assignments),
        condition=condition,
    )
    given = [_parameter(value, types[name]) for name, value in values.items()]
    given += [Jsonb(dict(keys)) for keys in merged.values()]
    return connection.execute(statement, [*given, *parameters]).rowcount


def update_keys(
    connection: Connection,
    info: CollectionInfo,
    keys: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
) -> int:
    """Gives each row, by its key, values of its own; returns how many rows were there."""
    step = min(_ROWS, _PARAMETERS // (len(columns) + 1))
    types = [info.key_type, *(info.columns[name].type for name in columns)]
    rows = list(zip(keys, *columns.values(), strict=True))
    return sum(
        _update(connection, info, tuple(columns), types, rows[begin : begin + step])
        for begin in range(0, len(rows), step)
    )


def _update(
    connection: Connection,
    info: CollectionInfo,
    names: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> int:
    comma = sql.SQL(", ")
    assignment, typed = statements.query("set_column"), statements.query("typed_value")
    numbers = [statements.identifier(f"column_{number}") for number in range(len(types))]
    row = sql.SQL("({})").format(comma.join(typed.format(type=type_name(each)) for each in types))
    statement = statements.query("rows_update").format(
        target=info.relation,
        assignments=comma.join(
            assignment.format(column=statements.identifier(name), number=number)
            for name, number in zip(names, numbers[1:], strict=True)
        ),
        values=comma.join([row] * len(rows)),
        numbers=comma.join(numbers),
        key=statements.identifier(info.key),
        number=numbers[0],
    )
    values = [
        _parameter(value, sql_type)
        for row_values in rows
        for value, sql_type in zip(row_values, types, strict=True)
    ]
    return connection.execute(statement, values).rowcount


def _parameter(value: Any, sql_type: str) -> Any:
    wrap = _JSON.get(sql_type)
    return value if wrap is None or value is None else wrap(value)
