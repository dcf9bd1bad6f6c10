"""Sessions that lend what the caller has: one connection, with its transaction, or a pool."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import conninfo, sql
from psycopg_pool import ConnectionPool, PoolTimeout

from mrl_db.model.errors import ConnectError, ValueRangeError, from_psycopg
from mrl_db.postgres import required, vectors
from mrl_db.postgres.session import Connection, OwnSession, Session, Theirs
from mrl_db.postgres.snapshots import hold
from mrl_db.postgres.twin import Twin, check_encoding, second_face

Twins = weakref.WeakKeyDictionary[Theirs, Twin]


class Borrowed(Session):
    """The caller's connection. What is done is part of its transaction, and nothing is committed.

    Each transaction of this session is a savepoint there, so that the caller's goes on when ours
    fails. Where the caller's connection commits each statement by itself, it is a transaction.
    """

    def __init__(self, session: Session, given: object, twins: Twins) -> None:
        """Asks for nothing yet.

        Args:
            session: To the same database.
            given: What `mrl_db.postgres.owners.driver_connection` takes.
            twins: Of connections that were lent before; this one is added.
        """
        self.dsn = session.dsn
        self.server = session.server
        self._session = session
        self._given = given
        self._twins = twins

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        with self._session.theirs(self._given) as theirs:
            check_encoding(theirs)
            twin = self._twins.get(theirs) or self._new_twin(theirs)
            with twin.transaction():
                yield twin

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Lends the connection inside a savepoint, which is rolled back on an error."""
        with self.connection() as connection:
            yield connection

    @contextmanager
    def snapshot(self, relation: sql.Identifier) -> Iterator[Connection]:
        """The same, the table locked: what is seen is for the caller's transaction to say."""
        with self.connection() as connection:
            hold(connection, relation)
            yield connection

    def _new_twin(self, theirs: Theirs) -> Twin:
        twin = self._session.twin(theirs)
        with twin.transaction():
            database, vector_oids = required.identity(twin)
        if (database, vector_oids) != (self.server.database, self.server.vector_oids):
            raise ValueRangeError(
                f"the connection is to database {theirs.info.dbname!r}, the collection is in "
                f"another one ({self.where}); connect to the same"
            )
        vectors.adapt(twin, vector_oids)
        self._twins[theirs] = twin
        return twin


class BorrowedPool(OwnSession):
    """The caller's pool of psycopg's connections, which nobody changes and which stays open."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        """Looks at the server.

        Raises:
            ConnectError: The pool has no connection to give.
            ServerError: The server lacks pgvector.
        """
        if not isinstance(pool, ConnectionPool):
            kind = type(pool)
            raise ValueRangeError(
                f"pool is a {kind.__module__}.{kind.__name__}, wanted a psycopg_pool.ConnectionPool"
            )
        self._pool = pool
        self._twins: Twins = weakref.WeakKeyDictionary()
        self._held: dict[Connection, psycopg.Connection[Any]] = {}
        try:
            with pool.connection() as first:
                check_encoding(first)
                twin = second_face(Twin, first.pgconn)
                twin.autocommit = True
                self.server = required.look(twin)
                at = first.info
                self.dsn = conninfo.make_conninfo(
                    host=at.host, port=at.port, dbname=at.dbname, user=at.user
                )
        except psycopg.Error as error:
            raise from_psycopg(error) from None

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        try:
            with self._pool.connection() as first:
                yield self._twin(first)
        except PoolTimeout:
            raise ConnectError("the pool had no connection to give in time") from None

    def _twin(self, first: psycopg.Connection[Any]) -> Twin:
        check_encoding(first)
        twin = self._twins.get(first)
        if twin is None:
            twin = self._twins[first] = self.twin(first)
            twin.autocommit = True  # the pool's connection stays as it is
            vectors.adapt(twin, self.server.vector_oids)
        return twin

    def own_connection(self) -> Connection:
        """Takes a connection out of the pool, until `give_back()` or `close()`."""
        try:
            first = self._pool.getconn()
        except PoolTimeout:
            raise ConnectError("the pool had no connection to give in time") from None
        twin = self._twin(first)
        self._held[twin] = first
        return twin

    def give_back(self, connection: Connection, process: int) -> None:
        """Puts it back, but in a forked child: it is the parent's."""
        first = self._held.pop(connection, None)
        if first is not None and os.getpid() == process:
            self._pool.putconn(first)

    def close(self) -> None:
        """Puts back what was taken; the pool stays open."""
        for connection in list(self._held):
            self.give_back(connection, os.getpid())
