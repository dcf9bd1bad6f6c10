"""Rows as binary COPY has them: keys and vectors by C++, further columns by psycopg's dumpers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from mrl_db import _kernels, kernels
from mrl_db.door import Batch
from mrl_db.model.errors import DtypeError, ShapeError
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Connection

# A COPY message: large enough to make calls cheap, small enough to overlap with the server's work.
_PIECE_BYTES = 1 << 18


def pieces(
    connection: Connection, info: CollectionInfo, batches: Iterable[Batch]
) -> Iterator[tuple[int, bytes]]:
    """Yields (rows, bytes) pieces of a COPY stream; raises ShapeError when columns change."""
    first: tuple[str, ...] | None = None
    for batch in batches:
        names = tuple(batch.columns)
        given = names if batch.left_out else (info.vector, *names)
        first = given if first is None else first
        if given != first:
            raise ShapeError(
                f"a batch has the columns {given}, the first one had {first}; wanted the same in "
                "all"
            )
        yield from _pieces(connection, info, batch, names)


def arrays(stream: Iterable[bytes], types: Sequence[int]) -> list[bytes]:
    """Returns pieces as one array in binary form for each of their fields, of these types (oids).

    An element stands in an array as a field does in a row: its size, -1 for NULL, and its bytes.
    """
    columns: list[list[bytes]] = [[] for _ in types]
    for piece in stream:
        at = 0
        while at < len(piece):
            at += 2  # how many fields come
            for column in columns:
                end = at + 4 + max(int.from_bytes(piece[at : at + 4], "big", signed=True), 0)
                column.append(piece[at:end])
                at = end
    # axes, no flag, the elements' type, their number, the first one's
    return [
        struct.pack(">iiIii", 1, 0, oid, len(column), 1) + b"".join(column)
        for oid, column in zip(types, columns, strict=True)
    ]


def _pieces(
    connection: Connection, info: CollectionInfo, batch: Batch, names: tuple[str, ...]
) -> Iterator[tuple[int, bytes]]:
    step = max(1, _PIECE_BYTES // (4 * info.dims + 64))
    dump = _column_dumper(connection, info, names)
    for begin in range(0, len(batch), step):
        end = min(begin + step, len(batch))
        fields: list[Any] = []
        if names:
            for row in range(begin, end):
                fields += dump(row, [batch.columns[name][row] for name in names])
        yield (
            end - begin,
            _kernels.encode_rows(
                kernels.key_type(info.key_type),
                batch.keys[begin:end],
                kernels.vector_type(info.vector_type),
                batch.vectors[begin:end],
                fields,
                len(names),
            ),
        )


def _column_dumper(
    connection: Connection, info: CollectionInfo, names: Sequence[str]
) -> Callable[[int, list[Any]], Sequence[Any]]:
    """Returns a function from one row's values to their binary fields, by psycopg's dumpers."""
    transformer = Transformer(connection)
    try:
        oids = [info.columns[name].wire_oid for name in names]
        transformer.set_dumper_types(oids, Format.BINARY)
    except psycopg.ProgrammingError as error:
        types = ", ".join(f"{name} is {info.columns[name].type}" for name in names)
        raise DtypeError(
            f"a column has a type whose values are not sent ({types}: {error}); write it by SQL"
        ) from None
    formats = [PyFormat.BINARY] * len(names)

    def dump(row: int, values: list[Any]) -> Sequence[Any]:
        try:
            fields = transformer.dump_sequence(values, formats)
            return [None if field is None else bytes(field) for field in fields]
        except (psycopg.Error, TypeError, ValueError, AttributeError, OverflowError) as error:
            pairs = zip(names, values, strict=True)
            shown = ", ".join(f"{name}={value!r:.60}" for name, value in pairs)
            types = ", ".join(f"{name} is {info.columns[name].type}" for name in names)
            raise DtypeError(
                f"row {row}: a value does not fit its column ({shown}); {types} "
                f"({type(error).__name__})"
            ) from None

    return dump
