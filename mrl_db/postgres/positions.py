"""Where readers of the change log stand, and what they have not seen."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Position:
    """What was seen of a collection: all of `snapshot`, while server and fingerprint are these.

    Attributes:
        snapshot: What is visible in it was seen.
        started: When the server did.
        fingerprint: Of the log.
        replayed: On a standby, how far WAL was replayed, at least, when it was read; else "".
    """

    snapshot: str
    started: str
    fingerprint: str
    replayed: str = ""

    @property
    def standby(self) -> bool:
        """Whether it was read on a standby, where transactions that run have no names."""
        return self.replayed != ""

    def continues(self, before: Position) -> bool:
        """Whether server and log are those of another position."""
        return (self.started, self.fingerprint) == (before.started, before.fingerprint)

    def is_promoted(self, before: Position) -> bool:
        """Whether another position's server was a standby, and is none now."""
        return self.continues(before) and before.standby and not self.standby

    def partitions_since(self, before: Position) -> list[int] | None:
        """Returns the partitions that came since, where nothing else did; else None.

        A partition that stayed has the same words in both fingerprints: its oid, and a digest.
        """
        was, is_ = set(before.fingerprint.split(" ")), set(self.fingerprint.split(" "))
        came = [word.partition("=") for word in is_ - was]
        if self.started != before.started or was - is_ or not all(mark for _, mark, _ in came):
            return None
        return [int(oid) for oid, _, _ in came]


@dataclass(frozen=True, slots=True)
class News:
    """What a reader has not seen, and where it stands once it has.

    Attributes:
        position: Where it stands then.
        keys: Written to. None when any row may have changed: the log says so, or the reader is not
            registered under its token, and the log may have been cut.
        rows: Of these keys, as they were by then: (key, vector, passes), see
            `mrl_db.postgres.written`; None: they are to be fetched.
    """

    position: Position
    keys: Sequence[Any] | None
    rows: Sequence[tuple[Any, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Reader:
    """A registration in `mrl.reader`, and the snapshot up to which it was acknowledged."""

    id: uuid.UUID
    token: uuid.UUID
    seen: str


UNREGISTERED = Reader(uuid.UUID(int=0), uuid.UUID(int=0), "")


def bytes_before(wal_position: str) -> int:
    """Returns how much WAL there is before a position, as PostgreSQL writes these."""
    high, low = wal_position.split("/")
    return (int(high, 16) << 32) + int(low, 16)
