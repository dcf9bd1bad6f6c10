"""Connections whose waits are watched: a cable or a proxy may be dead without saying so."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

import psycopg
from psycopg.abc import PQGen

from mrl_db.lifetime import renew_after_fork

Connection = psycopg.Connection[tuple[Any, ...]]
_CANCEL_SECONDS = 1.0
_IDLE_SECONDS = 60.0  # without a wait to watch, after which the thread ends


class Watch:
    """Shuts down the sockets on which a server has been silent for longer than it may.

    Where the server knows no limit for a statement, because a pooler in between does not pass
    settings on, the statement is cancelled from here before.
    """

    def __init__(self, seconds: float, cancel_after: float | None = None) -> None:
        self._seconds = seconds
        self._cancel_after = cancel_after
        self._since: dict[Connection, float] = {}
        self._cancelled: dict[Connection, float] = {}  # the wait that was cancelled
        self._thread: threading.Thread | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """The parent's waits are its own: a child that ended one would shut down its socket."""
        self._since.clear()
        self._cancelled.clear()
        self._thread = None

    def connection_class(self, base: type[Connection]) -> type[Connection]:
        """Returns the class of connections that this watches."""
        watch = self

        class Watched(base):  # type: ignore[valid-type, misc]
            def wait(
                self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None
            ) -> Any:
                watch.begin(self)
                further = () if timeout is None else (timeout,)
                try:
                    return super().wait(gen, interval, *further)
                finally:
                    watch.end(self)

        return Watched

    def begin(self, connection: Connection) -> None:
        """Notes that somebody waits for the server."""
        self._since[connection] = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="mrl_db watch", daemon=True)
            self._thread.start()

    def end(self, connection: Connection) -> None:
        """Notes that it has answered."""
        self._since.pop(connection, None)
        self._cancelled.pop(connection, None)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < _IDLE_SECONDS:
            time.sleep(min(0.25, (self._cancel_after or self._seconds) / 4))
            for connection, since in list(self._since.items()):
                idle_since = time.monotonic()
                self._cancel_late(connection, since, idle_since)
                if idle_since - since > self._seconds:
                    self.end(connection)
                    with (
                        contextlib.suppress(OSError, psycopg.Error),
                        socket.socket(fileno=os.dup(connection.pgconn.socket)) as line,
                    ):
                        line.shutdown(socket.SHUT_RDWR)

    def _cancel_late(self, connection: Connection, since: float, now: float) -> None:
        if self._cancel_after is None or now - since <= self._cancel_after:
            return
        if self._cancelled.get(connection) != since:
            self._cancelled[connection] = since
            with contextlib.suppress(OSError, psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
