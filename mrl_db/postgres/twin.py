"""A second psycopg face of a libpq connection: what is set on it leaves the first as it is.

A connection of the caller's has adapters, row factories and prepared statements of its own. Ours
are the second face's, which shares nothing with it but the line to the server.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.pq.abc import PGconn

from mrl_db.model.errors import ConnectError, DatabaseError, ValueRangeError

AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
Face = TypeVar("Face", bound=AnyConnection)


class Twin(psycopg.Connection[tuple[Any, ...]]):
    """A face of a connection of the caller's."""


def second_face(kind: type[Face], pgconn: PGconn) -> Face:
    """Returns another face of a line, which its owner closes."""
    handlers = pgconn.notice_handler, pgconn.notify_handler
    face = kind(pgconn)
    pgconn.notice_handler, pgconn.notify_handler = handlers
    face._pool = None  # as a pool's: it says nothing of a line that is open when it goes
    # The names of prepared statements are counted by each face for itself.
    face.prepare_threshold = None
    return face


def check_encoding(connection: AnyConnection) -> None:
    """Raises ValueRangeError where a connection of the caller's is not in UTF-8, as keys are.

    It costs no round trip: the server tells it when it changes.
    """
    encoding = connection.info.parameter_status("client_encoding")
    if encoding not in ("UTF8", None):
        raise ValueRangeError(
            f"the connection's client_encoding is {encoding}, wanted UTF8; SET client_encoding TO "
            "'UTF8', or client_encoding=UTF8 in its connection string"
        )


def is_before_transaction(connection: AnyConnection) -> bool:
    """Returns whether a transaction of its owner's is still to begin, by its next statement.

    With autocommit there is none unless the owner began it; then each call is one of its own.

    Raises:
        ConnectError: It is closed.
        DatabaseError: It cannot take a statement now.
    """
    if connection.closed:
        raise ConnectError("the connection that was given is closed; give one that is open")
    if connection.pgconn.pipeline_status != PipelineStatus.OFF:
        raise DatabaseError(
            "the connection is in pipeline mode, in which PostgreSQL takes no COPY; leave the "
            "pipeline first"
        )
    status = connection.info.transaction_status
    if status is TransactionStatus.INERROR:
        raise DatabaseError(
            "the connection's transaction has failed already, and takes no more statements; roll "
            "it back, or to a savepoint, first"
        )
    return status is TransactionStatus.IDLE and not connection.autocommit
