"""A connection of one owner's, beside the pool: made when needed, and again when it is lost."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import psycopg
from psycopg import sql

from mrl_db.lifetime import renew_after_fork
from mrl_db.model.errors import (
    ConnectError,
    MrlDbError,
    RecoveryConflictError,
    from_psycopg,
)
from mrl_db.postgres.session import Connection, OwnSession, in_recovery
from mrl_db.postgres.snapshots import one_state, plain_transaction

T = TypeVar("T")

_ATTEMPTS = 4  # of what a standby cancels


def past_conflicts(call: Callable[[], T]) -> T:
    """Returns what a call gives that reads; a standby may cancel it some times."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return call()
        except RecoveryConflictError:
            continue
    return call()


class Link:
    """Such a connection; it is closed when nobody has the link any more."""

    def __init__(self, session: OwnSession) -> None:
        self._session = session
        self._connection: Connection | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forgets the connection: it is the parent's."""
        if self._connection is not None:
            self._connection = None
            self._close.detach()

    def connection(self) -> Connection:
        """Returns the connection."""
        if self._connection is None or self._connection.closed:
            self.cut()
            self._connection = self._session.own_connection()
            self._close = weakref.finalize(
                self, self._session.give_back, self._connection, os.getpid()
            )
        return self._connection

    def use(self, call: Callable[[Connection], None]) -> None:
        """Gives the connection to a call that may be made again.

        It is, where the connection was lost, with a new one, and where a standby cancelled it.
        """
        lost, cancelled = False, 0
        while True:
            try:
                call(self.connection())
                return
            except ConnectError:
                if lost:
                    raise
                lost = True
            except psycopg.Error as error:
                ours = self._as_ours(error)
                if self.is_lost or isinstance(error, psycopg.OperationalError):
                    self.cut()
                    again, lost = not lost, True
                else:
                    again = False
                if isinstance(ours, RecoveryConflictError):
                    cancelled += 1
                    again = cancelled < _ATTEMPTS
                if not again:
                    raise ours from None

    def _as_ours(self, error: psycopg.Error) -> MrlDbError:
        connection = self._connection
        return from_psycopg(error, None if connection is None else in_recovery(connection))

    @contextmanager
    def snapshot(self, relation: sql.Identifier) -> Iterator[Connection]:
        """Lends it inside a transaction whose statements all see one state of a table."""
        begin = partial(plain_transaction, self.connection())
        with one_state(begin, relation) as connection:
            yield connection

    @property
    def is_lost(self) -> bool:
        """Whether there is none that could be used."""
        return self._connection is None or self._connection.broken

    def cut(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection = None
            self._close()
