"""An index in this process that follows its table: before a search, what was committed and is not yet here is fetched and applied.

A sync asks the change log, in one round trip, for what is not visible in the snapshot that was seen. Mostly there is nothing. The keys
written to are fetched as they are now, whatever was done to them, so that applying a change twice, or late, does no harm.

Where the log cannot tell all - TRUNCATE, a table that was rewritten or whose triggers were off, a lease that ended, a restored backup -
the rows themselves are compared with those here, by one COPY. After a restart of the server the log is read from the last acknowledgement,
and what was applied since is fetched again: a crash may give ids of transactions that wrote nothing a second time, and what was committed
after a backup is gone when that is restored (`mrl_db.postgres.changes`).
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import psycopg

from mrl_db import _kernels
from mrl_db.engines.native.cache import Cached, cache_file
from mrl_db.model.errors import ConnectError, FreshnessError, MrlDbError, from_psycopg
from mrl_db.model.filters import AllOf
from mrl_db.postgres import catalog, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog, News, Position, trim
from mrl_db.postgres.copy_out import copy_rows
from mrl_db.postgres.ingest import check_keys, plain_keys
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session

Read = Callable[[CollectionInfo, ChangeLog | None], tuple[_kernels.Index, Position | None]]
NEVER = math.inf

_LEASE = 600.0  # seconds for which the log keeps what this reader has not acknowledged
_LOADING_LEASE = 86_400.0  # … while it loads
_RENEW = 60.0
_TOUCHED = 100_000  # keys applied since the last acknowledgement that are remembered
_KEYS_AT_ONCE = 8_192
_BLOCK_BYTES = 4 << 20
_LINKED_AT_ONCE = 256
_MANY_WAIT = 4096  # rows without links: more slow searches down, and are linked by all cores
_FEW = 10_000  # rows: whatever share of a small index changes, it is changed and not built anew


class LiveIndex:
    """The rows of a collection, as fresh as its database."""

    def __init__(
        self,
        session: Session,
        info: CollectionInfo,
        read: Read,
        *,
        allow_rls_bypass: bool,
        follow: bool,
        cache: dict[str, Any] | None,
    ) -> None:
        """Loads. read: makes an index of the table as it is, and says as of when. follow: without it the rows stay as they were read.

        cache: what makes the index another one than those of the same table, where it is to be kept as a file.
        """
        self.info = info
        self.generation = 0  # counts the syncs that changed something
        self._session = session
        self._read = read
        self._allow_rls_bypass = allow_rls_bypass
        self._lock = threading.Lock()
        self._link: Connection | None = None
        self._linker: threading.Thread | None = None
        self._rebuilder: threading.Thread | None = None
        self._process = self._linked_in = os.getpid()
        self._synced_at = -math.inf
        self._log = ChangeLog(session, info, allow_rls_bypass=allow_rls_bypass) if follow else None
        self._file = (
            None
            if self._log is None or cache is None
            else cache_file(session, info, self._log.relation, cache)
        )
        if self._log is None or self._file is None:
            self._load()
            return
        with self._file.locked():
            found = self._file.open(self._log, _LEASE)
            if found is None:
                self._load()
                self._save()
            else:
                self._reader = found.reader
                self._take(found)

    @property
    def index(self) -> _kernels.Index:
        """The rows, their codes and the graph."""
        return self._index

    @property
    def follows(self) -> bool:
        """Whether writes by others are seen."""
        return self._log is not None

    def sync(self, max_staleness: float = 0.0) -> None:
        """Sees to it that everything committed `max_staleness` seconds before this call is here.

        Raises ConnectError when the database cannot be asked, CollectionNotFoundError when the collection is gone, FreshnessError when it
        has changed its form or cannot be followed any more.
        """
        if self._log is None:
            return
        called = _now()
        if called - self._synced_at <= max_staleness:
            return
        with self._lock:
            if called - self._synced_at <= max_staleness:  # another thread asked meanwhile
                return
            self._sync(self._log, _now())

    def expire(self) -> None:
        """Makes the next search ask, whatever staleness it allows: this process has written."""
        self._synced_at = -math.inf

    def load_afresh(self) -> None:
        """Reads all rows again, whatever is here or in the file."""
        with self._lock:
            self._load()
            self._save()

    def close(self) -> None:
        """Ends the registration, after the file is brought up to date; the rows stay as they are."""
        with self._lock:
            log = self._log
            if log is not None and self._process == os.getpid():
                try:
                    if self._unsaved and self._renew(log, self._connection()):
                        self._save()
                    log.leave(self._reader)
                except (MrlDbError, psycopg.Error):  # the lease ends by itself
                    pass
            self._log = None
            self._cut_link()

    def _load(self) -> None:
        """Reads all rows anew, and remembers as of when."""
        began = _now()
        if self._log is not None:
            self._reader = self._log.register(_LOADING_LEASE)
        self._index, position = self._read(self.info, self._log)
        self._rows_then = self._index.rows
        self.generation += 1
        if self._log is None:
            return
        if position is None:
            raise FreshnessError(f'collection "{self.info.name}" was dropped while it was loaded')
        self._position = position
        self._touched: set[Any] = set()
        self._unsaved = self._rows_then
        self._renew(self._log, self._connection())
        self._synced_at = began

    def _take(self, cached: Cached) -> None:
        """Begins with an index out of a file; the first search brings it up to date."""
        self._index, self._position = cached.index, cached.position
        self._rows_then, self._renewed_at = cached.built_rows, _now()
        self._touched, self._unsaved = set(), 0
        self.generation += 1

    def _save(self) -> None:
        """Writes the file; the reader has just acknowledged what is here."""
        if (
            self._log is not None
            and self._file is not None
            and self._unsaved
            and self._reader.seen == self._position.snapshot
        ):
            self._file.save(
                self._log, Cached(self._index, self._reader, self._position, self._rows_then)
            )
            self._unsaved = 0

    def _sync(self, log: ChangeLog, began: float) -> None:
        again = True
        while True:
            try:
                self._follow(log, self._connection(), began)
                self._synced_at = began
                return
            except psycopg.Error as error:
                lost = (
                    self._link is None
                    or self._link.broken
                    or isinstance(error, psycopg.OperationalError)
                )
                if lost:
                    self._cut_link()
                if not (lost and again):
                    raise from_psycopg(error) from None
            except ConnectError:
                if not again:
                    raise
            again = False

    def _follow(self, log: ChangeLog, connection: Connection, began: float) -> None:
        if self._process != os.getpid():
            self._after_fork(log)
        if (began - self._renewed_at > _RENEW or len(self._touched) > _TOUCHED) and not self._renew(
            log, connection
        ):
            self._compare(log)
            return
        news = log.news(connection, self._position, self._reader)
        if news is None:
            return
        if news.position.started != self._position.started:
            news = self._after_restart(log, connection)
        if news.keys is None or news.position.fingerprint != self._position.fingerprint:
            self._compare(log)
            return
        if news.keys:
            self._apply(connection, list(news.keys))
        self._position = news.position
        if self._index.rows > 2 * self._rows_then + _FEW and (
            self._rebuilder is None or not self._rebuilder.is_alive()
        ):
            # The projection was fitted to another collection. What is here is right, and answers until the new one is ready.
            self._rows_then = self._index.rows
            self._rebuilder = threading.Thread(
                target=_rebuild, args=(weakref.ref(self),), name="mrl_db rebuilder", daemon=True
            )
            self._rebuilder.start()

    def rebuild(self) -> None:
        """Reads all rows again while searches and syncs go on with what is here, then takes the new index in its place."""
        log, info = self._log, self.info
        if log is None:
            return
        reader = log.register(_LOADING_LEASE)  # holds what is committed meanwhile
        try:
            index, position = self._read(info, log)
            with self._lock:
                if (
                    self._log is log
                    and position is not None
                    and position.fingerprint == self._position.fingerprint
                ):
                    self._take(Cached(index, reader, position, index.rows))
                    self._unsaved = index.rows
                    reader, self._reader = self._reader, reader
                    self.expire()
        finally:
            log.leave(reader)

    def _renew(self, log: ChangeLog, connection: Connection) -> bool:
        """Acknowledges what is here; False when the log may have been cut meanwhile."""
        began = _now()
        reader = log.acknowledge(connection, self._reader, self._position, _LEASE)
        if reader is None:
            return False
        self._reader, self._renewed_at = reader, began
        self._touched.clear()
        trim(connection)
        if 5 * self._unsaved > self._index.rows + _FEW:
            self._save()
        return True

    def _after_restart(self, log: ChangeLog, connection: Connection) -> News:
        news = log.since_acknowledged(connection, self._reader)
        return News(
            news.position, None if news.keys is None else list(self._touched.union(news.keys))
        )

    def _after_fork(self, log: ChangeLog) -> None:
        """A forked child follows for itself, from where its parent had acknowledged."""
        reader = log.register_from(self._reader, _LEASE)
        self._process = os.getpid()
        if reader is None:
            self._renewed_at = (
                -math.inf
            )  # the parent has moved on: the next renewal fails, and rows are compared
        else:
            self._reader, self._renewed_at = reader, _now()

    def _apply(self, connection: Connection, keys: list[Any]) -> None:
        """Fetches rows as they are now, and makes the index so."""
        self._touched.update(keys)
        self._unsaved += len(keys)
        self.generation += 1
        request = Request(self.info, AllOf(()), ())
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            piece = keys[begin : begin + _KEYS_AT_ONCE]
            found: set[Any] = set()
            for encoded, vectors in copy_rows(connection, request, _block_rows(self.info), piece):
                if len(vectors):
                    self._index.upsert(encoded, vectors)
                    found.update(plain_keys(encoded, self.info.key_type))
            gone = [key for key in piece if key not in found]
            if gone:
                self._index.erase(check_keys(gone, self.info.key_type)[0])
        if self._index.waiting and (self._linker is None or not self._linker.is_alive()):
            self._linker = threading.Thread(
                target=_link, args=(self._index,), name="mrl_db linker", daemon=True
            )
            self._linker.start()

    def _compare(self, log: ChangeLog) -> None:
        """Makes the index equal to the table, row by row, and follows from there."""
        info = catalog.describe(self._session, self.info.name)
        for what in ("dims", "metric", "key", "key_type", "vector", "vector_type"):
            if getattr(info, what) != getattr(self.info, what):
                raise FreshnessError(
                    f'collection "{info.name}" has changed its form ({what} was {getattr(self.info, what)}, is {getattr(info, what)}); '
                    "open it again and load() it"
                )
        relation = log.relation
        log.relation = log.check(info)
        self.info = info
        if log.relation != relation or not self._registered(log):
            self._reader = log.register(_LOADING_LEASE)
        comparison = _kernels.Comparison()
        differing: list[Any] = []
        with self._session.transaction() as connection:
            connection.execute(statements.query("repeatable_read"))
            position = log.position(connection)
            if position is None:
                raise FreshnessError(f'collection "{info.name}" was dropped while it was compared')
            for encoded, vectors in copy_rows(
                connection, Request(info, AllOf(()), ()), _block_rows(info)
            ):
                if len(vectors):
                    places = self._index.compare(encoded, vectors, comparison)
                    differing += plain_keys(
                        encoded[places]
                        if not isinstance(encoded, list)
                        else [encoded[i] for i in places.tolist()],
                        info.key_type,
                    )
        if len(differing) > max(_FEW, self._index.rows // 2):
            self._load()
            return
        self.generation += 1
        self._unsaved += self._index.erase_unmet(comparison)
        self._apply(self._connection(), differing)
        self._position = position
        if not self._renew(log, self._connection()):
            raise FreshnessError(
                "the registration in mrl.reader was taken away while rows were compared; search again"
            )

    def _registered(self, log: ChangeLog) -> bool:
        with self._session.connection() as connection:
            return log.holds(connection, self._reader)

    def _connection(self) -> Connection:
        if self._link is None or self._link.closed or self._linked_in != os.getpid():
            self._cut_link()
            self._link, self._linked_in = self._session.own_connection(), os.getpid()
            self._cut = weakref.finalize(self, self._session.give_back, self._link, self._linked_in)
        return self._link

    def _cut_link(self) -> None:
        if self._link is not None:
            self._link = None
            self._cut()


class Follower(threading.Thread):
    """Syncs in the background, so that searches that allow some staleness never wait for the database."""

    def __init__(self, live: LiveIndex, max_staleness: float) -> None:
        """max_staleness: what searches allow; it syncs twice as often."""
        super().__init__(name="mrl_db follower", daemon=True)
        self._live = weakref.ref(live)
        self._interval = max_staleness / 2
        self._stop = threading.Event()

    def run(self) -> None:
        """Until `stop()`, or the index is gone. A search notices for itself what goes wrong here."""
        while not self._stop.wait(self._interval):
            live = self._live()
            if live is None or not live.follows:
                return
            try:
                live.sync(self._interval)
            except MrlDbError:
                continue
            finally:
                del live

    def stop(self) -> None:
        """Ends the thread soon."""
        self._stop.set()


def _rebuild(live: weakref.ref[LiveIndex]) -> None:
    found = live()
    if found is not None:
        try:
            found.rebuild()
        except (
            MrlDbError,
            psycopg.Error,
        ) as error:  # what is here stays right; it is tried again after as much growth
            logging.getLogger("mrl_db").warning("the index could not be built anew: %s", error)


def _link(index: _kernels.Index) -> None:
    """Brings new rows into the graph, beside searches; they are found before that, at the price of a look at each."""
    while index.link_waiting(
        _LINKED_AT_ONCE, _kernels.available_threads() if index.waiting > _MANY_WAIT else 1
    ):
        continue


def _block_rows(info: CollectionInfo) -> int:
    return max(1, _BLOCK_BYTES // (4 * info.dims))


def _now() -> float:
    """Seconds on a clock that also runs while the machine sleeps, as leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
