"""Dates without an end: PostgreSQL's infinity and -infinity are Python's last and first moment.

And its longest intervals, where the server has infinite ones. Both ways, as psycopg's documentation
does it, in binary form and in text, which ranges have among parameters; a moment that Python cannot
hold is refused.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader, PyFormat
from psycopg.pq import Format
from psycopg.types import datetime as plain

T = TypeVar("T", datetime.date, datetime.datetime, datetime.timedelta)
Sizes = Sequence[int]
"""Bytes of each of the integers that a value consists of."""


def _end(sizes: Sizes, last: bool) -> bytes:
    limits = [(size, 1 << (8 * size - 1)) for size in sizes]
    return b"".join(
        (limit - 1 if last else -limit).to_bytes(size, "big", signed=True) for size, limit in limits
    )


def _dumper(base: type[Dumper], sizes: Sizes, first: T, last: T) -> type[Dumper]:
    ends = {first: b"-infinity", last: b"infinity"}
    if base.format is Format.BINARY:
        ends = {first: _end(sizes, False), last: _end(sizes, True)}

    class Endless(base):  # type: ignore[valid-type, misc]
        def dump(self, obj: T) -> Buffer | None:
            return ends.get(obj) or super().dump(obj)

    return Endless


def _loader(base: type[Loader], sizes: Sizes, first: T, last: T) -> type[Loader]:
    ends = {_end(sizes, False): first, _end(sizes, True): last}

    class Endless(base):  # type: ignore[valid-type, misc]
        def load(self, data: Buffer) -> T:
            return ends.get(bytes(data)) or super().load(data)

    return Endless


_DAYS = ((4,), datetime.date.min, datetime.date.max)
_NAIVE = ((8,), datetime.datetime.min, datetime.datetime.max)
_AWARE = (
    (8,),
    datetime.datetime.min.replace(tzinfo=datetime.timezone.utc),
    datetime.datetime.max.replace(tzinfo=datetime.timezone.utc),
)
_LENGTHS = ((8, 4, 4), datetime.timedelta.min, datetime.timedelta.max)
_INFINITE_INTERVALS = 170000  # the version of the server


def _moments(aware: type[Dumper], naive: type[Dumper]) -> tuple[type[Dumper], type[Dumper]]:
    """Returns the dumpers of datetimes without a time zone and with one, which finds the other."""
    without = _dumper(naive, *_NAIVE)

    class Moment(_dumper(aware, *_AWARE)):  # type: ignore[misc]
        def upgrade(self, obj: datetime.datetime, format: PyFormat) -> Dumper:  # noqa: ARG002
            return self if obj.tzinfo else without(self.cls)

    return without, Moment


# The last one of a type is the usual one: in binary form, with a time zone.
_DUMPERS = (
    (datetime.date, _dumper(plain.DateDumper, *_DAYS)),
    (datetime.date, _dumper(plain.DateBinaryDumper, *_DAYS)),
    *(
        (datetime.datetime, dumper)
        for aware, naive in (
            (plain.DatetimeDumper, plain.DatetimeNoTzDumper),
            (plain.DatetimeBinaryDumper, plain.DatetimeNoTzBinaryDumper),
        )
        for dumper in _moments(aware, naive)
    ),
)
_LOADERS = {
    "date": _loader(plain.DateBinaryLoader, *_DAYS),
    "timestamp": _loader(plain.TimestampBinaryLoader, *_NAIVE),
    "timestamptz": _loader(plain.TimestamptzBinaryLoader, *_AWARE),
}
_OF_INTERVALS = (
    _dumper(plain.TimedeltaDumper, *_LENGTHS),
    _dumper(plain.TimedeltaBinaryDumper, *_LENGTHS),
    _loader(plain.IntervalBinaryLoader, *_LENGTHS),
)


class _Length(plain.IntervalBinaryLoader):
    """An interval; psycopg's compiled loader makes some number of one that Python cannot hold."""


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Teaches a connection the ends of time."""
    adapters = connection.adapters
    for python_type, dumper in _DUMPERS:
        adapters.register_dumper(python_type, dumper)
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)
    if connection.info.server_version >= _INFINITE_INTERVALS:
        text, binary, loader = _OF_INTERVALS
        adapters.register_dumper(datetime.timedelta, text)
        adapters.register_dumper(datetime.timedelta, binary)
        adapters.register_loader("interval", loader)
    else:
        adapters.register_loader("interval", _Length)
