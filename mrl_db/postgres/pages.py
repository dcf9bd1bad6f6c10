"""Rows page by page in the order of their keys, each page by a statement of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mrl_db.postgres import conditions, rows, statements
from mrl_db.postgres.link import past_conflicts
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import OwnSession, Session


@dataclass(frozen=True, slots=True)
class Window:
    """Which of the rows of a request are read.

    Attributes:
        after: Only keys that come after this one, in the database's order; None: from the first.
        limit: Rows at most; None: all.
        page: Rows of a page.
    """

    after: Any
    limit: int | None
    page: int


def pages(session: Session, request: Request, window: Window) -> Iterator[list[tuple[Any, ...]]]:
    """Yields pages of (key, further columns…), none of them empty.

    No connection is held between two pages. A row that stays comes once; one that is written
    meanwhile comes or not.
    """
    after, left = window.after, window.limit
    while left is None or left > 0:
        size = window.page if left is None else min(window.page, left)
        read = partial(_page, session, request, after, size)
        # A transaction of the caller's has ended with what was cancelled in it.
        page = past_conflicts(read) if isinstance(session, OwnSession) else read()
        if page:
            yield page
        if len(page) < size:
            return
        after, left = page[-1][0], None if left is None else left - size


def _page(session: Session, request: Request, after: Any, size: int) -> list[tuple[Any, ...]]:
    info = request.info
    condition, parameters = request.filter()
    if after is not None:
        later = conditions.after(info.key, info.key_type)
        condition, parameters = conditions.conjunction(condition, later), [*parameters, after]
    statement = statements.query("rows_page").format(
        key=statements.identifier(info.key),
        columns=rows.further_columns(info, request.columns),
        source=info.relation,
        condition=condition,
    )
    with session.connection() as connection:
        cursor = connection.cursor(binary=True)
        return rows.fetched(cursor.execute(statement, [*parameters, size]))
