"""The filter language: a dict over metadata columns becomes a tree that knows nothing of SQL.

`{"year": {"$gte": 2020}, "title": {"$ilike": "%funnel%"}}` means both. A bare value means `$eq`.
Operators: `$eq $ne $lt $lte $gt $gte $in $nin $exists $like $ilike` on a column, `$contains` on one
of jsonb or an array, `$and $or` over a list of filters, `$not` over one. A dotted name reaches into
jsonb (`mrl_db.model.json_filters`).

A NULL satisfies nothing but `$ne` (of a value), `$nin`, `$exists: False`, `$eq: None` and
negations: two-valued logic, as in Python, where SQL alone would answer "unknown". Values must fit
their column; nothing is converted in silence.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from mrl_db.model import json_filters
from mrl_db.model.errors import FilterError
from mrl_db.model.json_filters import JsonCondition, JsonNull
from mrl_db.model.values import brief, has_text_form, is_text, knows, misfit, plain_value

COMPARISONS = ("$eq", "$ne", "$lt", "$lte", "$gt", "$gte")
MEMBERSHIPS = ("$in", "$nin")
PATTERNS = ("$like", "$ilike")
OPERATORS = (*COMPARISONS, *MEMBERSHIPS, "$exists", *PATTERNS, "$contains")
VECTOR = "vectors"
"""The type of the column that is searched: a filter asks whether a row has one."""
_WITHOUT_EQUALITY = ("json", "json[]", "jsonpath", "point", "polygon", "xml")
JUNCTIONS = ("$and", "$or", "$not")
_READERS: Mapping[str, Callable[[str], Any]] = {
    "date": datetime.date.fromisoformat,
    "timestamp without time zone": datetime.datetime.fromisoformat,
    "timestamp with time zone": datetime.datetime.fromisoformat,
    "uuid": uuid.UUID,
    "numeric": Decimal,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one column; never None. `$in` and `$contains` have a tuple."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """A condition in SQL with its parameters, made by `mrl_db.raw`; none equals another.

    So nothing that is remembered of one is used for another: what it says may depend on other
    tables, or on the time.
    """

    condition: object
    parameters: tuple[Any, ...]


Node = Raw | Condition | Null | JsonCondition | JsonNull | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Place:
    """What a condition is on: a column, or what is at a path in one of jsonb."""

    name: str
    column: str
    sql_type: str
    path: tuple[str, ...] = ()

    @property
    def null(self) -> Node:
        """Whether nothing is there."""
        return JsonNull(self.column, self.path) if self.path else Null(self.column)

    @property
    def is_text(self) -> bool:
        """Whether patterns may be looked for."""
        return bool(self.path) or is_text(self.sql_type)

    def condition(self, operator: str, value: Any) -> Node:
        """Returns the condition of an operator; raises FilterError for values that do not fit."""
        if self.path:
            return json_filters.condition(self.name, self.column, self.path, operator, value)
        if operator == "$in":
            values = tuple(_value(self.name, each, self.sql_type) for each in value)
            return Condition(self.column, "$in", values)
        return Condition(self.column, operator, _value(self.name, value, self.sql_type))


def is_of_row(node: Node) -> bool:
    """Whether a filter says the same of a row for as long as nobody writes to it.

    Operators on columns do; a condition in SQL may depend on other tables, or on the time.
    """
    if isinstance(node, (AllOf, AnyOf)):
        return all(is_of_row(part) for part in node.parts)
    if isinstance(node, Not):
        return is_of_row(node.part)
    return not isinstance(node, Raw)


_MOST_LEVELS = 100  # of filters in filters: the tree is walked by functions that call themselves


def parse(
    where: Mapping[str, Any] | Raw | None, column_types: Mapping[str, str], level: int = 0
) -> Node:
    """Returns the tree of a filter.

    Args:
        where: A dict, or a condition in SQL; None: no filter.
        column_types: The SQL type of each column, as `format_type` writes it.
        level: How many filters it is inside of.

    Raises:
        FilterError: A name, an operator or a value cannot be meant.

    >>> parse({"year": {"$gte": 2020}}, {"year": "integer"})
    Condition(column='year', operator='$gte', value=2020)
    """
    if where is None:
        return AllOf(())
    if isinstance(where, Raw):
        return replace(where)
    if not isinstance(where, Mapping):
        raise FilterError(
            f"a filter is a {type(where).__name__}, wanted a dict such as "
            "{'year': {'$gte': 2020}}"
        )
    _check_level(level)
    parts = []
    for name, value in where.items():
        if not isinstance(name, str):
            raise FilterError(f"a filter names {name!r}, wanted a column or an operator")
        if name in JUNCTIONS:
            parts.append(_junction(name, value, column_types, level + 1))
        elif name in column_types:
            parts.append(_column(Place(name, name, column_types[name]), value))
        elif name.startswith("$"):
            known = ", ".join(JUNCTIONS)
            raise FilterError(
                f"operator {name!r} cannot stand here, wanted one of {known} or a column; known on "
                f"columns: {', '.join(OPERATORS)}"
            )
        else:
            inside = json_filters.path_of(name, column_types)
            if inside is None:
                known = ", ".join(column_types) or "none"
                raise FilterError(f"no column {name!r} to filter by; there are: {known}")
            parts.append(_column(Place(name, inside[0], "jsonb", inside[1]), value))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def from_json(where: Any, column_types: Mapping[str, str]) -> Any:
    """Returns a filter that came as JSON, which has no dates, uuids or exact numbers but as text.

    What cannot be read stays as it is, for `parse` to refuse.

    >>> from_json({"day": {"$gte": "2020-01-31"}}, {"day": "date"})
    {'day': {'$gte': datetime.date(2020, 1, 31)}}
    """
    if isinstance(where, list):
        return [from_json(part, column_types) for part in where]
    if not isinstance(where, Mapping):
        return where
    return {name: _read(name, value, column_types) for name, value in where.items()}


def _read(name: Any, value: Any, column_types: Mapping[str, str]) -> Any:
    if name in column_types:
        return _from_json(value, column_types[name])
    return from_json(value, column_types) if name in JUNCTIONS else value


def _from_json(value: Any, sql_type: str) -> Any:
    if isinstance(value, Mapping):
        return {operator: _from_json(each, sql_type) for operator, each in value.items()}
    if isinstance(value, list):
        return [_from_json(each, sql_type) for each in value]
    read = _READERS.get(sql_type)
    if read is None or not isinstance(value, (str, float)):
        return value
    try:
        return read(str(value))
    except (ValueError, ArithmeticError):
        return value


def _check_level(level: int) -> None:
    if level > _MOST_LEVELS:
        raise FilterError(f"the filter nests more than {_MOST_LEVELS} levels deep; flatten it")


def _junction(name: str, value: Any, column_types: Mapping[str, str], level: int) -> Node:
    if name == "$not":
        if not isinstance(value, (Mapping, Raw)):
            raise FilterError(f"$not holds a {type(value).__name__}, wanted one filter (a dict)")
        return Not(parse(value, column_types, level))
    if not _is_list(value):
        raise FilterError(f"{name} holds a {type(value).__name__}, wanted a list of filters")
    parts = tuple(parse(part, column_types, level) for part in value)
    return AllOf(parts) if name == "$and" else AnyOf(parts)


def _column(place: Place, value: Any, level: int = 0) -> Node:
    _check_level(level)
    if not isinstance(value, Mapping):
        return _operator(place, "$eq", value)
    parts = tuple(_operator(place, each, operand, level) for each, operand in value.items())
    if not parts:
        raise FilterError(
            f"column {place.name!r} has an empty condition, wanted an operator such as {{'$eq': …}}"
        )
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _operator(place: Place, operator: object, value: Any, level: int = 0) -> Node:
    name = place.name
    if operator == "$not":
        return Not(_column(place, value, level + 1))
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise FilterError(
            f"operator {operator!r} on column {name!r} is not known; choose one of "
            f"{', '.join(OPERATORS)} or $not"
        )
    if place.sql_type == VECTOR and (operator != "$exists" and value is not None):
        raise FilterError(
            f"column {name!r} has the vectors, which are searched for; a filter asks whether a row "
            "has one: {'$exists': True}"
        )
    if operator == "$exists":
        if not isinstance(value, bool):
            raise FilterError(f"$exists on column {name!r} is {brief(value)}, wanted True or False")
        return Not(place.null) if value else place.null
    compares = operator in COMPARISONS or operator in MEMBERSHIPS
    if compares and value is not None and not place.path and place.sql_type in _WITHOUT_EQUALITY:
        way_out = "make it jsonb" if place.sql_type.startswith("json") else "compare by raw()"
        raise FilterError(
            f"{operator} on column {name!r}: PostgreSQL has no equality for {place.sql_type}; "
            f"{way_out}, or ask with $exists"
        )
    if operator in MEMBERSHIPS:
        if not _is_list(value):
            raise FilterError(
                f"{operator} on column {name!r} holds a {type(value).__name__}, wanted a list of "
                "values"
            )
        if not place.path and place.sql_type.endswith("[]"):
            raise FilterError(
                f"{operator} compares single values, column {name!r} is {place.sql_type}; use "
                "$contains"
            )
        member = place.condition("$in", [each for each in value if each is not None])
        if any(each is None for each in value):
            member = AnyOf((member, place.null))
        return Not(member) if operator == "$nin" else member
    if operator in PATTERNS:
        return place.condition(operator, _pattern(place, operator, value))
    if operator == "$contains":
        return _contains(place, value)
    if value is None:
        if operator == "$eq":
            return place.null
        if operator == "$ne":
            return Not(place.null)
        raise FilterError(
            f"{operator} on column {name!r} compares with None, which has no order; use $exists"
        )
    if operator == "$ne" and place.path:
        return Not(place.condition("$eq", value))
    return place.condition(operator, value)


def _pattern(place: Place, operator: str, value: Any) -> str:
    if not place.is_text:
        raise FilterError(f"{operator} needs text, column {place.name!r} is {place.sql_type}")
    if not isinstance(value, str):
        raise FilterError(
            f"{operator} on column {place.name!r} holds a {type(value).__name__}, wanted a pattern "
            "such as 'abc%'"
        )
    if len(value) - len(value.rstrip("\\")) & 1:
        raise FilterError(f"the pattern {value!r} ends in an escape; write two backslashes for one")
    pattern: str = _value(place.name, value, "text")
    return pattern


def _contains(place: Place, value: Any) -> Node:
    if place.sql_type == "jsonb":
        return json_filters.condition(place.name, place.column, place.path, "$contains", value)
    if not place.sql_type.endswith("[]"):
        raise FilterError(
            f"$contains needs jsonb or an array, column {place.name!r} is {place.sql_type}; $like "
            "finds a part of a text"
        )
    values = value if _is_list(value) else [value]
    if any(each is None for each in values):
        raise FilterError(f"$contains on column {place.name!r} holds None, which no array contains")
    element = place.sql_type.removesuffix("[]")
    listed = tuple(_value(place.name, each, element) for each in values)
    return Condition(place.column, "$contains", listed)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _value(name: str, value: Any, sql_type: str) -> Any:
    """Returns a value that fits the column, as plain Python.

    Types that Python has none for, or that psycopg reads the text of, take their text form.
    """
    plain = plain_value(value)
    by_text = not knows(sql_type) or (isinstance(plain, str) and has_text_form(sql_type))
    wanted = misfit(plain, "text" if by_text else sql_type)
    if wanted is None and isinstance(plain, float) and math.isnan(plain):
        wanted = "a number that is not NaN, which compares with nothing"
    if wanted is not None:
        raise FilterError(
            f"column {name!r} is {sql_type}, the filter compares it with {brief(plain)}; wanted "
            f"{wanted}"
        )
    return plain
