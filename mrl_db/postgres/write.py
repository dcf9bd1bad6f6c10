"""Writing rows: by binary COPY, all or nothing.

Where keys may be there already, rows are merged out of a temporary table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from psycopg import sql

from mrl_db import _kernels
from mrl_db.door import Batch
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.encode import pieces
from mrl_db.postgres.session import Connection
from mrl_db.postgres.twin import Twin

# A COPY statement. The change log's trigger sees a statement's rows in a transition table, which
# PostgreSQL keeps in memory up to work_mem (4 MB as it comes) and in a file beyond.
_STATEMENT_BYTES = 1 << 21
_STAGING = "mrl_db_staging"

Conflict = Literal["error", "skip", "replace"]
"""What becomes of a row whose key is there already."""


_MERGES: dict[Conflict, str] = {
    "error": "staging_insert",
    "skip": "staging_add",
    "replace": "staging_merge",
}


def write(
    connection: Connection,
    info: CollectionInfo,
    batches: Iterable[Batch],
    *,
    on_conflict: Conflict,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes rows in the connection's transaction.

    Args:
        connection: Inside a transaction.
        info: The collection.
        batches: Rows that passed the door, with the same columns in all.
        on_conflict: Rows whose key is there already are an error; or stay as they are; or get the
            new vector and the columns given.
        progress: Gets the number of rows sent so far.

    Returns:
        The number of rows, without those that were skipped.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return 0
    columns = [
        statements.identifier(name) for name in (info.key, info.vector, *tuple(first.columns))
    ]
    stream = pieces(connection, info, itertools.chain([first], iterator))
    if on_conflict == "error" and not _is_under_policies(connection, info):
        return _copy(connection, info.relation, columns, stream, progress)
    create = statements.query("staging_create").format(
        staging=statements.identifier(_STAGING),
        columns=sql.SQL(", ").join(columns),
        target=info.relation,
    )
    connection.execute(create, ())
    staging = statements.identifier("pg_temp", _STAGING)
    count = _copy(connection, staging, columns, stream, progress)
    update = statements.query("update")
    merge = statements.query(_MERGES[on_conflict]).format(
        target=info.relation,
        columns=sql.SQL(", ").join(columns),
        staging=staging,
        key=columns[0],
        updates=sql.SQL(", ").join(update.format(column=column) for column in columns[1:]),
    )
    merged = connection.execute(merge, ()).rowcount
    if isinstance(connection, Twin):  # the caller's transaction goes on, perhaps to another merge
        connection.execute(statements.query("staging_drop").format(staging=staging))
    return merged if on_conflict == "skip" else count


def _is_under_policies(connection: Connection, info: CollectionInfo) -> bool:
    name = info.relation.as_string(connection).replace("%%", "%")  # it is a value here
    row = connection.execute(statements.query("row_security_active"), (name,)).fetchone()
    return row is not None and bool(row[0])


def _copy(
    connection: Connection,
    target: sql.Composable,
    columns: Sequence[sql.Composable],
    stream: Iterator[tuple[int, bytes]],
    progress: Callable[[int], None] | None,
) -> int:
    """Sends the pieces by as many COPY statements as their size takes; returns the rows."""
    statement = statements.without_parameters(
        statements.query("copy_in").format(target=target, columns=sql.SQL(", ").join(columns)),
        connection,
    )
    count = 0
    piece = next(stream, None)
    while piece is not None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_kernels.copy_header())
            sent = 0
            while piece is not None and sent < _STATEMENT_BYTES:
                copy.write(piece[1])
                sent += len(piece[1])
                count += piece[0]
                if progress is not None:
                    progress(count)
                piece = next(stream, None)
            copy.write(_kernels.copy_trailer())
    return count
