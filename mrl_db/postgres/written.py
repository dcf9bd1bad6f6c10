"""Rows that were written to, and whether each passes a filter: a few, in one statement.

The statement that asks what is new can bring them along, too (`news`): then what a search must
fetch, and what it wants to know of it, takes the one round trip that it makes in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from mrl_db.model.filters import Node
from mrl_db.postgres import conditions, statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.positions import News, Position, Reader
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection

MOST = 64  # rows, which come sooner by a statement that is prepared than by COPY


def rows(
    connection: Connection, info: CollectionInfo, keys: Sequence[Any], judged: Request
) -> list[tuple[Any, ...]]:
    """Returns (key, vector, passes) of the rows with some keys and a vector, as they are now.

    Args:
        connection: To ask.
        info: The collection, or a part of it.
        keys: A few.
        judged: The filter that they pass or not.
    """
    statement, values = _statement("rows_written", info, judged)
    cursor = connection.cursor(binary=True)
    return cursor.execute(statement, [*values, list(keys)]).fetchall()


def news(
    log: ChangeLog,
    connection: Connection,
    position: Position,
    reader: Reader,
    info: CollectionInfo,
    judged: Request,
) -> News | None:
    """Does as `ChangeLog.news`, on a primary; brings rows along where they are few, as `rows`."""
    statement, values = _statement("log_news_with_rows", info, judged)
    asked = MOST, log.relation, position.snapshot, position.started, reader.id, reader.token
    found = log.asked(connection, statement, [*asked, *values], binary=True)
    entry, few = found[0][:2]
    if entry is None:
        return None
    told = log.told(entry)
    return replace(told, rows=[row[3:] for row in found if row[2]]) if few else told


def _statement(name: str, info: CollectionInfo, judged: Request) -> tuple[str, list[Any]]:
    types = tuple((name, column.type) for name, column in judged.info.columns.items())
    names = info.schema, info.table, info.key, info.key_type, info.vector
    return _made(name, names, types, info.part, judged.where)


@lru_cache(maxsize=256)  # to put it together takes longer than to run it
def _made(
    name: str,
    names: tuple[str, str, str, str, str],
    types: tuple[tuple[str, str], ...],
    part: tuple[int, int] | None,
    judged: Node,
) -> tuple[str, list[Any]]:
    """Returns the statement, and those of its parameters that are the filter's."""
    schema, table, key, key_type, vector = names
    passes, values = conditions.compile_condition(judged, {key: key_type, **dict(types)})
    condition = conditions.present(vector)
    if part is not None:
        condition = conditions.conjunction(conditions.in_part(key, *part), condition)
    statement = statements.query(name).format(
        key=statements.identifier(key),
        type=conditions.type_name(key_type),
        vector=statements.identifier(vector),
        judged=passes,
        source=statements.identifier(schema, table),
        condition=condition,
    )
    return statement.as_string(None), values
