"""Writes that may be sent again: with a batch_id each is committed once."""

from __future__ import annotations

from collections.abc import Callable

from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Connection, Session


def write_once(
    session: Session, info: CollectionInfo, batch_id: str | None, write: Callable[[Connection], int]
) -> int:
    """Runs a write in a transaction and returns its rows.

    With a batch_id that was committed before it only returns the rows of then.

    Raises:
        CommitUncertain: The connection was lost at the last moment. The same call with the same
            batch_id then finds out.
    """
    with session.transaction() as connection:
        if batch_id is None:
            return write(connection)
        row = connection.execute(statements.query("batch_begin"), (batch_id, info.name)).fetchone()
        if row is not None and row[0] is not None:
            return int(row[0])
        count = write(connection)
        connection.execute(statements.query("batch_end"), (batch_id, count, info.name))
        return count
