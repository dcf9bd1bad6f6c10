"""An index gets the rows that were written to, as they are now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from psycopg import errors as pg

from mrl_db import _kernels
from mrl_db.engines.native.cache import Cached
from mrl_db.engines.native.journal import Journal
from mrl_db.engines.native.unique_keys import duplicates
from mrl_db.model.errors import PrivilegeError
from mrl_db.model.filters import AllOf
from mrl_db.model.key import decode, encode
from mrl_db.postgres import statements, written
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.positions import News, Position, Reader
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session
from mrl_db.postgres.snapshots import one_state, plain_transaction

_KEYS_AT_ONCE = 8_192

Read = Callable[
    [CollectionInfo, ChangeLog | None, threading.Event | None],
    tuple[_kernels.Index, Position | None],
]
"""Makes an index of a table as it is, and says as of when."""


class Judge(Protocol):
    """Whoever wants to know which of the rows that were written to pass a filter."""

    def asks(self, number: int) -> Request | None:
        """Returns the filter, where all before an entry of the journal was judged by it."""
        ...

    def hears(self, number: int, keys: list[Any], passing: list[Any]) -> None:
        """Is told which of some keys pass, up to before an entry of the journal."""
        ...


def news(
    log: ChangeLog,
    connection: Connection,
    position: Position,
    reader: Reader,
    info: CollectionInfo,
    judged: Request | None,
) -> News | None:
    """Returns what came since (`ChangeLog.news`); with the rows where some are to be judged."""
    # To plan the longer statement anew each time would cost more than a round trip saves.
    prepared = connection.prepare_threshold is not None
    if judged is not None and prepared and not position.standby:
        try:
            return written.news(log, connection, position, reader, info, judged)
        except (pg.DataError, pg.ProgrammingError):
            pass  # of the filter, or of a table that is another one: who asks for it will be told
    return log.news(connection, position, reader)


def apply(
    index: _kernels.Index,
    info: CollectionInfo,
    connection: Connection,
    news: News,
    journal: Journal,
    judge: Judge | None,
) -> None:
    """Makes an index that is searched as rows are now; a few are judged as they are fetched."""
    judged = None if judge is None else judge.asks(journal.number)
    keys, passing = list(news.keys or ()), None
    journal.note(keys)
    try:
        if len(keys) > written.MOST and news.rows is None:
            write(index, info, connection, keys)
        else:
            fetched = news.rows
            if fetched is None:
                fetched, judged = _fetched(info, connection, keys, judged)
            passing = [key for key, _, passes in fetched if passes]
            _put(index, info, keys, fetched)
    finally:
        journal.note(keys)  # what was made meanwhile may lack some of them
    if judge is not None and judged is not None and passing is not None:
        judge.hears(journal.number, keys, passing)


def _fetched(
    info: CollectionInfo, connection: Connection, keys: list[Any], judged: Request | None
) -> tuple[Sequence[tuple[Any, ...]], Request | None]:
    """Returns rows and by what they were judged: by nothing where that cannot be."""
    every = Request(info, AllOf(()), ())
    if judged is not None:
        try:
            return written.rows(connection, info, keys, judged), judged
        except (pg.DataError, pg.ProgrammingError):
            pass  # who searches by it will be told
    return written.rows(connection, info, keys, every), None


def _put(
    index: _kernels.Index, info: CollectionInfo, keys: list[Any], few: Sequence[tuple[Any, ...]]
) -> None:
    """Makes an index as rows are; those that are not among them are gone."""
    present = [key for key, _, _ in few]
    _check_once(present, info)
    if few:
        index.upsert(encode(present, info.key_type), np.stack([vector for _, vector, _ in few]))
    gone = list(set(keys).difference(present))
    if gone:
        index.erase(encode(gone, info.key_type))


def _check_once(present: list[Any], info: CollectionInfo) -> None:
    """Raises DuplicateKeyError where keys stand on several rows, as partitions may have them."""
    again = len(present) - len(set(present))
    if again and not info.partitioned:
        raise duplicates(again, info)


def write(
    index: _kernels.Index, info: CollectionInfo, connection: Connection, keys: list[Any]
) -> None:
    """Fetches rows by their keys, and makes the index so; those that are gone, go."""
    request = Request(info, AllOf(()), ())
    with one_state(partial(plain_transaction, connection), info.relation):
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            piece = keys[begin : begin + _KEYS_AT_ONCE]
            present: list[Any] = []
            for encoded, vectors in copy_rows(connection, request, block_rows(info.dims), piece):
                if len(vectors):
                    index.upsert(encoded, vectors)
                    present += decode(encoded, info.key_type)
            _check_once(present, info)
            gone = list(set(piece).difference(present))
            if gone:
                index.erase(encode(gone, info.key_type))


def after_restart(
    log: ChangeLog, connection: Connection, reader: Reader, touched: set[Any]
) -> News:
    """Returns news since the last acknowledgement, with the keys that were applied since then."""
    news = log.since_acknowledged(connection, reader)
    return News(news.position, None if news.keys is None else list(touched.union(news.keys)))


def with_new_partitions(
    info: CollectionInfo,
    log: ChangeLog,
    session: Session,
    link: Connection,
    before: Cached,
    told: News,
    most: int,
) -> News:
    """Returns news of another fingerprint with what new partitions hold, where only these came.

    Args:
        info: The collection.
        log: Of its changes; it writes in the new partitions from now on, too.
        session: To ask.
        link: The connection that follows.
        before: Where the index stands.
        told: Since then.
        most: So many keys are worth no comparison of all rows.

    Returns:
        The news; of no keys when rows must be compared.
    """
    unknown, relation = News(told.position, None), log.relation
    if told.keys is None or not told.position.partitions_since(before.position):
        return unknown
    if told.position.standby or log.check_anew(info, link) != relation:
        return unknown
    keys: set[Any] = set()
    try:
        with session.snapshot(info.relation) as connection:
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
            # Asked once the rows were read, and so locked against a change of it.
            if connection.execute(statements.query("partitions_bound"), (came,)).fetchone() != (0,):
                return unknown
    except PrivilegeError:  # its rows may be read through the whole table only
        return unknown
    return News(now.position, list(keys.union(now.keys)))


def catch_up(
    made: Cached, info: CollectionInfo, log: ChangeLog, connection: Connection, keys: set[Any]
) -> Cached | None:
    """Brings an index that nobody searches yet to where the table is.

    Args:
        made: The index, and where it stands.
        info: The collection.
        log: Of its changes.
        connection: To ask.
        keys: Gets those of all rows that changed.

    Returns:
        The index, and where it stands now; None when the log cannot tell what changed.
    """
    newer = log.news(connection, made.position, made.reader)
    if newer is None:
        return made
    after = newer.position
    promoted = after.is_promoted(made.position)
    if newer.keys is None or promoted or not after.continues(made.position):
        return None
    write(made.index, info, connection, list(newer.keys))
    keys.update(newer.keys)
    return replace(made, position=after)
