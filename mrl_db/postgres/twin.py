"""A second psycopg face of a libpq connection: what is set on it leaves the first as it is.

A connection of the caller's has adapters, row factories and prepared statements of its own. Ours
are the twin's, which shares nothing with it but the line to the server and the lock.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from mrl_db.model.errors import DatabaseError


class Twin(psycopg.Connection[tuple[Any, ...]]):
    """Such a face; the line is closed by its owner."""

    def __init__(self, first: psycopg.Connection[Any]) -> None:
        pgconn = first.pgconn
        handlers = pgconn.notice_handler, pgconn.notify_handler
        super().__init__(pgconn)
        pgconn.notice_handler, pgconn.notify_handler = handlers
        self.lock = first.lock
        # The names of prepared statements are counted by each face for itself.
        self.prepare_threshold = None

    def __del__(self, *_: Any) -> None:
        """Says nothing of a line that is open still, as psycopg would."""


def begin(connection: psycopg.Connection[Any]) -> None:
    """Sees to it that a connection is in its owner's transaction, begun as the owner would.

    With autocommit there is none unless the owner began it; then each call is one of its own.

    Raises:
        DatabaseError: It cannot take a statement now.
    """
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
    if status is TransactionStatus.IDLE and not connection.autocommit:
        with psycopg.Cursor(connection) as cursor:
            cursor.execute(b"")  # psycopg sends its BEGIN before
