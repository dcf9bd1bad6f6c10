"""A filter tree as a WHERE condition: identifiers quoted, every value a parameter."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import PyFormat, Transformer

from mrl_db.model.errors import FilterError
from mrl_db.model.filters import PATTERNS, AllOf, AnyOf, Node, Not, Null, Raw
from mrl_db.model.json_filters import JsonCondition, JsonNull
from mrl_db.model.values import is_missing, is_text
from mrl_db.postgres import statements

_MOST_VALUES = 65_000  # PostgreSQL takes 65,535, a few of which are a statement's own


def raw(condition: sql.Composable, *parameters: Any) -> Raw:
    """Returns a condition in SQL as a filter, or as a part of one in `$and`, `$or` and `$not`.

    The table is named row_. NULL counts as false. PostgreSQL evaluates it for all engines.

    Args:
        condition: Of `psycopg.sql`, with %s for each parameter, and %% for a percent sign.
        parameters: Values, which never become SQL.

    Raises:
        FilterError: It is no such condition, or the parameters are others.

    >>> raw(sql.SQL("row_.year %% %s = 0"), 4).parameters
    (4,)
    """
    if not isinstance(condition, sql.Composable):
        raise FilterError(
            f"raw() got a {type(condition).__name__}, wanted psycopg.sql.SQL(…) with %s for values"
        )
    marks = re.findall(r"%(.?)", condition.as_string(None), re.DOTALL)
    others = [mark for mark in marks if mark not in ("%", "s", "b", "t")]
    if others:
        raise FilterError(f"raw() has %{others[0]} in its SQL; wanted %s, or %% for a percent sign")
    places = sum(mark != "%" for mark in marks)
    if places != len(parameters):
        raise FilterError(
            f"raw() has {places} marks %s and {len(parameters)} parameters; wanted one each"
        )
    for number, parameter in enumerate(parameters):
        if not _is_sent(parameter):
            raise FilterError(
                f"raw() got {parameter!r:.60} ({type(parameter).__name__}) as parameter {number}; "
                "wanted a value that psycopg sends to PostgreSQL, or None for NULL"
            )
    return Raw(condition, parameters)


def _is_sent(value: Any) -> bool:
    """Whether psycopg has a form for a value; NaT, which passes for a datetime, has none."""
    if any(is_missing(each) for each in (value if isinstance(value, (list, tuple)) else [value])):
        return False
    try:
        Transformer().dump_sequence([value], [PyFormat.AUTO])
    except (psycopg.Error, TypeError, ValueError, AttributeError, ArithmeticError, struct.error):
        return False
    return True


def compile_condition(
    node: Node, column_types: Mapping[str, str]
) -> tuple[sql.Composable, list[Any]]:
    """Returns the condition on the table named row_, and its parameters in order."""
    parts = statements.fragments("filter")
    parameters: list[Any] = []

    def joined(name: str, nodes: tuple[Node, ...]) -> sql.Composable:
        compiled = [visit(each) for each in nodes]
        while len(compiled) > 1:  # by pairs, which nest no deeper than their number has digits
            compiled = [
                parts[name].format(left=pair[0], right=pair[1]) if len(pair) == 2 else pair[0]
                for pair in (compiled[at : at + 2] for at in range(0, len(compiled), 2))
            ]
        return compiled[0]

    def visit(node: Node) -> sql.Composable:
        if isinstance(node, Raw):
            assert isinstance(node.condition, sql.Composable)
            parameters.extend(node.parameters)
            return parts["raw"].format(condition=node.condition)
        if isinstance(node, AllOf):
            return joined("$and", node.parts) if node.parts else parts["always"]
        if isinstance(node, AnyOf):
            return joined("$or", node.parts) if node.parts else parts["never"]
        if isinstance(node, Not):
            return parts["$not"].format(condition=visit(node.part))
        if isinstance(node, Null):
            return parts["null"].format(column=statements.identifier(node.column))
        if isinstance(node, (JsonCondition, JsonNull)):
            part, values = _in_json(node)
            parameters.extend(values)
            return part
        several = isinstance(node.value, tuple)
        parameters.append(list(node.value) if several else node.value)
        return parts[node.operator].format(
            column=statements.identifier(node.column), type=type_name(column_types[node.column])
        )

    condition = visit(node)
    if len(parameters) > _MOST_VALUES:
        raise FilterError(
            f"the filter has {len(parameters)} values, PostgreSQL takes {_MOST_VALUES} with a "
            "statement; $in takes any number as one, and raw() an array with = ANY(%s)"
        )
    return condition, parameters


def _in_json(node: JsonCondition | JsonNull) -> tuple[sql.Composable, list[Any]]:
    """Returns a condition on what a path leads to, and its parameters in order."""
    parts, column = statements.fragments("filter"), statements.identifier(node.column)
    value: sql.Composable = parts["json"].format(column=column)
    path: list[Any] = [list(node.path)]
    if not node.path:
        value, path = statements.of_row(node.column), []
    if isinstance(node, JsonNull):
        return parts["json_null"].format(value=value), path
    operand = list(node.value) if isinstance(node.value, tuple) else node.value
    compared = parts["json_text"].format(column=column) if node.operator in PATTERNS else value
    condition = parts[f"json_{node.operator}"].format(value=compared)
    if node.kind is None:
        return condition, [*path, operand]
    typed = parts["json_of_kind"].format(value=value, condition=condition)
    return typed, [*path, node.kind, *path, operand]


def conjunction(left: sql.Composable, right: sql.Composable) -> sql.Composable:
    """Returns a condition that holds where both hold."""
    return statements.fragments("filter")["$and"].format(left=left, right=right)


def among(column: str, sql_type: str) -> sql.Composable:
    """Returns the condition that a row's key is one of a list."""
    part = statements.fragments("filter")["among"]
    return part.format(key=statements.identifier(column), type=type_name(sql_type))


def after(column: str, sql_type: str) -> sql.Composable:
    """Returns the condition that a row's key comes after a value."""
    part = statements.fragments("filter")["after"]
    return part.format(key=statements.identifier(column), type=type_name(sql_type))


def other(column: str, sql_type: str) -> sql.Composable:
    """Returns the condition that a row's key is not a value."""
    part = statements.fragments("filter")["other"]
    return part.format(key=statements.identifier(column), type=type_name(sql_type))


def present(column: str) -> sql.Composable:
    """Returns the condition that a column is not NULL."""
    return statements.fragments("filter")["present"].format(column=statements.identifier(column))


def same(name: str, search_oid: int) -> sql.Composable:
    """Returns a condition that is true; an error where a collection was made anew since.

    Args:
        name: Of the collection.
        search_oid: Of its search function, as it was described.
    """
    function = statements.identifier("mrl", f"search_{name}").as_string(None)
    return statements.fragments("filter")["same"].format(
        search=sql.Literal(function),
        oid=sql.Literal(search_oid),
        collection=sql.Literal(name.replace("%", "%%")),
    )


def in_part(key: str, part: int, parts: int) -> sql.Composable:
    """Returns the condition that a row is in one part of its table, of so many, by its key's hash.

    The hash is the server's own, which another major version may compute otherwise.
    """
    return statements.fragments("filter")["part"].format(
        key=statements.identifier(key), part=sql.Literal(part), parts=sql.Literal(parts)
    )


def type_name(sql_type: str) -> sql.SQL:
    """Returns the type that a value is cast to: format_type's name; strings go as text."""
    return sql.SQL("text" if is_text(sql_type) else sql_type.replace("%", "%%"))
