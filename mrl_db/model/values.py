"""Which Python values a column of an SQL type takes, for writing and for filters alike.

psycopg's binary dumpers are fast and trusting: an int beyond int4 is cut in silence, and of a date
in a column of times they read whatever stands where a time has its hour. So values are checked
before they reach one.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import math
import reprlib
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

from mrl_db.model.texts import RANGES, reads

JSON_TYPES = ("json", "jsonb", "json[]", "jsonb[]")
"""The types whose values, or those of their arrays, travel as JSON's text."""


def misfit(value: Any, sql_type: str) -> str | None:
    """Returns what is wanted instead of a value; None when it fits, or the type is unknown.

    Args:
        value: As it came.
        sql_type: As `format_type` writes it.

    >>> misfit(2**40, "integer")
    'an integer from -2147483648 to 2147483647'
    """
    if is_missing(value):
        return "a value, or None for NULL"
    if sql_type.endswith("[]"):
        return _misfit_in(value, sql_type.removesuffix("[]"))
    return _CHECKS.get(sql_type, _of_any_type)(value)


def _misfit_in(value: Any, element: str) -> str | None:
    """The same of an array, which may hold arrays, and None for NULL."""
    if not isinstance(value, list):
        return "a list"
    for each in value:
        if each is None:
            continue
        wanted = _misfit_in(each, element) if isinstance(each, list) else misfit(each, element)
        if wanted is not None:
            return f"a list, each of it {wanted}"
    return None


def is_missing(value: Any) -> bool:
    """Whether it is pandas' mark of a missing value; NaT passes for a datetime."""
    return type(value).__name__ in ("NaTType", "NAType")


def knows(sql_type: str) -> bool:
    """Whether `misfit` has a rule for this type."""
    return sql_type in _CHECKS


def has_text_form(sql_type: str) -> bool:
    """Whether a filter may compare with the text of a value, which the server reads."""
    return reads(sql_type) or sql_type in ("bytea", "oid")


def plain_value(value: Any) -> Any:
    """Returns a NumPy scalar as the Python value that it holds, an array of NumPy's as a list.

    Anything else comes back as it is.
    """
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def plain_array(value: Any) -> Any:
    """Returns an array of a metadata column as lists; what is none as it is.

    >>> plain_array(((1, 2), [3, None]))
    [[1, 2], [3, None]]
    """
    plain = plain_value(value)
    return [plain_array(each) for each in plain] if isinstance(plain, (list, tuple)) else plain


def is_text(sql_type: str) -> bool:
    """Whether a column of this type holds strings."""
    return sql_type in ("text", "character varying", "character")


def _of_any_type(value: Any) -> str | None:
    """What is wanted of a type without a rule: its strings have to reach the server."""
    reaches = not isinstance(value, str) or _encodable(value)
    return None if reaches else "a string that is valid Unicode"


def _integer(limit: int, least: int | None = None) -> Callable[[Any], str | None]:
    smallest = -limit if least is None else least

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "an integer"
        return None if smallest <= value < limit else f"an integer from {smallest} to {limit - 1}"

    return check


def _real(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "a number"
    return (
        None
        if isinstance(value, float) or abs(value) <= 2**53
        else "a float, as this integer is beyond 2**53"
    )


def _single(value: Any) -> str | None:
    wanted = _real(value)
    if wanted is None and math.isfinite(value) and value != 0:
        rounded = abs(float(value))
        if not 1.4e-45 <= rounded <= 3.4028234663852886e38:
            return "a number within the range of real"
    return wanted


def _numeric(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, decimal.Decimal)):
        return "an int or a decimal.Decimal: a float is not exact"
    return (
        "a number that is not NaN"
        if isinstance(value, decimal.Decimal) and value.is_nan()
        else None
    )


def _timestamp(aware: bool) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, datetime.datetime) and (value.tzinfo is not None) == aware:
            return None
        return f"a datetime.datetime {'with' if aware else 'without'} a time zone"

    return check


def _time(aware: bool) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, datetime.time) and (
            value.utcoffset() is not None if aware else value.tzinfo is None
        ):
            return None
        zone, text = ("an offset from UTC", "+02:00") if aware else ("no time zone", "")
        return f"a datetime.time with {zone}, or its text, such as '10:30:00{text}'"

    return check


def _range(bounds: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if not isinstance(value, Range):
            return "a psycopg.types.range.Range"
        for bound in (value.lower, value.upper):
            wanted = None if bound is None else misfit(bound, bounds)
            if wanted is not None:
                return f"a Range, each bound of it {wanted}"
        return None

    return check


def _multirange(bounds: str) -> Callable[[Any], str | None]:
    of_each = _range(bounds)

    def check(value: Any) -> str | None:
        if not isinstance(value, Multirange):
            return "a psycopg.types.multirange.Multirange"
        return next((wanted for each in value if (wanted := of_each(each)) is not None), None)

    return check


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return "a string"
    if "\0" in value:
        return "a string without NUL characters, which PostgreSQL cannot hold"
    return None if _encodable(value) else "a string that is valid Unicode"


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instance(
    kind: type | tuple[type, ...], wanted: str, *but_not: type
) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if isinstance(value, kind) and not isinstance(value, but_not) else wanted

    return check


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "smallint": _integer(2**15),
    "integer": _integer(2**31),
    "bigint": _integer(2**63),
    "real": _single,
    "double precision": _real,
    "numeric": _numeric,
    "boolean": _instance(bool, "True or False"),
    "uuid": _instance(uuid.UUID, "a uuid.UUID"),
    "date": _instance(datetime.date, "a datetime.date", datetime.datetime),
    "timestamp without time zone": _timestamp(aware=False),
    "timestamp with time zone": _timestamp(aware=True),
    "time without time zone": _time(aware=False),
    "time with time zone": _time(aware=True),
    "interval": _instance(
        datetime.timedelta, "a datetime.timedelta, or its text, such as '1 day 02:03:04'"
    ),
    "text": _text,
    "character varying": _text,
    "character": _text,
    "bytea": _instance((bytes, bytearray, memoryview), "bytes"),
    "oid": _integer(2**32, least=0),
    "inet": _instance(
        (
            ipaddress.IPv4Address,
            ipaddress.IPv6Address,
            ipaddress.IPv4Interface,
            ipaddress.IPv6Interface,
        ),
        "an address or an interface of ipaddress, or its text",
    ),
    "cidr": _instance(
        (ipaddress.IPv4Network, ipaddress.IPv6Network), "a network of ipaddress, or its text"
    ),
    **{name: _range(bounds) for name, bounds in RANGES.items()},
    **{name.replace("range", "multirange"): _multirange(bounds) for name, bounds in RANGES.items()},
}


def brief(value: object) -> str:
    """Returns a value as messages show it, however deep it nests."""
    return reprlib.repr(value) if isinstance(value, (Mapping, list, tuple)) else repr(value)
