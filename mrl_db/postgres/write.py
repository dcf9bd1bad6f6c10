"""Writing rows: a few as the parameters of one statement, more by binary COPY; all or nothing.

Where keys may be there already, many rows are merged out of a temporary table, which costs ten
milliseconds and entries in the server's catalogue.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from psycopg import adapters, sql

from mrl_db import _kernels
from mrl_db.door import Batch
from mrl_db.model.errors import ConflictError, DuplicateKeyError
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.encode import arrays, pieces
from mrl_db.postgres.session import Connection
from mrl_db.postgres.twin import Twin
from mrl_db.postgres.vectors import Field

# A COPY statement. The change log's trigger sees a statement's rows in a transition table, which
# PostgreSQL keeps in memory up to work_mem (4 MB as it comes) and in a file beyond.
_STATEMENT_BYTES = 1 << 21
_STAGING = "mrl_db_staging"
# Up to these, rows are parameters: a COPY takes a round trip more, a temporary table several.
_FEW_BYTES = 1 << 19
_FEW_NEW_BYTES = 1 << 15

Conflict = Literal["error", "skip", "replace"]
"""What becomes of a row whose key is there already."""


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
        The number of rows that the server wrote, without those that were skipped, or that a trigger
        of the table's kept out.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return 0
    stream = pieces(connection, info, itertools.chain([first], iterator))
    names = tuple(first.columns)
    updated = names if first.left_out else (info.vector, *names)
    columns = [statements.identifier(name) for name in (info.key, info.vector, *names)]
    if not info.key_indexed:
        _wait_for_turn(connection, info)
    few, stream = _few(stream, _FEW_NEW_BYTES if on_conflict == "error" else _FEW_BYTES)
    if few and all(info.columns[name].array_oid for name in names):
        source, parameters = _given(info, names, columns, [piece for _, piece in few])
        count = sum(rows for rows, _ in few)
        written = _merge(connection, info, updated, columns, source, parameters, on_conflict, count)
        if progress is not None:
            progress(count)
        return written
    stream = itertools.chain(few, stream)
    if on_conflict == "error" and info.key_indexed and not _look(connection, info, names):
        count = _copy(connection, info.relation, columns, stream, progress)
        _look(connection, info, names)  # which stays so: the COPY has locked the table
        return count
    create = statements.query("staging_create").format(
        staging=statements.identifier(_STAGING),
        columns=sql.SQL(", ").join(columns),
        target=info.relation,
    )
    connection.execute(create, ())
    _look(connection, info, names)
    staging = statements.identifier("pg_temp", _STAGING)
    count = _copy(connection, staging, columns, stream, progress)
    written = _merge(connection, info, updated, columns, staging, (), on_conflict, count)
    if isinstance(connection, Twin):  # the caller's transaction goes on, perhaps to another merge
        connection.execute(statements.query("staging_drop").format(staging=staging))
    return written


def _few(
    stream: Iterator[tuple[int, bytes]], limit: int
) -> tuple[list[tuple[int, bytes]], Iterator[tuple[int, bytes]]]:
    """Returns a stream's pieces when they are few, else none; and the stream of what is left."""
    head: list[tuple[int, bytes]] = []
    size = 0
    for piece in stream:
        head.append(piece)
        size += len(piece[1])
        if size > limit:
            return [], itertools.chain(head, stream)
    return head, stream


def _given(
    info: CollectionInfo,
    names: Sequence[str],
    columns: Sequence[sql.Composable],
    stream: Sequence[bytes],
) -> tuple[sql.Composable, list[Field]]:
    """Returns rows as a source of a statement, and its parameters."""
    further = [info.columns[name] for name in names]
    key = adapters.types[info.key_type].oid
    wires = arrays(stream, [key, info.vector_oid, *(column.oid for column in further)])
    oids = [0, 0, *(column.array_oid for column in further)]
    source = statements.query("rows_given").format(
        key_type=sql.SQL(info.key_type),
        vector_schema=statements.identifier(info.vector_schema),
        vector_type=statements.identifier(info.vector_type),
        further=sql.SQL("").join([statements.query("array_given")] * len(names)),
        columns=sql.SQL(", ").join(columns),
    )
    return source, [Field(wire, oid) for wire, oid in zip(wires, oids, strict=True)]


def _merge(
    connection: Connection,
    info: CollectionInfo,
    updated: Sequence[str],
    columns: Sequence[sql.Composable],
    source: sql.Composable,
    parameters: Sequence[Field],
    on_conflict: Conflict,
    count: int,
) -> int:
    """Writes rows out of a source; returns how many the server wrote.

    Args:
        connection: Inside a transaction.
        info: The collection.
        updated: What rows that are there get.
        columns: All that the source has, the key first.
        source: Where the rows wait.
        parameters: Of the source.
        on_conflict: As for `write`.
        count: Of the rows.
    """
    every = {info.vector, *(each.name for each in info.columns.values() if not each.generated)}
    replace = "rows_renew" if every - set(updated) else "rows_merge"
    if not updated:
        replace = "rows_insert_new"
    kind = {"error": "rows_insert", "skip": "rows_insert_new", "replace": replace}[on_conflict]
    if not info.key_indexed:
        kind = "rows_renew" if on_conflict == "replace" and updated else "rows_add_once"

    def listed(name: str) -> sql.Composable:
        part = statements.query(name)
        listed = [part.format(column=statements.identifier(name)) for name in updated]
        return sql.SQL(", ").join(listed)

    key, updates, nothing = columns[0], listed("update"), sql.SQL("")
    if_there = statements.query("if_there").format(key=key, updates=updates)
    statement = statements.query(kind).format(
        target=info.relation,
        columns=sql.SQL(", ").join(columns),
        source=source,
        key=key,
        updates=updates,
        assignments=listed("assignment"),
        once=nothing if info.key_indexed else statements.query("once").format(key=key),
        if_there=if_there if info.key_indexed else nothing,
    )
    cursor = connection.execute(statement, parameters)
    if kind not in ("rows_renew", "rows_add_once"):
        as_they_are = on_conflict == "replace" and not updated  # rows that are there count, too
        return count if as_they_are else cursor.rowcount
    row = cursor.fetchone()
    assert row is not None
    waiting, added = row
    if info.key_indexed:
        return int(added)
    if on_conflict != "skip" and (added if on_conflict == "error" else waiting) < count:
        raise DuplicateKeyError(
            f'a key stands twice, or is in table "{info.schema}.{info.table}" already: upsert() '
            'replaces rows, on_conflict="skip" leaves them; nothing was written'
        )
    return count if on_conflict == "replace" else int(added)


def _wait_for_turn(connection: Connection, info: CollectionInfo) -> None:
    """Lets one write at a time look for its keys and add them, as no index would refuse them."""
    row = connection.execute(statements.query("keys_turn"), (info.name,)).fetchone()
    if row is not None and row[0] != "read committed":
        raise ConflictError(
            f'no index makes the keys of collection "{info.name}" unique, and a transaction that '
            f"is {row[0]} does not see those that others add: write in one that is read committed"
        )


def _look(connection: Connection, info: CollectionInfo, names: Sequence[str]) -> bool:
    """Returns whether policies bind this role, which then may not COPY into the table.

    Raises:
        ConflictError: A column has another type than it was described with: COPY would take the
            bytes of the one for a value of the other.
    """
    name = info.relation.as_string(connection).replace("%%", "%")  # it is a value here
    described = {
        info.key: adapters.types[info.key_type].oid,
        info.vector: info.vector_oid,
        **{name: info.columns[name].oid for name in names},
    }
    values = {"table": name, "columns": list(described)}
    row = connection.execute(statements.query("copy_look"), values).fetchone()
    assert row is not None
    under_policies, oids = row
    if oids != list(described.values()):
        raise ConflictError(
            f'the columns of table "{info.schema}.{info.table}" were changed by another client; '
            "nothing was written, and the same call may succeed now"
        )
    return bool(under_policies)


def _copy(
    connection: Connection,
    target: sql.Composable,
    columns: Sequence[sql.Composable],
    stream: Iterator[tuple[int, bytes]],
    progress: Callable[[int], None] | None,
) -> int:
    """Sends the pieces by as many COPY statements as their size takes; returns the rows written."""
    statement = statements.without_parameters(
        statements.query("copy_in").format(target=target, columns=sql.SQL(", ").join(columns)),
        connection,
    )
    count = written = 0
    piece = next(stream, None)
    while piece is not None:
        with connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
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
            written += cursor.rowcount
    return written
