"""Positions: what was written to a primary, waited for on its standbys."""

from __future__ import annotations

from mrl_db import door
from mrl_db.collection.opened import Face
from mrl_db.postgres import standbys


def position(self: Face) -> str:
    """Returns a token of what was committed before this call, by any client.

    `search(after=)` and `wait_for` on a standby wait for it. It is short text, to be handed to
    whoever reads next, and means nothing to another primary's standbys.
    """
    return standbys.position(self._opened.session)


def wait_for(self: Face, position: str, timeout: float = 10.0) -> None:
    """Waits until this server has what was committed before a `position()`.

    A primary has it at once; a standby when it has replayed it.

    Args:
        position: Of the primary.
        timeout: Seconds.

    Raises:
        NotReplayedError: It took longer.
    """
    seconds = door.checked_seconds(timeout, "timeout")
    standbys.wait_for(self._opened.session, door.checked_position(position), seconds)
