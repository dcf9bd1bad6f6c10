"""Sessions lend connections: for a statement, a transaction, a snapshot.

Errors are ours, and never show the connection string. A `PoolSession` keeps connections of its own;
`mrl_db.postgres.borrowed` lends those of the caller.
"""

from __future__ import annotations

import os
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from mrl_db.door import checked_count, checked_seconds
from mrl_db.lifetime import renew_after_fork
from mrl_db.model.errors import CommitUncertain, ConnectError, from_psycopg, is_connection_lost
from mrl_db.postgres import dsn as dsns
from mrl_db.postgres import required, vectors, watch
from mrl_db.postgres.cursor import Cursor
from mrl_db.postgres.owners import driver_connection
from mrl_db.postgres.required import ServerFacts
from mrl_db.postgres.snapshots import one_state
from mrl_db.postgres.twin import AnyConnection, Twin, is_before_transaction, second_face

Connection = watch.Connection
Theirs = AnyConnection
T = TypeVar("T")

_SOON = 0.5  # seconds
_GRACE = 2.0  # seconds that a server has to say itself that a statement took too long


class Session(ABC):
    """Connections to one database with pgvector.

    Attributes:
        dsn: The connection string; it may hold a password.
        server: What the database is.
    """

    dsn: str
    server: ServerFacts
    _prepare_threshold: int | None = None

    @property
    def where(self) -> str:
        """Host and database, without user or password."""
        return dsns.host_and_database(self.dsn)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.where})"

    @abstractmethod
    def _lend(self) -> AbstractContextManager[Connection]:
        """Lends a connection; psycopg's errors go through."""

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lends a connection outside any transaction: each statement stands for itself."""
        lent = None
        try:
            with self._lend() as connection:
                lent = connection
                yield connection
        except psycopg.Error as error:
            raise from_psycopg(error, None if lent is None else in_recovery(lent)) from None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lends a connection inside a transaction: committed at the end, rolled back on an error.

        Raises:
            CommitUncertain: The connection was lost while the server committed.
        """
        committing = False
        try:
            with self.connection() as connection, connection.transaction():
                connection.prepare_threshold = None  # see Cursor
                try:
                    yield connection
                finally:
                    connection.prepare_threshold = self._prepare_threshold
                committing = True
        except ConnectError:
            if committing:
                raise CommitUncertain(
                    f"the connection to {self.where} was lost while a write was committed: it is "
                    "there as a whole, or not at all; the same call with the same batch_id= writes "
                    "it unless it is there"
                ) from None
            raise

    @contextmanager
    def snapshot(self, relation: sql.Identifier) -> Iterator[Connection]:
        """Lends a connection inside a transaction whose statements all see one state of a table.

        Raises:
            ConnectError: The connection was lost, though it were at the end: nothing was written.
        """
        try:
            with one_state(self.transaction, relation) as connection:
                yield connection
        except CommitUncertain:
            raise ConnectError(
                f"the connection to {self.where} was lost at the end of what was read"
            ) from None

    @contextmanager
    def theirs(self, given: object) -> Iterator[Theirs]:
        """Lends psycopg's connection of what a caller has, in the caller's transaction."""
        with driver_connection(given) as connection:
            if is_before_transaction(connection):
                with psycopg.Cursor(connection) as cursor:
                    cursor.execute(b"")  # psycopg sends its BEGIN before
            yield connection

    def twin(self, theirs: Theirs) -> Twin:
        """Returns a face of such a connection for our statements."""
        assert isinstance(theirs, psycopg.Connection)
        twin = second_face(Twin, theirs.pgconn)
        twin.lock = theirs.lock
        return twin

    def lock(self) -> AbstractContextManager[object]:
        """Returns a lock that may be held while the database is asked."""
        return threading.Lock()

    def aside(self, call: Callable[[], T]) -> T:
        """Returns what a call gives that takes long; where others would wait, beside them."""
        return call()


class OwnSession(Session):
    """Connections that are ours to take: one may be kept beside those that are lent."""

    @abstractmethod
    def own_connection(self) -> Connection:
        """Returns a connection of the caller's own, until `give_back()` or `close()`."""

    @abstractmethod
    def give_back(self, connection: Connection, process: int) -> None:
        """Takes a connection of `own_connection()` back, but in a forked child."""

    @abstractmethod
    def close(self) -> None:
        """Gives all connections back."""


class PoolSession(OwnSession):
    """A pool of connections."""

    _plain_class: type[Connection] = psycopg.Connection
    _least = 1  # connections that are held ready

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 4,
        connect_timeout: float = 10.0,
        statement_timeout: float | None = None,
        prepare: bool = True,
        revive: Callable[[], None] | None = None,
    ) -> None:
        """Connects, and makes the extension vector if it is missing and this role may.

        Args:
            dsn: The connection string.
            pool_size: Connections at most.
            connect_timeout: Seconds.
            statement_timeout: Seconds; None: no limit.
            prepare: Whether statements are prepared after some uses.
            revive: Starts a server that is ours again; called before the next use of a session
                that lost a connection.

        Raises:
            ConnectError: There is no such server, or it refuses.
            ServerError: It lacks pgvector.
            ValueRangeError: An argument cannot be meant.
        """
        checked_count(pool_size, "pool_size")
        checked_seconds(connect_timeout, "connect_timeout")
        if statement_timeout is not None:
            checked_seconds(statement_timeout, "statement_timeout")
        self._revive = revive
        self._lost = False
        self.dsn = dsns.checked_dsn(dsn, statement_timeout)
        self._class = self._plain_class
        if statement_timeout is not None:
            self._class = watch.Watch(statement_timeout + _GRACE).connection_class(self._class)
        self._prepare_threshold = 5 if prepare else None
        self._options: dict[str, Any] = {
            "autocommit": True,
            "prepare_threshold": self._prepare_threshold,
            "cursor_factory": Cursor,
        }
        self._connect_timeout = connect_timeout
        self._lent: set[Connection] = set()
        try:
            with self._first_connection(dsn, statement_timeout) as connection:
                self.server = required.look(connection)
        except psycopg.OperationalError as error:
            reason = dsns.reason(error)
            raise ConnectError(f"cannot connect to {self.where}: {reason}") from None
        except psycopg.Error as error:
            raise from_psycopg(error) from None
        self._pool_size = pool_size
        self._opening = threading.Lock()
        self._of_parent: list[object] = []
        self._pool: _Pool | None = self._open_pool()
        renew_after_fork(self)

    def _first_connection(self, dsn: str, statement_timeout: float | None) -> Connection:
        """Connects; where a pooler refuses the timeout as a setting, it is kept from here."""
        seconds = max(1, int(self._connect_timeout))
        try:
            return psycopg.connect(self.dsn, connect_timeout=seconds, autocommit=True)
        except psycopg.OperationalError as error:
            if statement_timeout is None or "startup parameter" not in str(error):
                raise
        self.dsn = dsns.checked_dsn(dsn, None)
        late = watch.Watch(statement_timeout + _GRACE, cancel_after=statement_timeout)
        self._class = late.connection_class(self._plain_class)
        return psycopg.connect(self.dsn, connect_timeout=seconds, autocommit=True)

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        pool = self._pool or self._pool_of_child()
        if self._lost:
            self._after_loss(pool)
        failures = pool.failures
        try:
            connection = None
            try:
                connection = self._borrow(pool)
                with connection:
                    yield connection
            finally:
                if connection is not None:
                    pool.putconn(connection)
        except PoolTimeout:
            raise self._none_came(busy=pool.failures == failures) from None
        except psycopg.Error as error:
            self._lost = is_connection_lost(error)
            raise

    def _none_came(self, *, busy: bool) -> ConnectError:
        return ConnectError(
            f"no connection to {self.where} was free in time; close idle ones, or raise pool_size"
            if busy
            else f"no connection to {self.where} could be made in {self._connect_timeout:g} s"
        )

    def after_fork(self) -> None:
        """Leaves the parent's connections alone: none is used, closed, or even forgotten."""
        self._opening = threading.Lock()
        self._of_parent += [self._pool, self._lent]
        self._pool, self._lent = None, set()

    def _pool_of_child(self) -> _Pool:
        with self._opening:
            if self._pool is None:
                if self._revive is not None:
                    self._revive()
                self._pool = self._open_pool()
            return self._pool

    def _borrow(self, pool: _Pool) -> Connection:
        """Takes a connection out of the pool; starts a server of ours where none comes soon."""
        if self._revive is not None:
            try:
                return pool.getconn(timeout=min(_SOON, self._connect_timeout))
            except PoolTimeout:
                self._revive()
        return pool.getconn()

    def _after_loss(self, pool: _Pool) -> None:
        """Checks the others once a connection was lost; a server of ours may have to be started."""
        self._lost = False
        if self._revive is not None:
            self._revive()
        pool.check()

    def own_connection(self) -> Connection:
        """Returns a new connection, until `give_back()` or `close()`."""
        try:
            connection = self._connect()
        except ConnectError:
            if self._revive is None:
                raise
            self._revive()
            connection = self._connect()
        self._configure(connection)
        self._lent.add(connection)
        return connection

    def _connect(self) -> Connection:
        try:
            return self._class.connect(
                self.dsn,
                connect_timeout=max(1, int(self._connect_timeout)),
                **self._options,
            )
        except psycopg.OperationalError as error:
            reason = dsns.reason(error)
            raise ConnectError(f"cannot connect to {self.where}: {reason}") from None

    def give_back(self, connection: Connection, process: int) -> None:
        """Closes a connection of `own_connection()`, but in a forked child: it is the parent's."""
        if os.getpid() == process:
            self._lent.discard(connection)
            connection.close()

    def close(self) -> None:
        """Closes all connections."""
        for connection in list(self._lent):
            self.give_back(connection, os.getpid())
        if self._pool is not None:
            self._pool.close()

    def _open_pool(self) -> _Pool:
        return _Pool(
            self.dsn,
            connection_class=self._class,
            kwargs=self._options,
            min_size=self._least,
            max_size=self._pool_size,
            timeout=self._connect_timeout,
            configure=self._configure,
            check=_check_alive,
            open=True,
            name="mrl_db",
        )

    def _configure(self, connection: Connection) -> None:
        vectors.adapt(connection, self.server.vector_oids)


class _Pool(ConnectionPool[Connection]):
    """A pool that ends its threads in the process that they are in."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._process = os.getpid()
        super().__init__(*arguments, **options)

    @property
    def failures(self) -> int:
        """How often the server gave it no connection."""
        return self.get_stats().get("connections_errors", 0)

    def __del__(self) -> None:
        if os.getpid() == self._process:
            super().__del__()


def _check_alive(connection: Connection) -> None:
    if has_ended(connection):
        connection.close()  # else the pool takes it back
        raise psycopg.OperationalError("the server closed the connection")


def in_recovery(connection: Theirs) -> bool | None:
    """Whether the server said that it is a standby.

    None: a pooler in between does not pass it on, or the connection is closed. It costs no round
    trip: servers tell it when it changes.
    """
    try:
        told = connection.info.parameter_status("in_hot_standby")
    except psycopg.OperationalError:
        return None
    return None if told is None else told == "on"


def has_ended(connection: Theirs) -> bool:
    """Whether the server spoke on an idle connection, or closed it: both are an end.

    It costs no round trip.
    """
    poll = select.poll()  # not select(), which knows no files beyond the 1,024th
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))
