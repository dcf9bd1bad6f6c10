"""A cursor whose statements outlive changes of the tables that they read."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.abc import Params
from psycopg.pq import TransactionStatus


class Cursor(psycopg.Cursor[tuple[Any, ...]]):
    """Repeats a statement once that PostgreSQL had a plan for from before a table was altered.

    It refuses such a statement before anything of it has run, so a write may be repeated, too.
    Inside a transaction nothing could be: there no statement is prepared (`Session.transaction`).
    """

    def execute(
        self,
        query: Any,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Cursor:
        """Executes a statement, as psycopg's cursor does."""
        try:
            super().execute(query, params, prepare=prepare, binary=binary)
        except (pg.FeatureNotSupported, pg.InternalError_) as error:
            idle = self.connection.info.transaction_status is TransactionStatus.IDLE
            if not (idle and _is_outdated(error)):
                raise
            with psycopg.Cursor(self.connection) as cursor:
                cursor.execute(b"DEALLOCATE ALL", prepare=False)
            super().execute(query, params, prepare=False, binary=binary)
        return self


def _is_outdated(error: psycopg.Error) -> bool:
    """Whether a table, or its index, was altered between a statement's plan and its run.

    The function that says so is the same in every language that a server speaks.
    """
    return error.diag.source_function in ("RevalidateCachedQuery", "relation_open")
