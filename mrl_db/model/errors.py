"""Every error that mrl_db raises, and the one map from psycopg's errors to ours.

Each derives from `MrlDbError` and from the built-in that a caller would expect. A message says what
came, what was wanted and the way out. No message, cause or context shows a connection string:
psycopg's text may quote a malformed one, password included.
"""

from __future__ import annotations

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolClosed


class MrlDbError(Exception):
    """The base of every error of this library."""


class ShapeError(MrlDbError, ValueError):
    """An array has the wrong number of axes, the wrong width, or no rows."""


class DtypeError(MrlDbError, TypeError):
    """An array or a value has a type that cannot be meant."""


class ValueRangeError(MrlDbError, ValueError):
    """A value is out of its range.

    NaN, infinity, a zero vector under cosine, k below 1, a name that PostgreSQL would cut.
    """


class FilterError(MrlDbError, ValueError):
    """A filter names an unknown column or operator, or a value that does not fit the column."""


class PlanError(MrlDbError, ValueError):
    """A plan breaks one of its laws."""


class TargetNotMetError(MrlDbError, RuntimeError):
    """No plan that was tried meets the target; the message says what the best one reaches."""


class NotFittedError(MrlDbError, RuntimeError):
    """A model was asked before it was fitted."""


class PromiseWarning(UserWarning):
    """A promise does not speak of today's searches: queries or rows are of another kind."""


class NotLoadedError(MrlDbError, RuntimeError):
    """The collection is not loaded, or not with the codes that the plan needs."""


class FreshnessError(MrlDbError, RuntimeError):
    """What was loaded cannot follow its table: not all writes are logged, or its form changed."""


class RowSecurityError(MrlDbError, PermissionError):
    """The table is under row-level security, which the native engine does not apply."""


class MemoryLimitError(MrlDbError, MemoryError):
    """Loading would take more memory than it may; the message shows the arithmetic."""


class SimdError(MrlDbError, RuntimeError):
    """The instruction set asked for is unknown, or this CPU lacks it."""


class DuplicateKeyError(MrlDbError, ValueError):
    """A key is there twice: in one call, or in the call and the collection."""


class CollectionNotFoundError(MrlDbError, LookupError):
    """No collection has this name."""


class CollectionExistsError(MrlDbError, ValueError):
    """The name is taken: by a collection or by another relation."""


class ConnectError(MrlDbError, ConnectionError):
    """No connection to the server; the connection string is never shown."""


class DatabaseClosedError(ConnectError):
    """The database object was closed, by `close()` or the end of its with block."""


class PartUnavailableError(ConnectError):
    """A part of a collection in parts did not answer, after it was asked again.

    Attributes:
        parts: The numbers of all that did not.
    """

    def __init__(self, message: str, parts: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.parts = parts


class PartlyWrittenError(MrlDbError, RuntimeError):
    """Some servers of a collection on several have their rows of a write, and some have not.

    The same call with the same `batch_id=` completes it, and writes nothing twice.

    Attributes:
        batch_id: The caller's; or one that the call gave itself.
        servers: The numbers of those that have not, or of which it is not known.
    """

    def __init__(self, message: str, batch_id: str, servers: tuple[int, ...]) -> None:
        super().__init__(message)
        self.batch_id, self.servers = batch_id, servers

    def __reduce__(self) -> tuple[type[PartlyWrittenError], tuple[str, str, tuple[int, ...]]]:
        """Says how it is made again in another process."""
        return type(self), (str(self), self.batch_id, self.servers)


class CommitUncertain(MrlDbError, ConnectionError):  # noqa: N818 - a state, not a mistake
    """The connection was lost after COMMIT was sent and before the server answered.

    The write is whole, in the database or not at all.

    The same call with the same `batch_id=` finds out: it writes unless it was written.
    """


class CancelledError(MrlDbError, TimeoutError):
    """A statement took longer than `statement_timeout=`, or was cancelled. Nothing was written."""


class ConflictError(MrlDbError, RuntimeError):
    """The transaction met another one, and was rolled back; the same call may succeed now.

    A deadlock, a serialization failure.
    """


class RecoveryConflictError(ConflictError):
    """A standby cancelled a read that held up its replay of WAL; it may be tried again.

    `hot_standby_feedback = on` there has the primary keep the rows that are read.
    """


class ReadOnlyError(MrlDbError, PermissionError):
    """A write over a connection that only reads: to a standby, or one that was told so."""


class NotReplayedError(MrlDbError, TimeoutError):
    """A standby has not replayed what it was to wait for in time."""


class ServerError(MrlDbError, RuntimeError):
    """The server lacks what is needed, or the embedded server cannot start."""


class MigrationError(MrlDbError, RuntimeError):
    """The schema mrl in the database is not the one that this version can work with."""


class PrivilegeError(MrlDbError, PermissionError):
    """The database role may not do this."""


class DatabaseError(MrlDbError, RuntimeError):
    """PostgreSQL refused a statement for a reason that has no error of its own here."""


class MissingDependencyError(MrlDbError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether an error means that the connection has gone, or that the server ended it."""
    ended = (
        pg.ConnectionException,
        pg.AdminShutdown,
        pg.CrashShutdown,
        pg.IdleInTransactionSessionTimeout,
        pg.CannotConnectNow,
    )
    return isinstance(error, ended) or (
        error.sqlstate is None
        and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    )


_PRIMARY = (
    "write to the primary: connect to it, or name all hosts and target_session_attrs=read-write"
)
READ_ONLY: dict[bool | None, str] = {  # by whether the server is a standby
    True: f"this server is a standby, which only reads; {_PRIMARY}",
    False: "this connection only reads (default_transaction_read_only, or a transaction that is "
    "read-only); write over another one",
    None: f"this connection only reads; if the server is a standby, {_PRIMARY}",
}
"""What to do where a connection only reads."""

_OF_SQLSTATE: dict[str, type[MrlDbError]] = {  # raised by functions of schema mrl (sql/prepare.sql)
    "MR001": CollectionExistsError,
    "MR002": CollectionNotFoundError,
    "MR003": ValueRangeError,
    "MR004": ServerError,
    "MR005": MigrationError,
}


_NOT_ADAPTED = "cannot adapt type"


def from_psycopg(error: psycopg.Error, standby: bool | None = None) -> MrlDbError:
    """Returns our error for one of psycopg's, by SQLSTATE.

    It has the server's message, and never libpq's text about a connection.

    Args:
        error: Psycopg's.
        standby: Whether the server is a standby; None: it is not known.
    """
    primary = error.diag.message_primary
    detail = error.diag.message_detail
    said = "; ".join(part for part in (primary, detail, error.diag.message_hint) if part)
    own = _OF_SQLSTATE.get(error.sqlstate or "")
    if own is not None:
        return own(said)
    if isinstance(error, pg.UniqueViolation) and error.diag.schema_name not in (
        "pg_catalog",
        "mrl",
    ):
        return DuplicateKeyError(f"{said}; upsert() replaces rows whose key is there already")
    if isinstance(error, pg.InsufficientPrivilege):
        return PrivilegeError(f"{said}; grant it to this role, or connect as another one")
    if isinstance(error, pg.UndefinedTable):
        return CollectionNotFoundError(f"{said}; was the table dropped or renamed outside mrl_db?")
    if isinstance(error, psycopg.DataError):
        return ValueRangeError(said or str(error))  # psycopg's own, of a value and no connection
    if isinstance(error, pg.QueryCanceled):
        return CancelledError(f"{said}; nothing was written")
    if isinstance(error, pg.LockNotAvailable):
        return ConflictError(
            f"{said}; another session holds the table: end its transaction (pg_stat_activity shows "
            "it), or wait longer with lock_timeout"
        )
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return ReadOnlyError(f"{said}; {READ_ONLY[standby]}")
    if (error.sqlstate or "").startswith("40") and standby:
        return RecoveryConflictError(
            f"{said}; this standby cancels reads that hold up its replay: try again, or set "
            "hot_standby_feedback = on there (or max_standby_streaming_delay higher)"
        )
    if (error.sqlstate or "").startswith("40"):
        return ConflictError(f"{said}; it was rolled back, and may be tried again")
    if is_connection_lost(error) or isinstance(error, pg.InvalidAuthorizationSpecification):
        if isinstance(error, PoolClosed):
            return DatabaseClosedError(
                "the database was closed, by close() or the end of its with block"
            )
        return ConnectError(
            said or f"the connection failed ({type(error).__name__}); the server may have stopped"
        )
    if error.sqlstate is not None:
        return DatabaseError(f"{said} (SQLSTATE {error.sqlstate})")
    own_words = str(error)  # psycopg's own; others may quote a connection string
    if own_words.startswith(_NOT_ADAPTED):
        return DtypeError(f"{own_words}: a value has a type that is not sent to PostgreSQL")
    return DatabaseError(f"psycopg refused a statement ({type(error).__name__})")
