"""A collection copied, with its vectors changed: a new table, filled from one snapshot of the old one, all or nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mrl_db.postgres import catalog, ingest, rows, statements
from mrl_db.postgres.catalog import Wanted
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session

_BLOCK_BYTES = 16 << 20


def copy_changed(
    session: Session,
    source: Request,
    wanted: Wanted,
    adaptor: bytes,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    progress: Callable[[int], None] | None = None,
) -> int:
    """Makes the collection, and copies the rows that the request selects, with the wanted columns; returns how many."""
    names = tuple(wanted.columns)
    condition, parameters = source.condition()
    statement = statements.query("rows_all").format(
        key=statements.identifier(source.info.key),
        vector=statements.identifier(source.info.vector),
        columns=rows.further_columns(names),
        source=source.info.relation,
        condition=condition,
    )
    block = max(1, _BLOCK_BYTES // (4 * wanted.dims))
    count = 0
    with session.transaction() as connection:
        catalog.create(connection, wanted, adaptor)
        info = catalog.describe_in(connection, wanted.name)
        with connection.cursor("mrl_db_rows") as cursor:
            cursor.execute(statement, parameters, binary=True)
            while found := cursor.fetchmany(block):
                vectors = change(np.stack([row[1] for row in found]))
                columns = {
                    name: [row[2 + place] for row in found] for place, name in enumerate(names)
                }
                batch = ingest.check_batch([row[0] for row in found], vectors, columns, info)
                count += ingest.write(connection, info, [batch], upsert=False)
                if progress is not None:
                    progress(count)
    return count
