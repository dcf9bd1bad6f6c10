"""The change log as a reader sees it: where it stands, what is new, and that nothing was cut.

A position is a snapshot of the database with the server's start and the log's fingerprint
(`mrl.log_fingerprint`). A change is news when its transaction is not visible in that snapshot, in
whatever order transactions began and committed.

A reader that is registered holds the changes it has not acknowledged, until its lease ends. Its
token is new at every acknowledgement: a reader whose token is not there follows a log that was cut,
or another history of the database (a restored backup), and must compare rows.

On a standby nobody can register. A reader there is `UNREGISTERED`; what it has not seen is in the
log as long as nothing of it was cut (`mrl.cut`), which the primary does late where it has standbys
(sql/functions/standbys.sql).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import errors as pg

from mrl_db.model.errors import (
    CollectionNotFoundError,
    FreshnessError,
    PrivilegeError,
    RowSecurityError,
)
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.positions import UNREGISTERED, News, Position, Reader, bytes_before
from mrl_db.postgres.session import Connection, Session, in_recovery

_log = logging.getLogger("mrl_db")
_TRIGGERS = 4  # INSERT, UPDATE, DELETE, TRUNCATE
# Who writes without a trigger of the log that is the collection's, by the flags of mrl.check_log.
_UNLOGGED = {
    "subscribed": "a subscription's worker, which fires no triggers,",
    "children": "statements on its children (INHERITS)",
    "parents": "statements on the table that it inherits from (INHERITS)",
    "partition": "statements on the table that it is a partition of",
    "foreign": "other servers, where one of its partitions is,",
}


class NotLoggedError(FreshnessError):
    """The triggers of the log are not there, or do not fire always.

    Attributes:
        gone: There is none of them, as after DROP EXTENSION, or none of a partition that is new.
    """

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class ChangeLog:
    """The log of one collection's table.

    Attributes:
        relation: The table's oid.
        has_policies: Whether the table is under row-level security.
        is_bound: Whether policies choose which of its rows this role sees.
    """

    def __init__(self, session: Session, info: CollectionInfo, *, allow_rls_bypass: bool) -> None:
        """Checks that the log sees every write.

        Raises:
            FreshnessError: It does not.
            RowSecurityError: Policies would not bind readers of the rows.
        """
        self._session = session
        self._allow_rls_bypass = allow_rls_bypass
        self._uuids = info.key_type == "uuid"
        self._partitioned = info.partitioned
        self.standby = False
        self.has_policies = self.is_bound = False
        self._cursor: psycopg.Cursor[tuple[Any, ...]] | None = None
        self.relation = self._made(info)
        if self.standby:
            self._tell_of_end(info)

    def _tell_of_end(self, info: CollectionInfo) -> None:
        """Logs a warning where the triggers may go although readers here need them."""
        with self._session.connection() as connection:
            until = _one(connection, "log_needed_until", self.relation)
        if until is not None:
            _log.warning(
                'writes to "%s.%s" are logged until %s, or a week after it was last loaded on the '
                "primary; its owner calls SELECT mrl.log_for_standbys('%s') there to keep it so",
                info.schema,
                info.table,
                until,
                info.name,
            )

    def _made(self, info: CollectionInfo) -> int:
        """Makes the triggers where they are not, or not as they must be; returns the table's oid.

        The lock that this takes waits for whoever writes now, and is held up to the end of a
        statement: what is written later is logged.
        """
        try:
            return self.check(info)
        except NotLoggedError as error:
            if self.standby:
                raise
            try:
                with self._session.connection() as connection:
                    connection.execute(statements.query("log_make"), (info.name,))
            except PrivilegeError:
                raise NotLoggedError(_not_logged(info), gone=error.gone) from None
        return self.check(info)

    def check_anew(self, info: CollectionInfo, connection: Connection) -> int:
        """`check()`, which makes the triggers again where all of them went together.

        Of several hosts, the one that the connection has reached says whether it is a standby.
        """
        try:
            relation = self.check(info)
        except NotLoggedError as error:
            if not error.gone:
                raise
            relation = self._made(info)
        standby = in_recovery(connection)
        self.standby = self.standby if standby is None else standby
        return relation

    def check(self, info: CollectionInfo) -> int:
        """Returns the table's oid, once nothing stands in the way of following it."""
        state = self._state(info)
        self.standby = state["recovery"]
        self._refuse(info, state)
        self.has_policies, self.is_bound = bool(state["row_security"]), bool(state["bound"])
        return int(state["relation"])

    def confirmed(self, info: CollectionInfo, position: Position) -> Position:
        """Returns a position that was read after `check()`, once nothing stands in the way still.

        What came between the two is in the position's fingerprint, so that no later one differs.
        Where triggers are lacking, as of a partition that came, this one differs from all.
        """
        try:
            self._refuse(info, self._state(info))
        except NotLoggedError:
            return replace(position, fingerprint="")
        return position

    def _state(self, info: CollectionInfo) -> dict[str, Any]:
        """Returns what `mrl.check_log` says."""
        with self._session.connection() as connection:
            state: dict[str, Any] | None = _one(connection, "log_check", info.name)
        if state is None:
            raise CollectionNotFoundError(
                f'collection "{info.name}" lost its table: it was dropped outside mrl_db'
            )
        return state

    def _refuse(self, info: CollectionInfo, state: dict[str, Any]) -> None:
        """Raises where something stands in the way of following."""
        if state["row_security"] and not self._allow_rls_bypass:
            raise RowSecurityError(
                f'table "{info.schema}.{info.table}" is under row-level security, which rows in '
                'this process would not be: search with engine="sql", or say '
                "load(allow_rls_bypass=True)"
            )
        why = next((words for flag, words in _UNLOGGED.items() if state[flag]), None)
        if why is not None:
            raise FreshnessError(
                f'writes to table "{info.schema}.{info.table}" by {why} cannot be logged: '
                'load(max_staleness=float("inf")) takes the rows as they are now, until refresh()'
            )
        if state["read_only"] and not state["recovery"]:
            raise FreshnessError(
                "this connection only reads (default_transaction_read_only), and to follow writes "
                'is to register for them: load(max_staleness=float("inf")) takes the rows as they '
                "are now, until refresh()"
            )
        if state["triggers"] != _TRIGGERS:
            said = _not_logged_there(info) if state["recovery"] else _not_logged(info)
            raise NotLoggedError(said, gone=state["gone"])

    def register(self, identity: uuid.UUID, lease: float) -> Reader:
        """Registers a reader that needs what is not visible now, for `lease` seconds.

        Its id is the caller's, who can take it back whatever happens meanwhile. On a standby
        nobody registers.
        """
        if self.standby:
            return UNREGISTERED
        try:
            with self._session.connection() as connection:
                row = connection.execute(
                    statements.query("log_follow"), (identity, self.relation, lease)
                ).fetchone()
        except PrivilegeError as error:
            raise PrivilegeError(
                f"{error} (to follow writes takes INSERT, SELECT, UPDATE and DELETE on mrl.reader, "
                'and SELECT on mrl.change; load(max_staleness=float("inf")) follows none)'
            ) from None
        assert row is not None
        return Reader(*row)

    def register_from(self, other: Reader, lease: float) -> Reader | None:
        """Registers a reader that begins where another one was acknowledged; None: it is gone."""
        if self.standby:
            return None
        with self._session.connection() as connection:
            row = connection.execute(
                statements.query("log_follow_from"), (other.id, other.token, lease)
            ).fetchone()
        return None if row is None else Reader(*row)

    def renew(self, reader: Reader, lease: float) -> None:
        """Lets a reader that acknowledges nothing stay for longer."""
        if self.standby:
            return
        with self._session.connection() as connection:
            connection.execute(statements.query("log_renew"), (lease, reader.id, reader.token))

    def position(self, connection: Connection) -> Position | None:
        """Returns where a reader of this transaction stands; None when the collection is gone."""
        row = connection.execute(statements.query("log_position"), (self.relation,)).fetchone()
        if self._partitioned:
            connection.execute(statements.query("log_partitions_wait"), (self.relation,))
        return None if row is None or row[2] is None else Position(*row)

    def news(self, connection: Connection, position: Position, reader: Reader) -> News | None:
        """Returns what came since a position, None when nothing did, by one round trip.

        Raises:
            CollectionNotFoundError: The collection, or its table, was dropped.
        """
        if position.standby:
            return self._news_on_standby(connection, position)
        asked = self.relation, position.snapshot, position.started, reader.id, reader.token
        ((entry,),) = self.asked(connection, statements.query_bytes("log_news"), asked)
        return None if entry is None else self.told(entry)

    def asked(
        self,
        connection: Connection,
        statement: bytes | str,
        parameters: Sequence[Any],
        *,
        binary: bool = False,
    ) -> list[tuple[Any, ...]]:
        """Returns the rows of a statement, by a cursor that is kept for the connection.

        To make one costs a fifth of what it takes to learn that there is nothing new.
        """
        cursor = self._cursor
        if cursor is None or cursor.connection is not connection:
            cursor = self._cursor = connection.cursor()
        return cursor.execute(statement, parameters, binary=binary).fetchall()

    def since_acknowledged(self, connection: Connection, reader: Reader) -> News:
        """Returns what came since the reader's last acknowledgement."""
        return self.told(
            _one(
                connection, "log_changes_since", self.relation, reader.seen, reader.id, reader.token
            )
        )

    def holds(self, reader: Reader) -> bool:
        """Whether the reader is registered under its token, so that the log has all it needs."""
        if self.standby:
            return False
        with self._session.connection() as connection:
            return bool(_one(connection, "log_holds", reader.id, reader.token))

    def acknowledge(
        self, connection: Connection, reader: Reader, position: Position, lease: float
    ) -> Reader | None:
        """Lets go of the changes seen at a position, and renews the lease.

        The position must have been taken before: then no transaction after a crash of the server
        gets an id that the position takes for seen.

        Returns:
            The reader as it is now; None when it is not registered under its token, or the server
            is a standby.
        """
        if position.standby:
            return reader
        try:
            token = _one(
                connection, "log_acknowledge", reader.id, reader.token, position.snapshot, lease
            )
        except pg.ReadOnlySqlTransaction:
            return None
        return None if token is None else Reader(reader.id, token, position.snapshot)

    def leave(self, identity: uuid.UUID) -> None:
        """Ends a registration, if it is there."""
        if self.standby:
            return
        with self._session.connection() as connection:
            connection.execute(statements.query("log_leave"), (identity,))

    def _news_on_standby(self, connection: Connection, position: Position) -> News | None:
        """Returns what came since a position of a standby, which may have been promoted since.

        What another server says, or the same one once it was started again, is no continuation:
        it may have replayed less, or another history. One of whose processes crashed begins again
        at its last restart point, without another start.
        """
        _, next_id, running = position.snapshot.split(":")
        if not running:
            (now,) = self.asked(connection, statements.query_bytes("log_replayed_all"), ())
            if now == (position.replayed, position.started, True, next_id):
                return None
        row = connection.execute(statements.query("log_replayed"), (position.snapshot,)).fetchone()
        if row == (position.replayed, position.started, True, True):
            return None
        assert row is not None
        replayed, started, _, _ = row
        if started != position.started or bytes_before(replayed) < bytes_before(position.replayed):
            return News(replace(position, started=started, replayed=replayed), None)
        told = _one(connection, "log_standby_news", self.relation, position.snapshot)
        since = {**told["since"], "held": told["held"]}
        if since["recovery"] and told["ended"]:
            since["snapshot"] = told["ended"]
        return self.told(since, replayed)

    def told(self, entry: dict[str, Any], replayed: str = "0/0") -> News:
        """Returns what an entry of `mrl.news` says."""
        if entry["fingerprint"] is None:
            raise CollectionNotFoundError(
                "the collection that was loaded is gone: it or its table was dropped; where one of "
                'its name was made since, load() that, or search with engine="sql"'
            )
        position = Position(
            entry["snapshot"],
            entry["started"],
            entry["fingerprint"],
            replayed if entry["recovery"] else "",
        )
        if not entry["held"]:
            return News(position, None)
        keys: set[Any] = set()
        for change in entry["changes"] or ():
            if change is None:
                return News(position, None)
            keys.update(change)
        return News(position, [uuid.UUID(key) for key in keys] if self._uuids else list(keys))


def _not_logged(info: CollectionInfo) -> str:
    return (
        f'writes to table "{info.schema}.{info.table}" are not logged: its owner may call load(), '
        f"or SELECT mrl.log_changes('{info.name}'), which make the triggers"
    )


def _not_logged_there(info: CollectionInfo) -> str:
    return (
        f'writes to table "{info.schema}.{info.table}" are not logged, and this is a standby: on '
        f"the primary its owner calls SELECT mrl.log_for_standbys('{info.name}') (or load(), once "
        'a week at least); load(max_staleness=float("inf")) takes the rows as they are now, until '
        "refresh()"
    )


def health(session: Session, collection: str) -> tuple[int, int, bool]:
    """Returns (changes that the log holds, its readers, whether all writes are logged)."""
    with session.connection() as connection:
        row = connection.execute(statements.query("log_health"), (collection,)).fetchone()
    if row is None:
        raise CollectionNotFoundError(f'no collection "{collection}"')
    return int(row[0]), int(row[1]), row[2] == _TRIGGERS


def trim(connection: Connection) -> None:
    """Removes what no reader of any log needs, and batches of long ago, where this role may."""
    if in_recovery(connection):
        return
    try:
        _one(connection, "log_trim")
        _one(connection, "log_unlog")
        _one(connection, "batch_trim")
    except (pg.InsufficientPrivilege, pg.ReadOnlySqlTransaction):
        return


def _one(connection: Connection, name: str, *parameters: Any) -> Any:
    row = connection.execute(statements.query_bytes(name), parameters).fetchone()
    return None if row is None else row[0]
