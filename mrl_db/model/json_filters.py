"""Filters that reach into jsonb: `{"meta.year": {"$gte": 2020}}`, typed by the operand.

A path goes by keys of objects, and by positions in arrays, as PostgreSQL's `#>` does. What is not
there counts as NULL, and so does a JSON null. A number compares with numbers only and a string with
strings: 5 is not "5", whatever other rows hold. `$contains` is jsonb's `@>`.
"""

from __future__ import annotations

import decimal
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrl_db.model.errors import FilterError
from mrl_db.model.values import brief, misfit, plain_value

ORDERS = ("$lt", "$lte", "$gt", "$gte")
PATTERNS = ("$like", "$ilike")
_MOST_LEVELS = 100  # of lists and dicts in each other


@dataclass(frozen=True, slots=True)
class JsonCondition:
    """One operator on what a path leads to.

    Attributes:
        column: Of type jsonb.
        path: Keys and positions; none: the whole column.
        operator: `$eq`, `$in`, an order, a pattern or `$contains`.
        value: JSON as text; for `$in` a tuple of such, for a pattern the pattern.
        kind: For an order or a pattern, what jsonb_typeof says of values that it compares with.
    """

    column: str
    path: tuple[str, ...]
    operator: str
    value: str | tuple[str, ...]
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class JsonNull:
    """Whether nothing, or a JSON null, is where a path leads."""

    column: str
    path: tuple[str, ...]


def path_of(name: str, column_types: Mapping[str, str]) -> tuple[str, tuple[str, ...]] | None:
    """Returns the jsonb column and the path that a dotted name means; None: it means neither.

    Raises:
        FilterError: PostgreSQL could not hold the path.

    >>> path_of("meta.author.name", {"meta": "jsonb"})
    ('meta', ('author', 'name'))
    """
    for end in (place for place, character in enumerate(name) if character == "."):
        if column_types.get(name[:end]) == "jsonb":
            wanted = misfit(name, "text")
            if wanted is not None:
                raise FilterError(f"the filter names {name!r}; wanted {wanted}")
            return name[:end], tuple(name[end + 1 :].split("."))
    return None


def condition(
    name: str, column: str, path: tuple[str, ...], operator: str, value: Any
) -> JsonCondition:
    """Returns the condition of an operator that needs a value which is not None.

    Args:
        name: As the filter names the place, for messages.
        column: Of type jsonb.
        path: Into it.
        operator: Of `JsonCondition`.
        value: The operand.

    Raises:
        FilterError: The value cannot be meant.
    """
    if operator == "$in":
        return JsonCondition(column, path, "$in", tuple(_text(name, each) for each in value))
    if operator in PATTERNS:
        return JsonCondition(column, path, operator, value, "string")
    text = _text(name, value)
    if operator not in ORDERS:
        return JsonCondition(column, path, operator, text)
    plain = plain_value(value)
    if isinstance(plain, bool) or not isinstance(plain, (int, float, decimal.Decimal, str)):
        raise FilterError(
            f"{operator} on {name!r} compares with {brief(plain)}, wanted a number or a string"
        )
    kind = "string" if isinstance(plain, str) else "number"
    return JsonCondition(column, path, operator, text, kind)


def _text(name: str, value: Any, level: int = 0) -> str:
    """Returns a value as JSON, numbers as they are."""
    if level > _MOST_LEVELS:
        raise FilterError(
            f"what the filter compares {name!r} with nests more than {_MOST_LEVELS} levels deep"
        )
    plain = plain_value(value)
    if isinstance(plain, str):
        wanted = misfit(plain, "text")
        if wanted is not None:
            raise FilterError(f"the filter compares {name!r} with {brief(plain)}; wanted {wanted}")
        return json.dumps(plain)
    if isinstance(plain, decimal.Decimal) and plain.is_finite():
        return str(plain)
    if plain is None or isinstance(plain, (bool, int)):
        return json.dumps(plain)
    if isinstance(plain, float) and math.isfinite(plain):
        return json.dumps(plain)
    if isinstance(plain, Mapping) and all(isinstance(key, str) for key in plain):
        pairs = (
            f"{_text(name, key)}: {_text(name, each, level + 1)}" for key, each in plain.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(plain, Sequence) and not isinstance(plain, bytes):
        return "[" + ", ".join(_text(name, each, level + 1) for each in plain) + "]"
    raise FilterError(
        f"the filter compares {name!r} with {brief(plain)} ({type(plain).__name__}); wanted what "
        "JSON has: finite numbers, strings, True, False, lists and dicts; dates as the strings "
        "that are stored"
    )
