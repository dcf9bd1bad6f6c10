"""Where the rows of a collection are, and what the exact answers are that recall is measured by.

Mostly that is one database. A collection on several servers (`mrl_db.parts`) is another source:
tuner, samples and reports know no more of either than this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.engines.exact import ExactEngine
from mrl_db.hits import Hits
from mrl_db.model.promise import Promise
from mrl_db.postgres import catalog, rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session


class Source(Protocol):
    """What is asked of the rows, wherever they are."""

    def count(self, request: Request) -> int:
        """Returns how many rows with a vector pass the filter."""
        ...

    def draw(self, request: Request, n: int, seed: int) -> tuple[list[Any], NDArray[np.float32]]:
        """Returns keys and vectors of n rows that pass the filter, drawn at random, or of all."""
        ...

    def present(self, request: Request, keys: list[Any]) -> set[Any]:
        """Returns those of the keys whose rows pass the filter."""
        ...

    def exact(
        self,
        request: Request,
        queries: NDArray[np.float32],
        k: int,
        hidden: list[Any] | None = None,
    ) -> Hits:
        """Returns the k exact answers of each query, without one key each where they are hidden."""
        ...

    def prefix_ranks(
        self,
        request: Request,
        queries: NDArray[np.float32],
        dims: int,
        ids: NDArray[Any],
        most: int,
        hidden: tuple[Any, ...] | None,
    ) -> NDArray[np.int64]:
        """Returns how many rows have a prefix nearer to the query's than each of these, (n, k).

        `most` where they are as many or more; a hidden row is none of them.
        """
        ...

    def keep(self, collection: str, promise: Promise) -> datetime:
        """Stores a promise and its plan; returns when."""
        ...


class Server:
    """One database."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def count(self, request: Request) -> int:
        """See `Source.count`."""
        return rows.count(self._session, request)

    def draw(self, request: Request, n: int, seed: int) -> tuple[list[Any], NDArray[np.float32]]:
        """See `Source.draw`."""
        drawn = rows.sample_keys(self._session, request, n, seed)
        keys, vectors, _ = rows.get(self._session, request.info, drawn, ())
        return keys, vectors

    def present(self, request: Request, keys: list[Any]) -> set[Any]:
        """See `Source.present`."""
        return rows.present(self._session, request, keys)

    def exact(
        self,
        request: Request,
        queries: NDArray[np.float32],
        k: int,
        hidden: list[Any] | None = None,
    ) -> Hits:
        """See `Source.exact`."""
        engine = ExactEngine(self._session, request.info)
        return engine.search(request, queries, engine.plan(k), hidden=hidden)

    def prefix_ranks(
        self,
        request: Request,
        queries: NDArray[np.float32],
        dims: int,
        ids: NDArray[Any],
        most: int,
        hidden: tuple[Any, ...] | None,
    ) -> NDArray[np.int64]:
        """See `Source.prefix_ranks`."""
        # A row as a query is the nearest to itself; where it is not, a rank is one too good.
        own = 0 if hidden is None else 1
        engine = ExactEngine(self._session, request.info)
        return engine.prefix_ranks(request, queries, dims, ids, most + own) - own

    def keep(self, collection: str, promise: Promise) -> datetime:
        """See `Source.keep`."""
        return catalog.keep_promise(
            self._session, collection, promise.engine, promise.plan, promise.to_json()
        )
