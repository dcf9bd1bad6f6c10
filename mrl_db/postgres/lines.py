"""Sessions for tasks: connections that wait as whoever uses them does, a task or a thread.

Tasks borrow from a pool of psycopg's AsyncConnections, and use each by a plain face (`Line`) that
hands its waits to the task. Threads, such as those that load or follow, borrow from the plain pool
beside it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from mrl_db import tasks
from mrl_db.model.errors import is_connection_lost
from mrl_db.postgres import vectors
from mrl_db.postgres.async_owners import driver_connection_in_task
from mrl_db.postgres.cursor import Cursor
from mrl_db.postgres.session import Connection, PoolSession, Theirs, has_ended
from mrl_db.postgres.twin import Twin, is_before_transaction, second_face

T = TypeVar("T")
_CANCEL_SECONDS = 5.0
_BESIDE = 4  # threads, at most, for what would hold the event loop up


class Line(psycopg.Connection[tuple[Any, ...]]):
    """A plain connection whose waits are the task's where a task uses it."""

    waiter: psycopg.AsyncConnection[Any] | None = None
    """The same line as psycopg's AsyncConnection, which waits, and cancels for cancelled tasks."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Waits for what a generator of psycopg's waits for; returns what it gives."""
        further = () if timeout is None else (timeout,)
        if not tasks.running():
            return super().wait(gen, interval, *further)
        if self.waiter is None:
            self.waiter = second_face(psycopg.AsyncConnection[Any], self.pgconn)
        return tasks.wait_for(self.waiter.wait(gen, interval, *further))


class LineTwin(Twin, Line):
    """Such a face of an AsyncConnection of the caller's."""


class _Pooled(psycopg.AsyncConnection[Any]):
    face: Line


class TaskSession(PoolSession):
    """A session whose connections tasks wait for, once it was opened in their event loop."""

    _plain_class = Line
    _least = 0  # held ready for threads

    def __init__(self, dsn: str, **options: Any) -> None:
        """Connects for threads, as `PoolSession` does."""
        self._in_threads: dict[int, Connection] = {}
        self._beside_tasks = ThreadPoolExecutor(_BESIDE, "mrl_db aside")
        super().__init__(dsn, **options)

    async def open(self) -> None:
        """Opens the pool of tasks."""
        self._of_tasks = AsyncConnectionPool(
            self.dsn,
            connection_class=_Pooled,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=self._pool_size,
            timeout=self._connect_timeout,
            configure=self._make_face,
            check=_check_alive,
            open=False,
            name="mrl_db tasks",
        )
        await self._of_tasks.open()

    async def shut(self) -> None:
        """Closes the pool of tasks; `close()` closes what threads have."""
        await self._of_tasks.close()
        self._beside_tasks.shutdown(wait=False)

    async def _make_face(self, pooled: _Pooled) -> None:
        face = second_face(self._class, pooled.pgconn)
        assert isinstance(face, Line)
        face.waiter = pooled
        face.autocommit = True
        face.prepare_threshold = self._prepare_threshold
        face.cursor_factory = Cursor
        vectors.adapt(face, self.server.vector_oids)
        pooled.face = face

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        if not tasks.running():
            with super()._lend() as connection, self._noted(connection):
                yield connection
            return
        if self._lost:
            self._lost = False
            if self._revive is not None:
                self.aside(self._revive)
            tasks.wait_for(self._of_tasks.check())
        failures = self._failures()
        try:
            pooled = tasks.wait_for(self._of_tasks.getconn())
            try:
                yield pooled.face
            finally:
                tasks.wait_for(self._of_tasks.putconn(pooled))
        except PoolTimeout:
            raise self._none_came(busy=self._failures() == failures) from None
        except psycopg.Error as error:
            self._lost = is_connection_lost(error)
            raise

    def _failures(self) -> int:
        return self._of_tasks.get_stats().get("connections_errors", 0)

    @contextmanager
    def _noted(self, connection: Connection) -> Iterator[None]:
        thread = threading.get_ident()
        before = self._in_threads.get(thread)
        self._in_threads[thread] = connection
        try:
            yield
        finally:
            if before is None:
                del self._in_threads[thread]
            else:
                self._in_threads[thread] = before

    async def cancel(self, thread: int) -> None:
        """Cancels the statement that a thread waits for, if it does."""
        connection = self._in_threads.get(thread)
        if connection is not None:
            await asyncio.to_thread(connection.cancel_safe, timeout=_CANCEL_SECONDS)

    @contextmanager
    def theirs(self, given: object) -> Iterator[Theirs]:
        """Lends psycopg's AsyncConnection of what a caller has, in the caller's transaction."""
        if not tasks.running():
            with super().theirs(given) as connection:
                yield connection
            return
        with driver_connection_in_task(given) as theirs:
            if is_before_transaction(theirs):
                tasks.wait_for(psycopg.AsyncCursor(theirs).execute(b""))
            tasks.wait_for(theirs.lock.acquire())
            try:
                yield theirs
            finally:
                theirs.lock.release()

    def twin(self, theirs: Theirs) -> Twin:
        """Returns a face of such a connection for our statements."""
        if isinstance(theirs, psycopg.Connection):
            return super().twin(theirs)
        twin = second_face(LineTwin, theirs.pgconn)
        twin.waiter = theirs
        return twin

    def lock(self) -> AbstractContextManager[object]:
        """Returns a lock for tasks and threads."""
        return tasks.Lock()

    def aside(self, call: Callable[[], T]) -> T:
        """Returns what a call gives that takes long; for a task, a thread makes it."""
        return tasks.aside(call, self._beside_tasks)

    def own_connection(self) -> Connection:
        """Returns a new connection; a task has a thread connect."""
        return self.aside(super().own_connection)


async def _check_alive(connection: _Pooled) -> None:
    if has_ended(connection):
        await connection.close()  # else the pool takes it back
        raise psycopg.OperationalError("the server closed the connection")
