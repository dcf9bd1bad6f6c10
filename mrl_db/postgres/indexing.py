"""Building the index of a collection, with its progress shown."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg import errors as pg
from psycopg import sql

from mrl_db.model.errors import MrlDbError
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Connection, Session

_POLL_SECONDS = 0.5
_MEANWHILE = pg.DuplicateTable, pg.UniqueViolation, pg.DeadlockDetected  # another client was there


def create_index(
    session: Session,
    info: CollectionInfo,
    *,
    kind: str,
    m: int,
    ef_construction: int,
    concurrently: bool,
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Builds the index unless it is there.

    Args:
        session: To build by; progress takes a second connection of it.
        info: The collection.
        kind: "mrl", "hnsw", or "auto": mrl where the extension is.
        m: pgvector's links a node.
        ef_construction: Its candidates while building.
        concurrently: Without locking out writers.
        progress: Gets (blocks of the table, blocks in all) about twice a second; where partitions
            are built one by one, of each.
    """
    values = {
        "name": info.name,
        "kind": kind,
        "m": m,
        "ef_construction": ef_construction,
        "concurrently": concurrently,
    }
    while True:
        try:
            if concurrently and info.partitioned:
                _create_by_partitions(session, info, values, progress)
            else:
                _create(session, info, values, progress)
        except _BuiltByAnotherError:
            time.sleep(_POLL_SECONDS)
        else:
            return


def _create_by_partitions(
    session: Session,
    info: CollectionInfo,
    values: dict[str, object],
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Builds the index of a partitioned table, one partition after the other.

    PostgreSQL builds none on a partitioned table beside writers. What is there of it is kept: where
    it was cut, it goes on.
    """
    while True:
        with session.connection() as connection:
            if connection.execute(statements.query("index_in_progress"), (info.name,)).fetchone():
                raise _BuiltByAnotherError
            steps = connection.execute(statements.query("partition_index_steps"), values).fetchall()
        if not steps:
            break
        for step, alone in steps:
            with session.connection() if alone else session.transaction() as connection:
                try:
                    if not alone:
                        connection.execute(statements.query("wait_briefly"))
                    with _watched(session, connection, progress if alone else None):
                        # Made by mrl.partition_index_steps, with quoted names.
                        connection.execute(sql.SQL(step))
                except (*_MEANWHILE, pg.UndefinedTable, pg.UndefinedObject):
                    raise _BuiltByAnotherError from None
    with session.connection() as connection:
        connection.execute(statements.query("define_search"), (info.name,))


class _BuiltByAnotherError(Exception):
    """Another client is building this index, or has just done so."""


def _create(
    session: Session,
    info: CollectionInfo,
    values: dict[str, object],
    progress: Callable[[int, int | None], None] | None,
) -> None:
    """Builds the index unless it is there."""
    concurrently = bool(values["concurrently"])
    # Without the comment the index would not be known as ours; only CONCURRENTLY cannot share a
    # transaction with it.
    with session.connection() if concurrently else session.transaction() as connection:
        try:
            if not concurrently:
                connection.execute(statements.query("collection_turn"), (info.name,))
                connection.execute(statements.query("wait_briefly"))
            _drop_halves(connection, info, concurrently)
            row = connection.execute(statements.query("index_statement"), values).fetchone()
            if row is None:  # it is there
                return
            if connection.execute(statements.query("index_in_progress"), (info.name,)).fetchone():
                raise _BuiltByAnotherError
            # Made by mrl.index_statement, with quoted names.
            create, comment = (sql.SQL(text) for text in row)
            with _watched(session, connection, progress):
                connection.execute(create)
            connection.execute(comment)
            connection.execute(statements.query("define_search"), (info.name,))
        except psycopg.Error as error:
            if concurrently:
                with contextlib.suppress(psycopg.Error):
                    _drop_halves(connection, info, concurrently)
            # Of those who build beside writers on one table, some wait for each other.
            if isinstance(error, _MEANWHILE):
                raise _BuiltByAnotherError from None
            raise


@contextlib.contextmanager
def _watched(
    session: Session,
    connection: Connection,
    progress: Callable[[int, int | None], None] | None,
) -> Iterator[None]:
    """Shows the progress of what the connection builds meanwhile."""
    if progress is None:
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(session, connection.info.backend_pid, done, progress), daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _drop_halves(connection: Connection, info: CollectionInfo, concurrently: bool) -> None:
    """Drops what a build beside writers left when it was cut: an index that nobody may use."""
    kind = "index_drop_concurrently" if concurrently else "index_drop"
    rows = connection.execute(statements.query("index_halves"), (info.name,)).fetchall()
    for schema, name in rows:
        index = statements.identifier(schema, name)
        connection.execute(statements.query(kind).format(index=index), ())


def _watch(
    session: Session,
    backend: int,
    done: threading.Event,
    progress: Callable[[int, int | None], None],
) -> None:
    """Asks another connection how far the build is; a failure here must not disturb the build."""
    while not done.wait(_POLL_SECONDS):
        try:
            with session.connection() as connection:
                row = connection.execute(statements.query("index_progress"), (backend,)).fetchone()
        except MrlDbError:
            return
        if row is not None and row[2]:
            progress(int(row[1]), int(row[2]))
