"""Standbys: how far one has replayed what its primary wrote, and that it is not written to."""

from __future__ import annotations

import time

from mrl_db.model.errors import (
    READ_ONLY,
    NotReplayedError,
    ReadOnlyError,
    RecoveryConflictError,
)
from mrl_db.postgres import statements
from mrl_db.postgres.session import Session

_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.02  # seconds; a statement that waits may hold replay up


def position(session: Session) -> str:
    """Returns a position in WAL that is not before anything committed until now."""
    with session.connection() as connection:
        row = connection.execute(statements.query("wal_position")).fetchone()
    assert row is not None
    return str(row[0])


def wait_for(session: Session, position: str, seconds: float) -> None:
    """Waits until a standby has replayed a position; a primary has all that there is.

    Raises:
        NotReplayedError: It had not in so many seconds.
    """
    deadline, wait = time.monotonic() + seconds, _FIRST_WAIT
    while not _has_replayed(session, position, wait):
        if time.monotonic() > deadline:
            raise NotReplayedError(
                f"the standby {session.where} had not replayed {position} after {seconds:g} s; "
                "allow more time, or read from the primary"
            )
        wait = min(2 * wait, _LONGEST_WAIT)


def _has_replayed(session: Session, position: str, wait: float) -> bool:
    try:
        with session.connection() as connection:
            row = connection.execute(statements.query("has_replayed"), (position, wait)).fetchone()
    except RecoveryConflictError:  # it held up the replay that it waits for
        return False
    return row is not None and bool(row[0])


def check_writable(session: Session, what: str) -> None:
    """Raises ReadOnlyError where nothing can be written; `what` was to be."""
    with session.connection() as connection:
        row = connection.execute(statements.query("is_read_only")).fetchone()
    assert row is not None
    read_only, standby = row
    if read_only:
        raise ReadOnlyError(f"{what} would be written; {READ_ONLY[standby]}")
