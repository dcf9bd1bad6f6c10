"""Dates without an end: PostgreSQL's infinity and -infinity are Python's last and first moment.

Both ways, as psycopg's documentation does it; a moment that Python cannot hold is refused.
"""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader, PyFormat
from psycopg.types import datetime as plain

T = TypeVar("T", datetime.date, datetime.datetime)


def _end(size: int, last: bool) -> bytes:
    limit = 1 << (8 * size - 1)
    return (limit - 1 if last else -limit).to_bytes(size, "big", signed=True)


def _dumper(base: type[Dumper], size: int, first: T, last: T) -> type[Dumper]:
    ends = {first: _end(size, False), last: _end(size, True)}

    class Endless(base):  # type: ignore[valid-type, misc]
        def dump(self, obj: T) -> Buffer | None:
            return ends.get(obj) or super().dump(obj)

    return Endless


def _loader(base: type[Loader], size: int, first: T, last: T) -> type[Loader]:
    ends = {_end(size, False): first, _end(size, True): last}

    class Endless(base):  # type: ignore[valid-type, misc]
        def load(self, data: Buffer) -> T:
            return ends.get(bytes(data)) or super().load(data)

    return Endless


_DATES = (datetime.date.min, datetime.date.max)
_NAIVE = (datetime.datetime.min, datetime.datetime.max)
_AWARE = tuple(each.replace(tzinfo=datetime.timezone.utc) for each in _NAIVE)

_NaiveDumper = _dumper(plain.DatetimeNoTzBinaryDumper, 8, *_NAIVE)


class _AwareDumper(_dumper(plain.DatetimeBinaryDumper, 8, *_AWARE)):  # type: ignore[misc]
    def upgrade(self, obj: datetime.datetime, format: PyFormat) -> Dumper:  # noqa: ARG002
        return self if obj.tzinfo else _NaiveDumper(self.cls)


_DUMPERS = (
    (datetime.date, _dumper(plain.DateBinaryDumper, 4, *_DATES)),
    (datetime.datetime, _NaiveDumper),
    (datetime.datetime, _AwareDumper),
)
_LOADERS = {
    "date": _loader(plain.DateBinaryLoader, 4, *_DATES),
    "timestamp": _loader(plain.TimestampBinaryLoader, 8, *_NAIVE),
    "timestamptz": _loader(plain.TimestamptzBinaryLoader, 8, *_AWARE),
}


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Teaches a connection the ends of time."""
    for python_type, dumper in _DUMPERS:
        connection.adapters.register_dumper(python_type, dumper)
    for name, loader in _LOADERS.items():
        connection.adapters.register_loader(name, loader)
