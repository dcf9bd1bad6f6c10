"""A connection of one owner's, beside the pool: made when needed, and again when it is lost."""

from __future__ import annotations

import os
import weakref

from mrl_db.lifetime import renew_after_fork
from mrl_db.postgres.session import Connection, OwnSession


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

    @property
    def is_lost(self) -> bool:
        """Whether there is none that could be used."""
        return self._connection is None or self._connection.broken

    def cut(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection = None
            self._close()
