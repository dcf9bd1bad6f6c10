"""The text of values that frames and strings have no other form for: read strictly, written so.

psycopg reads PostgreSQL's own text, and trusts it: of text that is none it makes a zero. So times
and intervals are read here.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

RANGES: Mapping[str, str] = MappingProxyType(
    {
        "int4range": "integer",
        "int8range": "bigint",
        "numrange": "numeric",
        "daterange": "date",
        "tsrange": "timestamp without time zone",
        "tstzrange": "timestamp with time zone",
    }
)
"""The type of the bounds of each type of ranges."""

# As Python and PostgreSQL write it: "1 day, 2:03:04", "-1 days +02:03:04.5", "3 days", "02:03".
_INTERVAL = re.compile(
    r"(?=.)(?:(?P<days>[+-]?\d+) days?)?(?:(?:^|,? )(?P<sign>[+-]?)"
    r"(?P<hours>\d+):(?P<minutes>[0-5]?\d)(?::(?P<seconds>[0-5]?\d(?:\.\d{1,6})?))?)?"
)


def read(value: Any, sql_type: str) -> Any:
    """Returns the value that a string means in a column of this type.

    What is no string, or no text of such a value, comes back as it is.

    >>> read("1 day, 2:00:00", "interval"), read("soon", "interval")
    (datetime.timedelta(days=1, seconds=7200), 'soon')
    """
    if isinstance(value, list) and sql_type.endswith("[]"):
        return [read(each, sql_type) for each in value]
    reader = _READERS.get(sql_type.removesuffix("[]"))
    if reader is None or not isinstance(value, str):
        return value
    try:
        return reader(value)
    except (ValueError, OverflowError, psycopg.Error):
        return value


def reads(sql_type: str) -> bool:
    """Whether `read` knows this type."""
    return sql_type.removesuffix("[]") in _READERS


def written(value: Any) -> str:
    """Returns the text of a value, which `read` understands where it knows the type."""
    if not isinstance(value, (Range, Multirange)):
        return str(value)
    transformer = Transformer()
    dumped = transformer.get_dumper(value, PyFormat.TEXT).dump(value)
    return "" if dumped is None else bytes(dumped).decode()


def _interval(text: str) -> datetime.timedelta:
    parts = _INTERVAL.fullmatch(text)
    if parts is None:
        raise ValueError(text)
    clock = datetime.timedelta(
        hours=int(parts["hours"] or 0),
        minutes=int(parts["minutes"] or 0),
        seconds=float(parts["seconds"] or 0),
    )
    days = datetime.timedelta(int(parts["days"] or 0))
    return days - clock if parts["sign"] == "-" else days + clock


def _address(text: str) -> Any:
    return ipaddress.ip_interface(text) if "/" in text else ipaddress.ip_address(text)


def _by_psycopg(name: str) -> Callable[[str], Any]:
    def load(text: str) -> Any:
        oid = psycopg.adapters.types[name].oid
        return Transformer().get_loader(oid, Format.TEXT).load(text.encode())

    return load


_READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "interval": _interval,
        "time without time zone": datetime.time.fromisoformat,
        "time with time zone": datetime.time.fromisoformat,
        "inet": _address,
        "cidr": ipaddress.ip_network,
        **{name: _by_psycopg(name) for name in RANGES},
        **{
            name.replace("range", "multirange"): _by_psycopg(name.replace("range", "multirange"))
            for name in RANGES
        },
    }
)
