"""Whose connection it is, inside a task: psycopg's or SQLAlchemy's asynchronous kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from mrl_db.postgres.owners import refused
from mrl_db.tasks import wait_for


@contextmanager
def driver_connection_in_task(given: Any) -> Iterator[psycopg.AsyncConnection[Any]]:
    """Lends psycopg's AsyncConnection of what the caller gave, inside the caller's transaction.

    Args:
        given: A `psycopg.AsyncConnection`; an AsyncSession, AsyncConnection or AsyncEngine of
            SQLAlchemy 2, treated as their plain kinds are (`mrl_db.postgres.owners`).

    Raises:
        DtypeError: It is none of these, or of another driver.
    """
    if isinstance(given, psycopg.AsyncConnection):
        yield given
    elif hasattr(given, "flush") and hasattr(given, "sync_session"):  # an AsyncSession
        if getattr(given, "autoflush", True):
            wait_for(given.flush())
        yield _raw(wait_for(given.connection()), given)
    elif hasattr(given, "get_raw_connection"):  # an AsyncConnection of SQLAlchemy
        if not given.in_transaction():
            wait_for(given.begin())
        yield _raw(given, given)
    elif hasattr(given, "sync_engine") and hasattr(given, "begin"):  # an AsyncEngine
        begun = given.begin()
        connection = wait_for(begun.__aenter__())
        try:
            yield _raw(connection, given)
        except BaseException as error:
            wait_for(begun.__aexit__(type(error), error, error.__traceback__))
            raise
        wait_for(begun.__aexit__(None, None, None))
    else:
        raise refused(given, given, psycopg.AsyncConnection)


def _raw(connection: Any, given: object) -> psycopg.AsyncConnection[Any]:
    raw = getattr(wait_for(connection.get_raw_connection()), "driver_connection", None)
    if isinstance(raw, psycopg.AsyncConnection):
        return raw
    raise refused(raw, given, psycopg.AsyncConnection)
