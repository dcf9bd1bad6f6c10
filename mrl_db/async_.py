"""The same database for asyncio: the methods of `Database` and `Collection`, to be awaited.

None is written twice. Each is the plain one, run inside the caller's task (`mrl_db.tasks`), or,
where it takes long, by a thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from mrl_db import tasks
from mrl_db.collection import Collection, promising
from mrl_db.collection.rows import Scan
from mrl_db.database import Database, open_database
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.hits import Records
from mrl_db.learn.transform import Transform
from mrl_db.model.metric import Metric
from mrl_db.postgres.lines import TaskSession
from mrl_db.recall.explorer import Measured

P = ParamSpec("P")
R = TypeVar("R")


class AsyncScan:
    """Rows in the order of their keys, read when they are asked for: `async for page in scan`.

    Its rows at once are awaited: `await scan.records()`, of which frames are made.
    """

    def __init__(self, make: Callable[[], Scan]) -> None:
        """Not for callers: use `AsyncCollection.scan`."""
        self._make = make

    async def __aiter__(self) -> AsyncIterator[Records]:
        pages = await tasks.run(lambda: iter(self._make()))
        while (page := await tasks.run(next, pages, None)) is not None:
            yield page

    async def records(self) -> Records:
        """Returns all rows at once."""
        return await tasks.run(lambda: self._make().records())

    async def to_list(self) -> list[dict[str, Any]]:
        """Returns a dict for each row."""
        return (await self.records()).to_list()


def awaited(
    method: Callable[Concatenate[Collection, P], R],
) -> Callable[Concatenate[AsyncCollection, P], Coroutine[Any, Any, R]]:
    """Returns a method of collections as a coroutine, whose waits are the task's."""

    @functools.wraps(method)
    async def call(self: AsyncCollection, /, *given: P.args, **named: P.kwargs) -> R:
        return await tasks.run(method, self._collection, *given, **named)

    return call


def by_thread(
    method: Callable[Concatenate[Collection, P], R],
) -> Callable[Concatenate[AsyncCollection, P], Coroutine[Any, Any, R]]:
    """Returns a method of collections that takes long as a coroutine; a thread runs it."""

    @functools.wraps(method)
    async def call(self: AsyncCollection, /, *given: P.args, **named: P.kwargs) -> R:
        if named.get("connection") is not None:  # the event loop's, which no thread may use
            return await tasks.run(method, self._collection, *given, **named)
        work = functools.partial(method, self._collection, *given, **named)
        return await tasks.in_thread(work, self._session.cancel)

    return call


def scanning(
    method: Callable[Concatenate[Collection, P], Scan],
) -> Callable[Concatenate[AsyncCollection, P], AsyncScan]:
    """Returns a method that gives a scan as one that gives an `AsyncScan`."""

    @functools.wraps(method)
    def call(self: AsyncCollection, /, *given: P.args, **named: P.kwargs) -> AsyncScan:
        return AsyncScan(functools.partial(method, self._collection, *given, **named))

    return call


class AsyncCollection:
    """A collection (`mrl_db.Collection`) whose methods are awaited; they are the same ones.

    Cancelling a task cancels its statement in the server; what was written by it is rolled back.
    What takes long (`ingest`, `load`, `tune`, `explain` and others) runs in a thread of the event
    loop's executor; cancelled, it ends with its statement, or at its next one.
    """

    def __init__(self, collection: Collection, session: TaskSession) -> None:
        """Not for callers: use `AsyncDatabase.open`."""
        self._collection = collection
        self._session = session

    def __repr__(self) -> str:
        return f"Async{self._collection!r}"

    @property
    def plain(self) -> Collection:
        """The collection itself, for functions in threads; it blocks an event loop."""
        return self._collection

    # What it is

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._collection.name

    @property
    def dims(self) -> int:
        """The full dims of its vectors."""
        return self._collection.dims

    @property
    def nesting_dims(self) -> tuple[int, ...]:
        """The legal prefix widths, rising; the last is the full dims."""
        return self._collection.nesting_dims

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._collection.metric

    @property
    def columns(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return self._collection.columns

    @property
    def loaded(self) -> NativeEngine | None:
        """The engine over the rows in this process, or None when nothing is loaded."""
        return self._collection.loaded

    @property
    def tried(self) -> tuple[Measured, ...]:
        """The plans that the last `tune()` of this object measured, with their recall and time."""
        return self._collection.tried

    # What it does

    add = awaited(Collection.add)
    upsert = awaited(Collection.upsert)
    update = awaited(Collection.update)
    delete = awaited(Collection.delete)
    get = awaited(Collection.get)
    count = awaited(Collection.count)
    search = awaited(Collection.search)
    position = awaited(Collection.position)
    wait_for = awaited(Collection.wait_for)
    add_texts = awaited(Collection.add_texts)
    search_text = awaited(Collection.search_text)
    scan = scanning(Collection.scan)
    set_plan = awaited(Collection.set_plan)
    promise = awaited(promising.promise)
    log_health = awaited(Collection.log_health)
    classifier = awaited(Collection.classifier)
    save_classifier = awaited(Collection.save_classifier)

    ingest = by_thread(Collection.ingest)
    create_index = by_thread(Collection.create_index)
    explain = by_thread(Collection.explain)
    load = by_thread(Collection.load)
    unload = by_thread(Collection.unload)
    refresh = by_thread(Collection.refresh)
    tune = by_thread(Collection.tune)
    recall = by_thread(Collection.recall)
    report = by_thread(Collection.report)
    classify = by_thread(Collection.classify)

    async def adapt(self, name: str, adaptor: Transform, **named: Any) -> AsyncCollection:
        """Copies this collection into a new one; see `Collection.adapt`."""
        work = functools.partial(self._collection.adapt, name, adaptor, **named)
        made = await tasks.in_thread(work, self._session.cancel)
        return AsyncCollection(made, self._session)


def _opening(
    method: Callable[Concatenate[Database, P], Collection],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, AsyncCollection]]:
    @functools.wraps(method)
    async def call(self: AsyncDatabase, /, *given: P.args, **named: P.kwargs) -> AsyncCollection:
        made = await tasks.run(method, self._database, *given, **named)
        return AsyncCollection(made, self._session)

    return call


def _of_database(
    method: Callable[Concatenate[Database, P], R],
) -> Callable[Concatenate[AsyncDatabase, P], Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def call(self: AsyncDatabase, /, *given: P.args, **named: P.kwargs) -> R:
        return await tasks.run(method, self._database, *given, **named)

    return call


class AsyncDatabase:
    """A database (`mrl_db.Database`) whose methods are awaited; close it, or use `async with`.

    It belongs to the event loop in which it was connected.
    """

    def __init__(self, database: Database, session: TaskSession) -> None:
        """Not for callers: use `mrl_db.connect_async`."""
        self._database = database
        self._session = session

    def __repr__(self) -> str:
        return f"Async{self._database!r}"

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def plain(self) -> Database:
        """The database itself, for functions in threads; it blocks an event loop."""
        return self._database

    @property
    def dsn(self) -> str:
        """The connection string, for other clients. It may hold a password: do not log it."""
        return self._database.dsn

    create_collection = _opening(Database.create_collection)
    attach = _opening(Database.attach)
    open = _opening(Database.open)
    drop = _of_database(Database.drop)
    list = _of_database(Database.list)

    async def close(self) -> None:
        """Closes the connections; an embedded server stops with its last user."""
        try:
            await self._session.shut()
        finally:
            await asyncio.to_thread(self._database.close)


async def connect_async(
    dsn: str | None = None,
    *,
    home: Path | str | None = None,
    postgres_version: int | None = None,
    settings: Mapping[str, str] | None = None,
    pool_size: int = 4,
    connect_timeout: float = 10.0,
    statement_timeout: float | None = None,
    prepare: bool = True,
    query_log: bool = True,
) -> AsyncDatabase:
    """Connects as `connect` does, for tasks of the running event loop.

    Args:
        dsn: As there.
        home: As there.
        postgres_version: As there.
        settings: As there.
        pool_size: Connections at most: for tasks, and as many again for what threads do.
        connect_timeout: As there.
        statement_timeout: As there.
        prepare: As there.
        query_log: As there.

    Raises:
        ConnectError, ServerError, MigrationError: No message shows the connection string.
    """
    database, session = await asyncio.to_thread(
        open_database,
        TaskSession,
        dsn,
        home=home,
        postgres_version=postgres_version,
        settings=settings,
        pool_size=pool_size,
        connect_timeout=connect_timeout,
        statement_timeout=statement_timeout,
        prepare=prepare,
        query_log=query_log,
    )
    try:
        await session.open()
    except BaseException:
        await asyncio.to_thread(database.close)
        raise
    return AsyncDatabase(database, session)
