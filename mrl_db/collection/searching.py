"""Reading and searching: rows by key, nearest rows, and how a search went."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from mrl_db import clashes, door, door_keys
from mrl_db.collection import refining, replaying, wording
from mrl_db.collection.opened import EngineChoice, Face, Where, as_it_is_now
from mrl_db.hits import Hits, Records, Trace
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.key import id_array
from mrl_db.model.plan import Plan
from mrl_db.postgres import catalog, rows
from mrl_db.postgres.request import Request
from mrl_db.recall import fates

_LOADED = ("auto", "native")  # choices that mean the rows in this process, where they are


@as_it_is_now
def get(
    self: Face,
    ids: Any,
    *,
    columns: Sequence[str] | None = None,
    connection: object | None = None,
) -> Records:
    """Returns the rows with these ids in that order, without those that are not there.

    A row without a vector has NaN for it.

    Args:
        ids: One key, or several.
        columns: Metadata to bring along; None: all.
        connection: As above.
    """
    opened = self._opened.on(connection)
    names = tuple(opened.info.columns)
    if columns is not None:
        names = opened.checked(partial(door.checked_column_names, columns))
    info = opened.info
    keys = door_keys.checked_keys_or_key(ids, info.key_type)
    present, vectors, values = rows.get(opened.session, info, keys, names, every=True)
    ids = id_array(present, info.key_type)
    return Records(ids, vectors, values, opened.info.wire_types, (info.key, info.vector))


@as_it_is_now
def count(self: Face, where: Where | None = None, *, connection: object | None = None) -> int:
    """Returns the number of rows that pass the filter, those without a vector included."""
    opened = self._opened.on(connection)
    return rows.count(opened.session, opened.request(where), every=True)


def search(
    self: Face,
    query: ArrayLike | None = None,
    *,
    k: int = 10,
    where: Where | None = None,
    columns: Sequence[str] = (),
    vectors: bool = False,
    text: str | Sequence[str] | None = None,
    fusion: wording.FusionChoice = "rrf",
    max_distance: float | None = None,
    group_by: str | None = None,
    like: Any = None,
    mmr: float | None = None,
    candidates: int | None = None,
    offset: int = 0,
    shortlist: int | None = None,
    plan: Plan | None = None,
    engine: EngineChoice = "auto",
    threads: int | None = None,
    max_staleness: float | None = None,
    after: str | None = None,
    after_timeout: float = 10.0,
    exact: bool = False,
    as_stored: bool = False,
    connection: object | None = None,
) -> Hits:
    """Returns the k nearest rows, the nearest first, ties by id; fewer only where fewer match.

    Args:
        query: (dims,), giving arrays of shape (k,), or (n, dims), giving (n, k).
        k: Answers.
        where: As above.
        columns: Metadata to bring along.
        vectors: Bring the vectors along, as they are stored: `hits.vectors`.
        text: Words to search the collection's text for as well, or instead of a query; for a batch
            a list of them. PostgreSQL does it, and `hits.scores` orders the hits.
        fusion: How rows by vector and rows by words become one list: "rrf" by reciprocal ranks, or
            two weights, (0.7, 0.3), by scores.
        max_distance: Leave out what is farther, in the values that `hits.distances` has. In a batch
            queries may then have hits of different numbers (`hits.counts`).
        group_by: A column: of the rows with one value of it only the nearest counts, NULL being one
            value. k groups come back whenever there are so many.
        like: A key, or several, instead of a query: rows like this one, without itself.
        mmr: Hits near the query and unlike each other, in the order of maximal marginal relevance:
            1 is nearness alone, 0 variety alone, .5 the usual middle.
        candidates: The nearest hits that mmr chooses from; None: 4 k, at least 20.
        offset: Hits left out before the first: the next page, of an order that ties by id keep.
        shortlist: Rows that the low-dim stage passes on, in PostgreSQL.
        plan: As above.
        engine: As above.
        threads: For a batch in the native engine.
        max_staleness: Seconds that the native engine may be behind; None: as it was loaded.
        after: A `position()` of the primary: a search on a standby waits until that is replayed,
            and sees it, whatever staleness is allowed.
        after_timeout: Seconds that it waits at most.
        exact: The brute-force answer, from the rows in PostgreSQL; no plan is followed.
        as_stored: The query is a vector as `get` returns it, which the collection's adaptor, if
            it has one, is not to change again.
        connection: As above; the search is PostgreSQL's then.

    Raises:
        NotLoadedError: engine="native", and nothing, or not what the plan needs, is loaded.
        NotReplayedError: A standby has not replayed `after` in time.
    """
    if (  # the usual search, whose way is short
        where is None
        and plan is None
        and shortlist is None
        and connection is None
        and columns is not None
        and not columns
        and not vectors
        and not exact
        and text is None
        and after is None
        and max_distance is None
        and group_by is None
        and like is None
        and mmr is None
        and candidates is None
        and offset == 0
        and engine in _LOADED
    ):
        if threads is not None:  # nothing to one query, but it may be wrong
            door.checked_count(threads, "threads")
        hits = self._opened.search_plainly(query, k, max_staleness)
        if hits is not None:
            return hits
    return _search(
        self,
        query,
        k=k,
        where=where,
        columns=columns,
        vectors=vectors,
        text=text,
        fusion=fusion,
        max_distance=max_distance,
        group_by=group_by,
        like=like,
        mmr=mmr,
        candidates=candidates,
        offset=offset,
        shortlist=shortlist,
        plan=plan,
        engine=engine,
        threads=threads,
        max_staleness=max_staleness,
        after=after,
        after_timeout=after_timeout,
        exact=exact,
        as_stored=as_stored,
        connection=connection,
    )


@as_it_is_now
def _search(
    self: Face,
    query: ArrayLike | None,
    *,
    k: int,
    where: Where | None,
    columns: Sequence[str],
    vectors: bool,
    text: str | Sequence[str] | None,
    fusion: wording.FusionChoice,
    max_distance: float | None,
    group_by: str | None,
    like: Any,
    mmr: float | None,
    candidates: int | None,
    offset: int,
    shortlist: int | None,
    plan: Plan | None,
    engine: EngineChoice,
    threads: int | None,
    max_staleness: float | None,
    after: str | None,
    after_timeout: float,
    exact: bool,
    as_stored: bool,
    connection: object | None,
) -> Hits:
    """Searches, whatever was asked for."""
    opened = self._opened.on(connection)
    if after is not None:
        _wait_for(self, after, after_timeout, connection)
    if exact:
        plan = shortlist = None
    if text is not None:
        apart = {
            "like": like,
            "group_by": group_by,
            "max_distance": max_distance,
            "mmr": mmr,
            "candidates": candidates,
        }
        for name, value in apart.items():
            if value is not None:
                raise ValueRangeError(f"{name}= and text= were both given; wanted one of them")
        if engine == "native":
            raise ValueRangeError('PostgreSQL searches for text=; leave engine="native" out')
        return wording.search(
            opened,
            query,
            text,
            k=k,
            offset=refining.checked_offset(offset),
            where=where,
            columns=columns,
            vectors=vectors,
            fusion=fusion,
            shortlist=shortlist,
            plan=plan,
            exact=exact,
            as_stored=as_stored,
        )
    if threads is not None:
        threads = door.checked_count(threads, "threads")
    runner = opened.exact if exact else opened.engine(engine, plan, shortlist)
    if after is not None:
        runner.written()
        if not runner.follows:
            raise ValueRangeError(
                'after= was given, and rows were loaded with max_staleness=float("inf"), which '
                'follow nothing; search with engine="sql", or load() to follow'
            )
    ahead, described = None, opened.info
    if where is not None:
        ahead, described = opened.request(where, columns, runner), opened.info
    runner.sync(None if max_staleness is None else door.checked_staleness(max_staleness), ahead)
    own_plan = plan is None and shortlist is None
    near = group_by is None and like is None and max_distance is None
    usual = near and mmr is None and candidates is None and offset == 0
    opened.follow_name(runner)
    k = door.checked_count(k, "k")
    own = None
    if (query is None) == (like is None):
        raise ShapeError("search() takes a query or like=, one of the two")
    if query is None:
        own = door_keys.checked_keys_or_key(like, opened.info.key_type)
        queries, _ = opened.queries(refining.vectors_of(opened, own), as_stored=True)
        single = door_keys.is_alone(like)
    else:
        queries, single = opened.queries(query, as_stored)
    request = ahead
    if request is None or opened.info is not described:
        request = opened.request(where, columns, runner)
    grouped = (group_by,) if isinstance(group_by, str) else ()
    clashes.check_beside_hits((*request.columns, *grouped), single=single, vectors=bool(vectors))

    def run(request: Request, rows: int) -> Hits:
        return runner.search(
            request,
            queries,
            opened.plan_of(runner, rows, shortlist, plan),
            threads=threads,
        )

    if vectors or not usual:
        skipped = refining.checked_offset(offset)
        asked = refining.checked(
            opened, k, vectors, max_distance, group_by, own, mmr, candidates, skipped
        )
        hits = refining.search(opened, request, queries, k, run, asked, exact=exact)
    else:
        hits = run(request, k)
    hits.typed(request.info.wire_types)
    if own_plan and group_by is None and like is None:
        opened.promised(hits, runner)
    if where is None and usual:
        opened.log.note(queries, hits.distances, k)
    return hits[0] if single else hits


def _wait_for(self: Face, position: str, timeout: float, connection: object | None) -> None:
    if connection is not None:
        raise ValueRangeError(
            "after= and connection= were both given; a transaction of yours may have begun before "
            "that was replayed: wait_for() before you begin it"
        )
    replaying.wait_for(self, position, timeout)


@as_it_is_now
def explain(
    self: Face,
    query: ArrayLike,
    *,
    want: Any = None,
    k: int = 10,
    where: Where | None = None,
    shortlist: int | None = None,
    plan: Plan | None = None,
    engine: EngineChoice = "auto",
    as_stored: bool = False,
) -> Trace:
    """Returns how one search goes: rows, bytes and time of each stage, and the fate of rows.

    Args:
        query: (dims,).
        want: Ids. `trace.fates` says of each whether it was found, else the stage that lost it,
            its rank there, and the least keep (or, where the walk did not meet it, effort) that
            would have saved it.
        k: As for `search`, and `where`, `shortlist`, `plan`, `engine`, `as_stored` likewise.
    """
    opened = self._opened
    queries, single = opened.queries(query, as_stored)
    if not single:
        raise ShapeError(
            f"query has shape {queries.shape}, explain() takes one query: ({opened.info.dims},)"
        )
    runner = opened.synced(engine, plan, shortlist)
    used = opened.plan_of(runner, door.checked_count(k, "k"), shortlist, plan)
    request = opened.request(where, engine=runner)
    keys = () if want is None else door_keys.checked_keys_or_key(want, opened.info.key_type)
    return fates.explain(runner, opened.source(), request, queries[0], used, keys)


def set_plan(self: Face, plan: Plan | None) -> None:
    """Stores a plan for the SQL engine, here and for `mrl.search_<collection>`.

    Args:
        plan: None returns to the default.
    """
    opened = self._opened
    if plan is not None:
        opened.engines["sql"].check(door.checked_plan(plan))
    catalog.set_plan(opened.session, opened.info.name, plan)
    opened.promises.pop("sql", None)
    opened.describe()
