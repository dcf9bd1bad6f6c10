"""Rows by filter: read in the order of their keys, or given other columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from mrl_db import clashes, door, door_keys
from mrl_db.collection.opened import OUTDATED, Face, Where, as_it_is_now
from mrl_db.faces import exports, frames
from mrl_db.hits import Records
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.key import id_array
from mrl_db.postgres import update as updating
from mrl_db.postgres.copy_out import block_rows
from mrl_db.postgres.pages import Window, pages
from mrl_db.postgres.request import Request
from mrl_db.postgres.rows import stacked
from mrl_db.postgres.session import Session

if TYPE_CHECKING:
    import pyarrow as pa

_PAGE_ROWS = 5000  # without vectors


class Scan:
    """Rows in the order of their keys, read when they are asked for, page by page.

    Iterating gives `Records` of a page each; frames of all kinds read it by `__arrow_c_stream__`,
    with one page in memory. It may be read several times, and reads anew each time.
    """

    def __init__(
        self,
        session: Session,
        request: Request,
        window: Window,
        renewed: Callable[[Request], Request | None],
    ) -> None:
        """Not for callers: use `Collection.scan`."""
        self._session = session
        self._request = request
        self._window = window
        self._renewed = renewed

    def __iter__(self) -> Iterator[Records]:
        for page in self._pages():
            yield self._records(page)

    def records(self) -> Records:
        """Returns all rows at once."""
        rows = [row for page in self._pages() for row in page]
        return self._records(rows)

    def to_list(self) -> list[dict[str, Any]]:
        """Returns a dict for each row."""
        return self.records().to_list()

    def to_batches(self) -> pa.RecordBatchReader:
        """Returns a reader of Arrow batches, which asks for the next page when it is read."""
        import pyarrow as pa

        every = self._pages()
        first = next(every, [])  # it may have renewed what columns there are
        schema = self._records([]).to_arrow().schema
        batches = (
            batch
            for page in chain([first] if first else [], every)
            for batch in self._records(page).to_arrow().to_batches()
        )
        return pa.RecordBatchReader.from_batches(schema, batches)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_batches().__arrow_c_stream__(requested_schema)

    def _columns(self) -> list[exports.Column]:
        return self.records()._columns()

    to_arrow = exports.to_arrow
    to_pandas = exports.to_pandas
    to_polars = exports.to_polars

    def _pages(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yields pages; begins once more where another client has changed the table before."""
        every = pages(self._session, self._request, self._window)
        try:
            first = next(every, None)
        except OUTDATED:
            request = self._renewed(self._request)
            if request is None:
                raise
            self._request = request
            every = pages(self._session, request, self._window)
            first = next(every, None)
        if first is not None:
            yield first
        yield from every

    def _records(self, rows: Sequence[tuple[Any, ...]]) -> Records:
        info = self._request.info
        further = {
            name: [row[position] for row in rows]
            for position, name in enumerate(self._request.columns, 1)
        }
        vectors = np.empty((len(rows), 0), np.float32)
        if info.vector in self._request.columns:
            vectors = stacked(further.pop(info.vector), info.dims)
        ids = id_array([row[0] for row in rows], info.key_type)
        types = info.wire_types
        return Records(ids, vectors, further, types, (info.key, info.vector))


def scan(
    self: Face,
    where: Where | None = None,
    *,
    columns: Sequence[str] | None = None,
    vectors: bool = False,
    after: Any = None,
    limit: int | None = None,
    page: int | None = None,
    connection: object | None = None,
) -> Scan:
    """Returns the rows that pass a filter, in the order of their keys.

    Nothing is read before the scan is iterated or made a frame of. Each page is a statement of its
    own and holds no connection: a row that stays comes once, one that is written meanwhile comes or
    not.

    Args:
        where: A filter over metadata columns.
        columns: Metadata to bring along; None: all.
        vectors: Bring the vectors along, NaN for a row that has none; without, `Records.vectors` is
            (n, 0).
        after: Only rows whose key comes after this one, in the database's order: the last one of
            the page before.
        limit: Rows at most; None: all.
        page: Rows of a page; None: some megabytes.
        connection: As above; each page is read in the transaction that it is in then.
    """
    opened = self._opened.on(connection)

    def asked() -> Request:
        names = tuple(opened.info.columns) if columns is None else columns
        request = opened.request(where, names)
        if vectors:
            request = replace(request, columns=(*request.columns, request.info.vector))
        return request

    def renewed(before: Request) -> Request | None:
        return asked() if opened.is_renewed(before.info) and connection is None else None

    request = asked()
    info = request.info
    usual = block_rows(info.dims) if vectors else _PAGE_ROWS
    window = Window(
        None if after is None else door_keys.checked_keys([after], info.key_type)[0],
        None if limit is None else door.checked_count(limit, "limit"),
        usual if page is None else door.checked_count(page, "page"),
    )
    return Scan(opened.session, request, window, renewed)


@as_it_is_now
def update(
    self: Face,
    /,
    ids: Any = None,
    *,
    where: Where | None = None,
    batch_id: str | None = None,
    connection: object | None = None,
    **columns: Any,
) -> int:
    """Changes metadata columns of rows that are there; their vectors stay.

    Args:
        ids: Keys, or one alone; or, without columns, a frame or a list of dicts that has the key
            and the columns, which may be named like an argument.
        where: A filter that selects the rows instead.
        batch_id: As above.
        connection: As above.
        **columns: For several ids n values each, or one that is no list for all of them; for one
            id, or a filter, a value. None is NULL.

    Returns:
        How many rows were there.
    """
    opened = self._opened.on(connection)
    if (ids is None) == (where is None):
        raise ValueRangeError(
            "update() takes ids or where=, one of the two; where={} changes all rows"
        )
    if not columns and (frames.is_frame(ids) or frames.is_rows(ids)):
        ids, columns = opened.columns_of(ids)
    if not columns:
        raise ValueRangeError("update() got no columns; wanted name=value for each that changes")
    clashes.check_unmistaken(batch_id, opened.info, "that column is changed by SQL")
    if ids is None:
        of_one = {name: [value] for name, value in columns.items()}
        lists = opened.checked(lambda info: door.checked_columns(of_one, info, 1))
        values = {name: one[0] for name, one in lists.items()}
        request = opened.request(where)
        return opened.write(
            batch_id, partial(updating.update_where, request=request, values=values)
        )
    keys = door_keys.checked_keys_or_key(ids, opened.info.key_type)
    alone = door_keys.is_alone(ids)
    listed = {
        name: [value] * len(keys) if alone or door_keys.is_alone(value) else value
        for name, value in columns.items()
    }
    checked = opened.checked(lambda info: door.checked_columns(listed, info, len(keys)))
    return opened.write(
        batch_id, partial(updating.update_keys, info=opened.info, keys=keys, columns=checked)
    )
