"""Whose connection it is: psycopg's, SQLAlchemy's or Django's, as the caller has it.

None of them is imported here: an object of theirs is known by what it can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from mrl_db.model.errors import DtypeError

_PLAIN = "a Session, Connection or Engine"


@contextmanager
def driver_connection(given: Any) -> Iterator[psycopg.Connection[Any]]:
    """Lends psycopg's connection of what the caller gave, inside the caller's transaction.

    Args:
        given: A `psycopg.Connection`; a Session, Connection or Engine of SQLAlchemy 2, whose
            pending changes are flushed, or which commits as `Engine.begin()` does; or Django's
            `django.db.connection`.

    Raises:
        DtypeError: It is none of these, or of another driver.
    """
    if isinstance(given, psycopg.Connection):
        yield given
    elif hasattr(given, "ensure_connection"):  # Django: connected when it is first used
        given.ensure_connection()
        yield _checked(given.connection, given)
    elif hasattr(given, "flush") and hasattr(given, "connection"):  # SQLAlchemy's Session
        if getattr(given, "autoflush", True):
            given.flush()
        yield _driver(given.connection(), given)
    elif hasattr(given, "in_transaction") and hasattr(given, "connection"):  # its Connection
        if not given.in_transaction():
            given.begin()  # else its commit() would do nothing
        yield _driver(given, given)
    elif hasattr(given, "raw_connection") and hasattr(given, "begin"):  # its Engine
        with given.begin() as connection:
            yield _driver(connection, given)
    else:
        yield _checked(given, given)


def _driver(connection: Any, given: object) -> psycopg.Connection[Any]:
    return _checked(getattr(connection.connection, "driver_connection", None), given)


def _checked(connection: object, given: object) -> psycopg.Connection[Any]:
    if isinstance(connection, psycopg.Connection):
        return connection
    raise refused(connection, given, psycopg.Connection)


def refused(connection: object, given: object, wanted: type) -> DtypeError:
    """Returns the error that says what was given, over which driver, and what is taken."""
    kind = type(given)
    over = "" if connection is given else f" over {type(connection).__module__}"
    asynchronous = wanted is psycopg.AsyncConnection
    theirs = "an AsyncSession, AsyncConnection or AsyncEngine" if asynchronous else _PLAIN
    django = "" if asynchronous else ", or django.db.connection"
    return DtypeError(
        f"connection is a {kind.__module__}.{kind.__name__}{over}; wanted a "
        f"psycopg.{wanted.__name__} (psycopg 3), {theirs} of SQLAlchemy over "
        f"postgresql+psycopg://{django}"
    )
