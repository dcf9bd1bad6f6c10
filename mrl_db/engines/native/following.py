"""An index in this process that follows its table: a search sees what was committed before it.

A sync asks the change log, in one round trip, for what is not visible in the snapshot that was
seen. Mostly there is nothing. The keys written to are fetched as they are now, whatever was done to
them, so that applying a change twice, or late, does no harm.

Where the log cannot tell all (TRUNCATE, a table that was rewritten or whose triggers were off, a
lease that ended, a restored backup) the rows themselves are compared with those here, by one COPY.
After a restart of the server the log is read from the last acknowledgement, and what was applied
since is fetched again: a crash may give ids a second time, a backup may have been restored.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg

from mrl_db import _kernels
from mrl_db.engines.native import background, catching_up
from mrl_db.engines.native.cache import Cached, cache_file
from mrl_db.engines.native.catching_up import Judge, Read
from mrl_db.engines.native.comparing import compare
from mrl_db.engines.native.journal import Journal
from mrl_db.engines.native.lease import Began, Following, Freshness, registered
from mrl_db.lifetime import renew_after_fork
from mrl_db.model.errors import FreshnessError, MrlDbError
from mrl_db.postgres import catalog
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog, trim
from mrl_db.postgres.link import Link
from mrl_db.postgres.positions import UNREGISTERED, News, Reader
from mrl_db.postgres.session import Connection, OwnSession


class LiveIndex:
    """The rows of a collection, as fresh as its database."""

    index: _kernels.Index  # rows, codes and graph; no property: every search reads it

    def __init__(
        self,
        session: OwnSession,
        info: CollectionInfo,
        read: Read,
        *,
        allow_rls_bypass: bool,
        follow: bool,
        cache: dict[str, Any] | None,
        following: Following,
    ) -> None:
        """Loads.

        Args:
            session: To follow by.
            info: The collection.
            read: Makes an index of the table as it is, and says as of when; gives up, with
                `Ended`, when the event is set.
            allow_rls_bypass: Load a table under row-level security.
            follow: Without it the rows stay as they were read.
            cache: What makes the index another one than those of the same table; None: no file.
            following: Leases and limits.
        """
        self.info = info
        self.journal = Journal()
        self._session = session
        self._read = read
        self._allow_rls_bypass = allow_rls_bypass
        self.lock = session.lock()
        self._following = following
        self._link = Link(session)
        self._linker = background.Task("linker")
        self._rebuilder = background.Task("rebuilder")
        self._forked = False
        self._reader = UNREGISTERED
        self.freshness = Freshness()
        self.rebuilt: Callable[[], None] = lambda: None  # called once another index is here
        self._log = ChangeLog(session, info, allow_rls_bypass=allow_rls_bypass) if follow else None
        self._file = (
            None
            if self._log is None or cache is None
            else cache_file(session, info, self._log.relation, cache)
        )
        renew_after_fork(self)
        try:
            self._begin()
        except BaseException:
            self._leave()
            raise

    def _begin(self) -> None:
        """Takes the index out of its file, or makes both."""
        if self._log is None or self._file is None or self._log.is_bound:
            self._load()
            return
        with self._file.locked():
            found = self._file.open(self._log, self._following.lease)
            if found is None:
                self._load()
                self._save()
            else:
                self._take(found)

    @property
    def follows(self) -> bool:
        """Whether writes by others are seen."""
        return self._log is not None

    @property
    def is_whole(self) -> bool:
        """Whether no policy chooses which rows this role sees."""
        return self._log is not None and not self._log.has_policies

    @property
    def has_grown(self) -> bool:
        """Whether it was built of so few of its rows that it finds less of the others."""
        return self.index.rows > 2 * self._rows_then + self._following.grown

    def sync(self, max_staleness: float = 0.0, judge: Judge | None = None) -> None:
        """Sees to it that everything committed `max_staleness` seconds before this call is here.

        Raises:
            ConnectError: The database cannot be asked.
            CollectionNotFoundError: The collection is gone.
            FreshnessError: It has changed its form, or cannot be followed any more.
        """
        log, moment = self._log, self._following.clock() - max_staleness
        if log is None or self.freshness.reaches(moment):
            return
        with self.lock:
            if self._log is None or self.freshness.reaches(moment):  # another thread did meanwhile
                return
            began = self.freshness.begin(self._following.clock())
            self._link.use(lambda connection: self._follow(log, connection, began.moment, judge))
            self.freshness.reach(began)

    def is_level_with(self, other: LiveIndex, began: Began) -> bool:
        """Whether it has seen what another one of the same table has, who asked since a moment."""
        with self.lock:
            asks = self._log is None or self._forked or self._is_due(began.moment)
            if level := not asks and self._position == other._position:
                self.freshness.reach(began)
            return level

    def load_afresh(self) -> None:
        """Reads all rows again, whatever is here or in the file; searches go on meanwhile."""
        self._rebuilder.join()
        with self.lock:
            if self._log is not None:
                self._log.check_anew(self.info, self._link.connection())
        taken = self.rebuild(threading.Event())
        with self.lock:
            if not taken:
                self._load()
            self._save()

    def settle(self) -> None:
        """Waits for what goes on beside searches: new rows being linked, an index built anew."""
        self._linker.join()
        self._rebuilder.join()

    def close(self) -> None:
        """Ends the registration, once the file is up to date; the rows stay as they are."""
        self._linker.end()
        self._rebuilder.end()
        with self.lock:
            try:
                if self._log is not None and not self._forked and self._unsaved:
                    with contextlib.suppress(MrlDbError, psycopg.Error):
                        if self._renew(self._log, self._link.connection()):
                            self._save()
            finally:
                self._leave()

    def _leave(self) -> None:
        """Follows no more."""
        log, self._log = self._log, None
        try:
            if log is not None and not self._forked and self._reader is not UNREGISTERED:
                with contextlib.suppress(MrlDbError):  # then its lease ends
                    log.leave(self._reader.id)
        finally:
            self._link.cut()

    def after_fork(self) -> None:
        """Forgets locks, threads and the connection: they are the parent's."""
        self.lock = self._session.lock()
        self._linker = background.Task("linker")
        self._rebuilder = background.Task("rebuilder")
        self._forked = True

    def _load(self) -> None:
        """Reads all rows anew, and remembers as of when."""
        log, began = self._log, self.freshness.begin(self._following.clock())
        if log is None:
            self.index, _ = self._read(self.info, None, None)
            self.journal.note_all()
            return
        with self._new_reader(log) as reader:
            index, position = self._read(self.info, log, None)
            if position is None:
                raise FreshnessError(
                    f'collection "{self.info.name}" was dropped while it was loaded'
                )
            self._take(Cached(index, reader, position, index.rows))
        self._unsaved = self._rows_then
        self._renew(log, self._link.connection())
        self.freshness.reach(began)

    def _take(self, cached: Cached) -> None:
        """Begins with an index, which the first search brings up to date.

        A fork may come between any two steps: an index with an older position, or an older reader,
        only has something applied a second time.
        """
        self.index = cached.index
        self._position = cached.position
        self._reader, self._forked = cached.reader, False
        self._rows_then, self._renewed_at = cached.built_rows, self._following.clock()
        self._touched, self._unsaved = set[Any](), 0
        self.journal.note_all()

    def _new_reader(self, log: ChangeLog) -> AbstractContextManager[Reader]:
        """Registers a reader that holds what is committed from now on (`lease.registered`)."""
        before = UNREGISTERED if self._forked else self._reader  # that is the parent's
        return registered(log, self._following.loading_lease, before, lambda: self._reader)

    def _save(self) -> None:
        """Writes the file, for all roles; the reader has just acknowledged what is here."""
        if (
            self._log is not None
            and not self._log.is_bound
            and self._file is not None
            and self._unsaved
            and (self._position.standby or self._reader.seen == self._position.snapshot)
        ):
            self._file.save(
                self._log, Cached(self.index, self._reader, self._position, self._rows_then)
            )
            self._unsaved = 0

    def _follow(
        self, log: ChangeLog, connection: Connection, began: float, judge: Judge | None
    ) -> None:
        if self._forked or self._is_due(began):
            self._session.aside(partial(self._renew_and_follow, log, connection, began, judge))
            return
        judged = None if judge is None else judge.asks(self.journal.number)
        news = catching_up.news(log, connection, self._position, self._reader, self.info, judged)
        if news is not None:
            self._session.aside(partial(self._catch_up, log, connection, news, judge))

    def _is_due(self, began: float) -> bool:
        late = began - self._renewed_at > self._following.renew
        return late or len(self._touched) > self._following.touched

    def _renew_and_follow(
        self, log: ChangeLog, connection: Connection, began: float, judge: Judge | None
    ) -> None:
        if self._forked:
            self._follow_as_child(log)
        if self._is_due(began) and not self._renew(log, connection):
            self._compare(log)
            return
        news = log.news(connection, self._position, self._reader)
        if news is not None:
            self._catch_up(log, connection, news, judge)

    def _catch_up(
        self, log: ChangeLog, connection: Connection, news: News, judge: Judge | None
    ) -> None:
        """Applies what is new, and stands then where the news say."""
        if news.position.standby != self._position.standby:
            self._change_over(log, connection)
            return
        if news.position.started != self._position.started and not news.position.standby:
            self.journal.note_all()  # what a filter was told may be gone
            news = catching_up.after_restart(log, connection, self._reader, self._touched)
        if news.position.fingerprint != self._position.fingerprint:
            stands = Cached(self.index, self._reader, self._position, self._rows_then)
            most = self._following.few + self.index.rows // 10
            news = catching_up.with_new_partitions(
                self.info, log, self._session, connection, stands, news, most
            )
        if news.keys is None:
            self._compare(log)
            return
        if news.keys:
            self._apply(connection, news, judge)
        self._position = news.position
        rebuild = partial(background.rebuild, weakref.ref(self))
        if self.has_grown and self._rebuilder.start(rebuild):
            self._rows_then = self.index.rows

    def rebuild(self, ended: threading.Event) -> bool:
        """Reads all rows again while searches and syncs go on, then takes the new index.

        A search that has synced may take either: the new one has seen what the old one has. Returns
        whether it was taken; it is not where the log cannot tell what was written meanwhile.
        """
        log, info = self._log, self.info
        if log is None:
            return False
        with self._new_reader(log) as reader:
            index, position = self._read(info, log, ended)
            if position is None:
                return False
            made, written = Cached(index, reader, position, index.rows), set[Any]()
            with self._session.connection() as connection:
                newer = catching_up.catch_up(made, info, log, connection, written)  # most
            with self.lock:
                if newer is not None and self._log is log:
                    newer = catching_up.catch_up(newer, info, log, self._link.connection(), written)
                if newer is None or self._log is not log:
                    self._rows_then = 0  # so that it is begun again
                    return False
                self._take(newer)
                self._touched, self._unsaved = written, index.rows
                self._link_waiting()
        self.rebuilt()
        return True

    def _renew(self, log: ChangeLog, connection: Connection) -> bool:
        """Acknowledges what is here; False when the log may have been cut meanwhile."""
        began = self._following.clock()
        reader = log.acknowledge(connection, self._reader, self._position, self._following.lease)
        if reader is None:
            return False
        self._reader, self._renewed_at = reader, began
        self._touched.clear()
        trim(connection)
        if 5 * self._unsaved > self.index.rows + self._following.few:
            self._save()
        return True

    def _follow_as_child(self, log: ChangeLog) -> None:
        """A forked child follows for itself, from where its parent had acknowledged."""
        reader = log.register_from(self._reader, self._following.lease)
        if reader is None:  # the parent has moved on: renewing will fail, and rows are compared
            self._reader, self._renewed_at = UNREGISTERED, -math.inf
        else:
            self._reader, self._renewed_at = reader, self._following.clock()
        self._forked = False
        self._link_waiting()

    def _change_over(self, log: ChangeLog, connection: Connection) -> None:
        """Follows by registering once a standby is none any more; another server is compared."""
        log.check_anew(self.info, connection)
        with self._new_reader(log) as reader:
            before = self._position
            news = log.news(connection, before, reader) if before.standby else None
            if news and news.keys is not None and news.position.is_promoted(before):
                self._apply(connection, news)
                self._position, self._reader = news.position, reader  # in this order: see _take
                return
        self._compare(log)

    def _apply(self, connection: Connection, news: News, judge: Judge | None = None) -> None:
        """Makes the index as rows are now."""
        self._touched.update(news.keys or ())
        self._unsaved += len(news.keys or ())
        catching_up.apply(self.index, self.info, connection, news, self.journal, judge)
        self._link_waiting()

    def _link_waiting(self) -> None:
        if self.index.is_behind:
            self._linker.start(partial(background.link, self.index))

    def _compare(self, log: ChangeLog) -> None:
        """Makes the index equal to the table, row by row, and follows from there."""
        # What fails is due again, here or out of the file, though the cause may be gone by then.
        self._position, self._unsaved = replace(self._position, fingerprint=""), self._unsaved + 1
        info = catalog.describe_of_form(self._session, self.info)
        relation, log.relation = log.relation, log.check_anew(info, self._link.connection())
        self.info = info
        follows = log.relation == relation and log.holds(self._reader)
        with nullcontext(self._reader) if follows else self._new_reader(log) as reader:
            # Of several hosts, searches that follow ask the one that this connection reached.
            lend = self._link.snapshot if log.standby else self._session.snapshot
            position, differing, met = compare(self.index, lend, log, info)
            if len(differing) > max(self._following.few, self.index.rows // 2):
                self._load()
                return
            self.journal.note_all()
            self._unsaved += self.index.erase_unmet(met)
            self._apply(self._link.connection(), News(position, differing))
            self._position, self._reader = position, reader  # in this order: see _take
        if not self._renew(log, self._link.connection()):
            raise FreshnessError(
                "the registration in mrl.reader was taken away while rows were compared; "
                "search again"
            )
