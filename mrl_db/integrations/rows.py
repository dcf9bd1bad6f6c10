"""What the stores of all frameworks share: whose rows they are, and similarity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

import mrl_db
from mrl_db.collection import Collection
from mrl_db.database import Database, connect
from mrl_db.model.metric import Metric

if TYPE_CHECKING:
    from mrl_db.async_ import AsyncCollection, AsyncDatabase

P = ParamSpec("P")
R = TypeVar("R")


class Rows:
    """A collection, used by threads or by the tasks of the event loop that opened it.

    What a store does is written once, as functions over the plain collection. A task of that event
    loop runs them itself, and waits where they wait; for a collection that no event loop opened a
    thread runs them.
    """

    def __init__(
        self,
        collection: Collection | AsyncCollection,
        owned: Database | AsyncDatabase | None = None,
    ) -> None:
        """Takes a collection, and the database that is to be closed with it, if any."""
        self._awaited = not isinstance(collection, Collection)
        self.collection = collection if isinstance(collection, Collection) else collection.plain
        self._owned = owned

    async def run(self, function: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
        """Returns what a function over the plain collection gives, without blocking the loop."""
        if not self._awaited:
            return await asyncio.to_thread(function, *given, **named)
        from mrl_db import tasks

        return await tasks.run(function, *given, **named)

    def close(self) -> None:
        """Closes the database, if the store opened it."""
        owned, self._owned = self._owned, None
        if owned is not None:
            owned.close() if isinstance(owned, Database) else owned.plain.close()

    async def aclose(self) -> None:
        """Closes the database, if the store opened it."""
        owned, self._owned = self._owned, None
        if isinstance(owned, Database):
            await asyncio.to_thread(owned.close)
        elif owned is not None:
            await owned.close()


def opened(db: Database | str | None, name: str, definition: Mapping[str, Any]) -> Rows:
    """Returns the rows of a collection, which is created where there is none of this name.

    Args:
        db: A database; or a connection string, or None for the embedded server, to which the store
            then has connections of its own.
        name: Of the collection.
        definition: What `Database.create_collection` takes.
    """
    if isinstance(db, Database):
        return Rows(db.create_collection(name, if_exists="open", **definition))
    own = connect(db)
    try:
        return Rows(own.create_collection(name, if_exists="open", **definition), own)
    except BaseException:
        own.close()
        raise


async def opened_in_task(
    db: AsyncDatabase | str | None, name: str, definition: Mapping[str, Any]
) -> Rows:
    """Returns the same for tasks of the running event loop."""
    if db is not None and not isinstance(db, str):
        return Rows(await db.create_collection(name, if_exists="open", **definition))
    own = await mrl_db.connect_async(db)
    try:
        return Rows(await own.create_collection(name, if_exists="open", **definition), own)
    except BaseException:
        await own.close()
        raise


def similarities(distances: NDArray[np.float64], metric: Metric) -> list[float]:
    """Returns a number for each distance that is greater where rows are more alike.

    Cosine and inner product are what their names say; an L2 distance d is 1 / (1 + d).
    """
    match metric:
        case Metric.cosine:
            similar = 1.0 - distances
        case Metric.inner_product:
            similar = -distances
        case Metric.l2:
            similar = 1.0 / (1.0 + distances)
    listed: list[float] = similar.tolist()
    return listed
