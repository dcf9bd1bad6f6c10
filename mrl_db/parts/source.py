"""Several servers as one source of rows and of exact answers (`mrl_db.recall.source`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrl_db.collection.opened import Opened
from mrl_db.hits import Hits
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise
from mrl_db.parts.engine import PartedEngine
from mrl_db.postgres.request import Request
from mrl_db.recall.source import Server

T = TypeVar("T")
OnServers = Callable[[Callable[[Opened], T]], list[T]]


class Servers:
    """Keeps `mrl_db.recall.source.Source` over a collection on several servers."""

    def __init__(self, servers: Sequence[Opened], on_servers: Any, exact: PartedEngine) -> None:
        """Asks nobody yet.

        Args:
            servers: The collection on each.
            on_servers: Calls a function with each of them, all at once; returns what they give.
            exact: Brute force over all of them.
        """
        self._servers, self._on_servers, self._exact = servers, on_servers, exact

    def count(self, request: Request) -> int:
        """See `Source.count`."""
        return sum(self._counts(request))

    def draw(self, request: Request, n: int, seed: int) -> tuple[list[Any], NDArray[np.float32]]:
        """See `Source.draw`; from each server as many as chance would take of its rows."""
        counts = self._counts(request)
        rng = np.random.default_rng(seed)
        shares = rng.multivariate_hypergeometric(counts, min(n, sum(counts)))
        share_of = dict(zip(map(id, self._servers), shares.tolist(), strict=True))

        def drawn(server: Opened) -> tuple[list[Any], NDArray[np.float32]]:
            return Server(server.session).draw(of(server, request), share_of[id(server)], seed)

        keys, vectors = zip(*self._on_servers(drawn), strict=True)
        order = rng.permutation(sum(map(len, keys)))
        every = [key for own in keys for key in own]
        return [every[place] for place in order], np.concatenate(vectors)[order]

    def present(self, request: Request, keys: list[Any]) -> set[Any]:
        """See `Source.present`."""
        there: list[set[Any]] = self._on_servers(
            lambda server: Server(server.session).present(of(server, request), keys)
        )
        return set().union(*there)

    def exact(
        self,
        request: Request,
        queries: NDArray[np.float32],
        k: int,
        hidden: list[Any] | None = None,
    ) -> Hits:
        """See `Source.exact`."""
        plan: Plan = self._exact.plan(k)
        return self._exact.search(request, queries, plan, hidden=hidden)

    def prefix_ranks(
        self,
        request: Request,
        queries: NDArray[np.float32],
        dims: int,
        ids: NDArray[Any],
        most: int,
        hidden: tuple[Any, ...] | None,
    ) -> NDArray[np.int64]:
        """See `Source.prefix_ranks`: each row's rank on its own server, whose shortlist it is in.

        A server that has not a row gives it the last rank; one that has the hidden row is told by
        that row's own rank, which is the first.
        """
        own = ids
        if hidden is not None:
            column = np.empty((len(ids), 1), dtype=ids.dtype)
            column[:, 0] = hidden
            own = np.concatenate([ids, column], axis=1)

        def ranks(server: Opened) -> NDArray[np.int64]:
            of_all: NDArray[np.int64] = server.exact.prefix_ranks(
                of(server, request), queries, dims, own, most + (hidden is not None)
            )
            if hidden is None:
                return of_all
            beside = (of_all[:, -1:] <= most).astype(np.int64)
            return np.asarray(np.minimum(of_all[:, :-1] - beside, most), dtype=np.int64)

        return np.asarray(np.min(self._on_servers(ranks), axis=0), dtype=np.int64)

    def keep(self, collection: str, promise: Promise) -> datetime:
        """See `Source.keep`; every server has it, with its own rows, and one may be behind."""

        def keep(server: Opened) -> datetime:
            rows = Server(server.session).count(server.request())
            return Server(server.session).keep(collection, replace(promise, rows=rows))

        made: list[datetime] = self._on_servers(keep)
        return max(made)

    def _counts(self, request: Request) -> list[int]:
        counts: list[int] = self._on_servers(
            lambda server: Server(server.session).count(of(server, request))
        )
        return counts


def of(server: Opened, request: Request) -> Request:
    """Returns a request as a server's own description of the collection has it."""
    return replace(request, info=server.info)
