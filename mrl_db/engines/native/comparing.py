"""What differs between an index in this process and its table, by one COPY of all rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from psycopg import sql

from mrl_db import _kernels
from mrl_db.engines.native.unique_keys import check_unique
from mrl_db.model.errors import FreshnessError
from mrl_db.model.filters import AllOf
from mrl_db.model.key import decode
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.positions import Position
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection


def compare(
    index: _kernels.Index,
    snapshot: Callable[[sql.Identifier], AbstractContextManager[Connection]],
    log: ChangeLog,
    info: CollectionInfo,
) -> tuple[Position, list[Any], _kernels.Comparison]:
    """Returns as of when the table was read, the keys that differ, and what was met of the index.

    Args:
        index: To compare with.
        snapshot: Lends a connection whose statements all see one state of a table.
        log: The log of the table.
        info: The collection.

    Raises:
        FreshnessError: The table is gone, or the log does not see every write.
        DuplicateKeyError: A key stands on several rows.
    """
    met = _kernels.Comparison()
    differing: list[Any] = []
    blocks: list[Any] = []
    with snapshot(info.relation) as connection:
        position = log.position(connection)
        if position is None:
            raise FreshnessError(f'collection "{info.name}" was dropped while it was compared')
        request = Request(info, AllOf(()), ())
        for encoded, vectors in copy_rows(connection, request, block_rows(info.dims)):
            if not info.key_indexed:
                blocks.append(encoded)
            if len(vectors):
                differ = index.compare(encoded, vectors, met).tolist()
                differing += decode([encoded[i] for i in differ], info.key_type)
    check_unique(blocks, info)
    return log.confirmed(info, position), differing, met
