"""Rows out of PostgreSQL: (key, vector) by binary COPY, decoded in C++, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from mrl_db import _kernels, kernels
from mrl_db.model.errors import DatabaseError
from mrl_db.postgres import statements
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection

_PIECES = 64  # COPY messages handed to the decoder at once: a message is one row


def block_rows(dims: int, size: int = 4 << 20) -> int:
    """Returns how many float32 vectors of so many dims make a block of about `size` bytes."""
    return max(1, size // (4 * dims))


def copy_rows(
    connection: Connection,
    request: Request,
    block_rows: int,
    keys: list[Any] | None = None,
    part: tuple[int, int] | None = None,
) -> Iterator[tuple[Any, NDArray[np.float32]]]:
    """Streams the rows that pass a filter out of PostgreSQL.

    Args:
        connection: To copy by.
        request: The filter.
        block_rows: Rows of a block, at least, but for the last.
        keys: Only rows with one of these.
        part: Only these coordinates, from the first to before the second.

    Yields:
        (keys, vectors): uint8 (n, bytes) in the machine's order, or a list of str for text; float32
        (n, dims).
    """
    info = request.info
    begin, end = (0, info.dims) if part is None else part
    decoder = _kernels.CopyDecoder(
        kernels.key_type(info.key_type), kernels.vector_type(info.vector_type), end - begin
    )
    condition, parameters = request.condition() if keys is None else request.condition_among(keys)
    whole = (begin, end) == (0, info.dims)
    cut = (
        {}
        if whole
        else {
            "first": sql.Literal(begin + 1),
            "count": sql.Literal(end - begin),
            "vector_schema": sql.Identifier(info.vector_schema),
        }
    )
    statement = statements.query("copy_out" if whole else "slices_out").format(
        key=statements.identifier(info.key),
        vector=statements.identifier(info.vector),
        source=info.relation,
        condition=condition,
        **cut,
    )
    with connection.cursor() as cursor, _copy(connection, cursor, statement, parameters) as copy:
        pieces: list[Any] = []
        for piece in copy:
            pieces.append(piece)
            if len(pieces) == _PIECES:
                _feed(decoder, pieces)
                if decoder.rows_waiting >= block_rows:
                    yield decoder.take()
        _feed(decoder, pieces)
        yield decoder.take()
    if not decoder.finished:
        raise DatabaseError("the COPY stream ended before its end mark; run it again")


def _copy(
    connection: Connection, cursor: Any, statement: sql.Composed, parameters: list[Any]
) -> Any:
    """Starts the COPY. It takes no parameters: psycopg writes them into the text, quoted."""
    return (
        cursor.copy(statement, parameters)
        if parameters
        else cursor.copy(statements.without_parameters(statement, connection))
    )


def _feed(decoder: _kernels.CopyDecoder, pieces: list[Any]) -> None:
    if pieces:
        try:
            decoder.feed(b"".join(pieces))
        except RuntimeError as error:
            raise DatabaseError(str(error)) from None
        pieces.clear()
