"""Promises as the catalogue keeps them, and whether they still speak of what is there."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from mrl_db.model.errors import MrlDbError, PrivilegeError
from mrl_db.model.promise import Promise, drift_of_queries, drift_of_rows
from mrl_db.postgres import catalog, rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.source import Source


def keep(source: Source, collection: str, promise: Promise) -> Promise:
    """Stores a promise and its plan, which searches follow then; returns it with its date."""
    return replace(promise, made_at=source.keep(collection, promise))


def stored(session: Session, collection: str) -> dict[str, Promise]:
    """Returns the promise of each engine; none for a role that may search and not see them."""
    try:
        plans = catalog.stored_plans(session, collection)
    except PrivilegeError:
        return {}
    return {
        engine: Promise.from_json(engine, plan, promise, made_at)
        for engine, (plan, promise, made_at) in plans.items()
        if promise is not None and made_at is not None
    }


def judged(session: Session, request: Request, promise: Promise, log: QueryLog) -> Promise:
    """Returns the promise with `stale` saying why it no longer speaks of what is there, or None.

    Args:
        session: Where the rows are: they are counted, and some are looked at.
        request: The collection, unfiltered.
        promise: As it was stored.
        log: The queries since.
    """
    rows_in_all = rows.count(session, request)
    if promise.as_of is None:
        newer = max(0.0, 1.0 - promise.rows / max(rows_in_all, 1))
    else:
        newer = rows.share_newer(session, request.info, promise.as_of, rows_in_all)
    stale = drift_of_rows(promise, rows_in_all, newer)
    if promise.as_of is None and stale is None:
        with contextlib.suppress(MrlDbError):  # a reader that may not write; another one will
            catalog.anchor_promise(session, request.info.name, promise.engine)
    return replace(promise, stale=stale or drift_since(promise, log))


def drift_since(promise: Promise, log: QueryLog) -> str | None:
    """Says when the queries since lie elsewhere than those of the evidence; asks no server."""
    return drift_of_queries(promise.distances, promise.recall.queries, log.distances(promise.k))
