"""The filter language: a dict over metadata columns becomes a tree that knows nothing of SQL.

`{"year": {"$gte": 2020}, "title": {"$ilike": "%funnel%"}}` means both. A bare value means `$eq`.
Operators: `$eq $ne $lt $lte $gt $gte $in $nin $exists $like $ilike` on a column, `$and $or` over a
list of filters, `$not` over one.

A NULL satisfies nothing but `$ne` (of a value), `$nin`, `$exists: False`, `$eq: None` and
negations: two-valued logic, as in Python, where SQL alone would answer "unknown". Values must fit
their column; nothing is converted in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrl_db.model.errors import FilterError
from mrl_db.model.values import is_text, knows, misfit, plain_value

COMPARISONS = ("$eq", "$ne", "$lt", "$lte", "$gt", "$gte")
MEMBERSHIPS = ("$in", "$nin")
PATTERNS = ("$like", "$ilike")
OPERATORS = (*COMPARISONS, *MEMBERSHIPS, "$exists", *PATTERNS)
JUNCTIONS = ("$and", "$or", "$not")


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one column: a comparison, `$in` with a tuple, or a pattern; never None."""

    column: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Null:
    """Whether a column is NULL."""

    column: str


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds; without parts, always."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds; without parts, never."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


Node = Condition | Null | AllOf | AnyOf | Not


def parse(where: Mapping[str, Any] | None, column_types: Mapping[str, str]) -> Node:
    """Returns the tree of a filter.

    Args:
        where: A dict; None: no filter.
        column_types: The SQL type of each column, as `format_type` writes it.

    Raises:
        FilterError: A name, an operator or a value cannot be meant.

    >>> parse({"year": {"$gte": 2020}}, {"year": "integer"})
    Condition(column='year', operator='$gte', value=2020)
    """
    if where is None:
        return AllOf(())
    if not isinstance(where, Mapping):
        raise FilterError(
            f"a filter is a {type(where).__name__}, wanted a dict such as "
            "{'year': {'$gte': 2020}}"
        )
    parts = []
    for name, value in where.items():
        if not isinstance(name, str):
            raise FilterError(f"a filter names {name!r}, wanted a column or an operator")
        if name in JUNCTIONS:
            parts.append(_junction(name, value, column_types))
        elif name.startswith("$") and name not in column_types:
            known = ", ".join(JUNCTIONS)
            raise FilterError(
                f"operator {name!r} cannot stand here, wanted one of {known} or a column; known on "
                f"columns: {', '.join(OPERATORS)}"
            )
        elif name not in column_types:
            known = ", ".join(column_types) or "none"
            raise FilterError(f"no column {name!r} to filter by; there are: {known}")
        else:
            parts.append(_column(name, value, column_types[name]))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _junction(name: str, value: Any, column_types: Mapping[str, str]) -> Node:
    if name == "$not":
        if not isinstance(value, Mapping):
            raise FilterError(f"$not holds a {type(value).__name__}, wanted one filter (a dict)")
        return Not(parse(value, column_types))
    if not _is_list(value):
        raise FilterError(f"{name} holds a {type(value).__name__}, wanted a list of filters")
    parts = tuple(parse(part, column_types) for part in value)
    return AllOf(parts) if name == "$and" else AnyOf(parts)


def _column(name: str, value: Any, sql_type: str) -> Node:
    if not isinstance(value, Mapping):
        return _operator(name, "$eq", value, sql_type)
    parts = tuple(
        _operator(name, operator, operand, sql_type) for operator, operand in value.items()
    )
    if not parts:
        raise FilterError(
            f"column {name!r} has an empty condition, wanted an operator such as {{'$eq': …}}"
        )
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _operator(name: str, operator: object, value: Any, sql_type: str) -> Node:
    if operator == "$not":
        return Not(_column(name, value, sql_type))
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise FilterError(
            f"operator {operator!r} on column {name!r} is not known; choose one of "
            f"{', '.join(OPERATORS)} or $not"
        )
    if operator == "$exists":
        if not isinstance(value, bool):
            raise FilterError(f"$exists on column {name!r} is {value!r}, wanted True or False")
        return Not(Null(name)) if value else Null(name)
    if operator in MEMBERSHIPS:
        if not _is_list(value):
            raise FilterError(
                f"{operator} on column {name!r} holds a {type(value).__name__}, wanted a list of "
                "values"
            )
        values = tuple(_value(name, each, sql_type) for each in value if each is not None)
        member: Node = Condition(name, "$in", values)
        if len(values) < len(value):
            member = AnyOf((member, Null(name)))
        return Not(member) if operator == "$nin" else member
    if operator in PATTERNS:
        if not is_text(sql_type):
            raise FilterError(f"{operator} needs text, column {name!r} is {sql_type}")
        if not isinstance(value, str):
            raise FilterError(
                f"{operator} on column {name!r} holds a {type(value).__name__}, wanted a pattern "
                "such as 'abc%'"
            )
        if len(value) - len(value.rstrip("\\")) & 1:
            raise FilterError(
                f"the pattern {value!r} ends in an escape; write two backslashes for one"
            )
        return Condition(name, operator, _value(name, value, sql_type))
    if value is None:
        if operator == "$eq":
            return Null(name)
        if operator == "$ne":
            return Not(Null(name))
        raise FilterError(
            f"{operator} on column {name!r} compares with None, which has no order; use $exists"
        )
    return Condition(name, operator, _value(name, value, sql_type))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _value(name: str, value: Any, sql_type: str) -> Any:
    """Returns a value that fits the column, as plain Python; unknown types take their text form."""
    plain = plain_value(value)
    wanted = misfit(plain, sql_type if knows(sql_type) else "text")
    if wanted is None and isinstance(plain, float) and math.isnan(plain):
        wanted = "a number that is not NaN, which compares with nothing"
    if wanted is not None:
        raise FilterError(
            f"column {name!r} is {sql_type}, the filter compares it with {plain!r}; wanted {wanted}"
        )
    return plain
