"""Columns of rows that are there: one value for all that a filter selects, or each its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from psycopg import sql
from psycopg.types.json import Json, Jsonb

from mrl_db.model.errors import DtypeError
from mrl_db.model.values import JSON_TYPES
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo, Column
from mrl_db.postgres.conditions import type_name
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection

_ROWS = 1000  # of a statement
_PARAMETERS = 60_000  # PostgreSQL takes 65,535


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
    columns = request.info.columns
    given = [_parameter(value, columns[name], 0) for name, value in values.items()]
    given += [_parameter(dict(keys), columns[name], 0) for name, keys in merged.items()]
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
        _update(connection, info, tuple(columns), types, rows[begin : begin + step], begin)
        for begin in range(0, len(rows), step)
    )


def _update(
    connection: Connection,
    info: CollectionInfo,
    names: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[Any]],
    first: int,
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
    columns = [info.columns[name] for name in names]
    values: list[Any] = []
    for number, (key, *row_values) in enumerate(rows, first):
        pairs = zip(row_values, columns, strict=True)
        values += [key, *(_parameter(value, column, number) for value, column in pairs)]
    return connection.execute(statement, values).rowcount


def _parameter(value: Any, column: Column, row: int) -> Any:
    """Returns what stands for a value that passed the door; JSON as its text."""
    if column.wire_type not in JSON_TYPES:
        return value
    try:
        return _text(value, column.wire_type.endswith("[]"))
    except (TypeError, ValueError, RecursionError) as error:
        raise DtypeError(
            f"column {column.name!r} is {column.type}, row {row} has {value!r:.60}, which is no "
            f"JSON ({error}); wanted dicts, lists, strings, numbers, True, False and None"
        ) from None


def _text(value: Any, is_array: bool) -> Any:
    if value is None:
        return None
    if is_array and isinstance(value, list):
        return [_text(each, is_array) for each in value]
    return json.dumps(value.obj if isinstance(value, (Json, Jsonb)) else value, allow_nan=False)
