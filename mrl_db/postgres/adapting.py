"""A copy of a collection with its vectors changed: from one snapshot, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import door
from mrl_db.model.arrays import parted
from mrl_db.postgres import catalog, rows, statements
from mrl_db.postgres.copy_out import block_rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.postgres.write import write

_BLOCK_BYTES = 16 << 20


def copy_changed(
    session: Session,
    source: Request,
    name: str,
    adaptor: bytes,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Makes a collection, and copies rows into it.

    Args:
        session: To read and write by.
        source: The rows, of a collection that the new one is otherwise like.
        name: Of the new collection.
        adaptor: What is kept with the new collection.
        change: What it does to vectors (n, dims).
        progress: Gets the rows copied so far.

    Returns:
        How many rows were copied.
    """
    info = source.info
    columns = {each.name: each.type for each in info.columns.values() if not each.generated}
    definition = catalog.Definition(
        name,
        info.dims,
        info.nesting_dims,
        info.low_dims,
        info.metric,
        info.key_type,
        columns,
        info.schema,
        info.vectors_required,
        None if info.text is None else info.text.column,
        "english" if info.text is None else info.text.language,
    )
    names = tuple(columns)
    condition, parameters = source.filter()
    statement = statements.query("rows_all").format(
        key=statements.identifier(info.key),
        vector=statements.identifier(info.vector),
        columns=rows.further_columns(info, names),
        source=info.relation,
        condition=condition,
    )
    count = 0
    with session.transaction() as connection:
        catalog.create(connection, definition, adaptor)
        made = catalog.describe_in(connection, name)
        with connection.cursor("mrl_db_rows") as cursor:
            cursor.execute(statement, parameters, binary=True)
            while block := cursor.fetchmany(block_rows(info.dims, _BLOCK_BYTES)):
                keys, vectors, *values = zip(*block, strict=True)
                further = dict(zip(names, values, strict=True))
                some = parted(vectors)
                changed: Any = change(np.stack(vectors)) if some is None else some
                if some is not None and some.vectors:
                    changed = replace(some, vectors=change(np.stack(some.vectors)))
                batch = door.checked_rows(keys, changed, further, made)
                count += write(connection, made, [batch], on_conflict="error")
                if progress is not None:
                    progress(count)
    return count
