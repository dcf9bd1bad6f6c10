"""An index gets the rows that were written to, as they are now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from psycopg import errors as pg

from mrl_db import _kernels
from mrl_db.engines.native.cache import Cached
from mrl_db.engines.native.journal import Journal
from mrl_db.model.errors import PrivilegeError
from mrl_db.model.filters import AllOf
from mrl_db.model.key import decode, encode
from mrl_db.postgres import rows, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.positions import News
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session

_KEYS_AT_ONCE = 8_192
_FEW = 64  # keys whose rows come sooner by a statement that is prepared than by COPY


class Judge(Protocol):
    """Whoever wants to know which of the rows that were written to pass a filter."""

    def asks(self, number: int) -> Request | None:
        """Returns the filter, where all before an entry of the journal was judged by it."""
        ...

    def hears(self, number: int, keys: list[Any], passing: list[Any]) -> None:
        """Is told which of some keys pass, up to before an entry of the journal."""
        ...


def apply(
    index: _kernels.Index,
    info: CollectionInfo,
    connection: Connection,
    keys: list[Any],
    journal: Journal,
    judge: Judge | None,
) -> None:
    """Makes an index that is searched as rows are now; a few are judged in the same round trip."""
    judged = None if judge is None else judge.asks(journal.number)
    passing: list[Any] | None = None
    journal.note(keys)
    try:
        if len(keys) > _FEW:
            write(index, info, connection, keys)
        else:
            passing = _write_few(index, info, connection, keys, judged)
    finally:
        journal.note(keys)  # what was made meanwhile may lack some of them
    if judge is not None and judged is not None and passing is not None:
        judge.hears(journal.number, keys, passing)


def _write_few(
    index: _kernels.Index,
    info: CollectionInfo,
    connection: Connection,
    keys: list[Any],
    judged: Request | None,
) -> list[Any] | None:
    """Does as `write`; returns the keys that pass a filter, None where it cannot be asked."""
    request = Request(info, AllOf(()), ())
    try:
        fetched = rows.written(connection, request, keys, judged)
    except (pg.DataError, pg.ProgrammingError):
        if judged is None:
            raise
        judged = None  # who searches by it will be told what is wrong with it
        fetched = rows.written(connection, request, keys, None)
    present = [key for key, _, _ in fetched]
    if fetched:
        index.upsert(encode(present, info.key_type), np.stack([each for _, each, _ in fetched]))
    gone = list(set(keys).difference(present))
    if gone:
        index.erase(encode(gone, info.key_type))
    return None if judged is None else [key for key, _, passes in fetched if passes]


def write(
    index: _kernels.Index, info: CollectionInfo, connection: Connection, keys: list[Any]
) -> None:
    """Fetches rows by their keys, and makes the index so; those that are gone, go."""
    request = Request(info, AllOf(()), ())
    for begin in range(0, len(keys), _KEYS_AT_ONCE):
        piece = keys[begin : begin + _KEYS_AT_ONCE]
        present: set[Any] = set()
        for encoded, vectors in copy_rows(connection, request, block_rows(info.dims), piece):
            if len(vectors):
                index.upsert(encoded, vectors)
                present.update(decode(encoded, info.key_type))
        gone = [key for key in piece if key not in present]
        if gone:
            index.erase(encode(gone, info.key_type))


def with_new_partitions(
    info: CollectionInfo,
    log: ChangeLog,
    session: Session,
    link: Connection,
    before: Cached,
    news: News,
    most: int,
) -> News:
    """Returns news of another fingerprint with what new partitions hold, where only these came.

    Args:
        info: The collection.
        log: Of its changes; it writes in the new partitions from now on, too.
        session: To ask.
        link: The connection that follows.
        before: Where the index stands.
        news: Since then.
        most: So many keys are worth no comparison of all rows.

    Returns:
        The news; of no keys when rows must be compared.
    """
    unknown, relation = News(news.position, None), log.relation
    if news.keys is None or not news.position.partitions_since(before.position):
        return unknown
    if news.position.standby or log.check_anew(info, link) != relation:
        return unknown
    keys: set[Any] = set()
    try:
        with session.snapshot() as connection:
            now = None
            if log.position(connection) is not None:
                now = log.news(connection, before.position, before.reader)
            if now is None or now.keys is None:
                return unknown
            came = now.position.partitions_since(before.position)
            if not came:
                return unknown
            named = connection.execute(statements.query("partitions_named"), (came,)).fetchall()
            for schema, table in named:
                statement = statements.query("partition_keys").format(
                    key=statements.identifier(info.key),
                    partition=statements.identifier(schema, table),
                )
                some = connection.execute(statement, (most + 1 - len(keys),)).fetchall()
                keys.update(row[0] for row in some)
                if len(keys) > most:
                    return unknown
    except PrivilegeError:  # its rows may be read through the whole table only
        return unknown
    return News(now.position, list(keys.union(now.keys)))


def catch_up(
    made: Cached, info: CollectionInfo, log: ChangeLog, connection: Connection, written: set[Any]
) -> Cached | None:
    """Brings an index that nobody searches yet to where the table is.

    Args:
        made: The index, and where it stands.
        info: The collection.
        log: Of its changes.
        connection: To ask.
        written: Gets the keys of all that changed.

    Returns:
        The index, and where it stands now; None when the log cannot tell what changed.
    """
    news = log.news(connection, made.position, made.reader)
    if news is None:
        return made
    after = news.position
    promoted = after.is_promoted(made.position)
    if news.keys is None or promoted or not after.continues(made.position):
        return None
    write(made.index, info, connection, list(news.keys))
    written.update(news.keys)
    return replace(made, position=after)
