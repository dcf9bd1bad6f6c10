"""Parts in this process: several servers, or one table in several parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mrl_db import _kernels, door
from mrl_db.collection import Collection
from mrl_db.database import Database, connect
from mrl_db.model.errors import ConnectError, ShapeError
from mrl_db.parts.crew import Crew, unavailable
from mrl_db.parts.opened import Holding, check_alike, check_apart
from mrl_db.parts.part import OpenedPart
from mrl_db.parts.parted import PartedCollection
from mrl_db.parts.together import Together
from mrl_db.recall.query_log import QueryLog


def open_servers(
    servers: Sequence[str | Database],
    name: str,
    *,
    load: bool = False,
    timeout: float | None = 60.0,
    query_log: bool = True,
    connect_timeout: float = 10.0,
    **options: Any,
) -> PartedCollection:
    """Opens a collection whose rows are on several servers.

    Each has the collection, made in the same way, with the rows whose keys have their home there
    (`home_of`): the list must have the same servers in the same order each time.

    Args:
        servers: Connection strings, or open databases, which stay open.
        name: Of the collection, on every server.
        load: Whether each server's rows are loaded into this process; else PostgreSQL searches.
        timeout: Seconds that a search may take; None: any.
        query_log: As for `mrl_db.connect`.
        connect_timeout: As for `mrl_db.connect`.
        **options: Of `Collection.load`.

    Raises:
        ShapeError: The collection is another one on one of the servers, or two are one.
        PartUnavailableError: A server cannot be reached.
    """
    if isinstance(servers, (str, Database)) or not servers:
        raise ShapeError(f"servers is {servers!r:.60}, wanted a list of them")
    timeout = None if timeout is None else door.checked_seconds(timeout, "timeout")
    own: list[Database] = []
    collections: list[Collection] = []
    try:
        for number, server in enumerate(servers):
            try:
                if isinstance(server, Database):
                    database = server
                else:
                    database = connect(server, query_log=query_log, connect_timeout=connect_timeout)
                    own.append(database)
                collections.append(database.open(name))
            except ConnectError as error:
                raise unavailable([(f"server {number}", number, str(error))]) from None
        opened = [collection._opened for collection in collections]
        check_apart(opened)
        check_alike(opened)
        crew = Crew(
            [
                OpenedPart(f"server {number} ({each.own.where})", each, collection.unload)
                for number, (each, collection) in enumerate(zip(opened, collections, strict=True))
            ]
        )
        holding = Holding(opened, crew, timeout=timeout)
        if load:
            holding.load(options)
        log = QueryLog() if query_log else QueryLog(keep=0)
        return PartedCollection(holding, log, lambda: _close(own))
    except BaseException:
        for collection in collections:
            collection.unload()
        _close(own)
        raise


def open_threads(
    server: str | Database,
    name: str,
    *,
    parts: int,
    timeout: float | None = None,
    **options: Any,
) -> PartedCollection:
    """Loads one table into this process in several parts, each by `load(part=…)`.

    A part is built by itself, so that the peak of memory is that of the parts so far and of one
    that is built: a graph over a quarter of the rows takes a quarter of what building takes.

    Args:
        server: A connection string, or an open database, which stays open.
        name: Of the collection.
        parts: How many.
        timeout: Seconds that a search may take; None: any, as the database has its own limits, and
            a search that waits for no clock is a thread's change sooner.
        **options: Of `Collection.load`; `threads` are those of one part, by default all cores
            divided by the parts.
    """
    parts = door.checked_count(parts, "parts", door.MOST_PARTS)
    timeout = None if timeout is None else door.checked_seconds(timeout, "timeout")
    options.setdefault("threads", max(1, _kernels.available_threads() // parts))
    database = server if isinstance(server, Database) else connect(server)
    crew: Crew | None = None
    try:
        head = database.open(name)
        opened = [database.open(name) for _ in range(parts)]
        own = [
            OpenedPart(f"part {n} of {parts}", each._opened, each.unload, (n, parts))
            for n, each in enumerate(opened)
        ]
        crew = Crew(own)
        holding = Holding([head._opened], crew, timeout=timeout, together=Together(own))
        holding.load(options)
        close = None if isinstance(server, Database) else database.close
        return PartedCollection(holding, head._opened.log, close)
    except BaseException:
        if crew is not None:
            crew.close()
        if not isinstance(server, Database):
            database.close()
        raise


def _close(databases: Sequence[Database]) -> None:
    for database in databases:
        database.close()
