"""Read snapshots of a table: one state of it, which nothing that rewrites it comes between.

A transaction's snapshot is older than the lock that its first statement waits for, and so is that
of a COPY by itself. Of what TRUNCATE or ALTER TABLE put in place while it waited it sees nothing,
and what was there before is gone: no rows, or some of them, which was never so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from psycopg import Connection, sql

from mrl_db.postgres import statements

C = TypeVar("C", bound=Connection[Any])


@contextmanager
def plain_transaction(connection: C) -> Iterator[C]:
    """Lends a connection inside a transaction in which nothing is prepared; see `Cursor`."""
    before, connection.prepare_threshold = connection.prepare_threshold, None
    try:
        with connection.transaction():
            yield connection
    finally:
        connection.prepare_threshold = before


@contextmanager
def one_state(
    begin: Callable[[], AbstractContextManager[C]], relation: sql.Identifier
) -> Iterator[C]:
    """Lends a connection inside a transaction whose statements all see one state of a table.

    Args:
        begin: Begins a transaction; called again where the table was rewritten before its lock was
            had.
        relation: The table, qualified.
    """
    while True:
        with begin() as connection:
            connection.execute(statements.query("repeatable_read"))
            if hold(connection, relation):
                yield connection
                return


def hold(connection: Connection[Any], relation: sql.Identifier) -> bool:
    """Locks a table, with what is below it, until the transaction ends, against being rewritten.

    Returns:
        Whether it lies where it lay when the snapshot of this statement was taken.
    """
    name = sql.Literal(relation.as_string(None))
    statement = statements.query("hold").format(name=name, source=relation)
    row = connection.execute(statement, ()).fetchone()
    return row is not None and bool(row[0])
