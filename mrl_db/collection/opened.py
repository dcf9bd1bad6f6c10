"""An open collection: its description, its engines, and how arguments become requests."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db import door
from mrl_db.engines.engine import Engine, TunableEngine
from mrl_db.engines.exact import ExactEngine
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.engines.sql import SqlEngine
from mrl_db.faces import frames
from mrl_db.faces.frames import Fields
from mrl_db.hits import Hits
from mrl_db.learn.transform import transform_from_bytes
from mrl_db.model.errors import (
    CollectionNotFoundError,
    ConflictError,
    DatabaseError,
    DtypeError,
    FilterError,
    MrlDbError,
    NotLoadedError,
    PlanError,
    RecoveryConflictError,
    ShapeError,
    ValueRangeError,
)
from mrl_db.model.filters import Raw
from mrl_db.model.plan import Plan, with_k
from mrl_db.model.promise import Promise
from mrl_db.postgres import batches, catalog, rows
from mrl_db.postgres.borrowed import Borrowed, Twins
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.link import past_conflicts
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, OwnSession, Session
from mrl_db.recall import promises
from mrl_db.recall.explorer import Measured
from mrl_db.recall.query_log import QueryLog
from mrl_db.recall.source import Server, Source

EngineChoice = Literal["auto", "sql", "native"]
Where = Mapping[str, Any] | Raw
Embed = Callable[[list[str]], ArrayLike]
"""Makes vectors (n, dims) of n texts."""
T = TypeVar("T")
_CHOICES = ("auto", "sql", "native")


@dataclass(frozen=True, slots=True)
class Embedding:
    """The caller's functions, for what is stored and for what is searched for."""

    of_rows: Embed
    of_queries: Embed


class Opened:
    """The state of a collection object; all of it."""

    def __init__(self, session: OwnSession, info: CollectionInfo, log: QueryLog) -> None:
        self.own = session
        self.session: Session = session
        self.info = info
        self.twins: Twins = weakref.WeakKeyDictionary()
        self.whole: Opened | None = None
        self.engines: dict[str, TunableEngine] = {}
        self.describe(info)
        self.log = log
        self.learn(session)
        self.tried: tuple[Measured, ...] = ()
        self.embedding: Embedding | None = None

    def describe(self, info: CollectionInfo | None = None) -> None:
        """Takes the collection as it is described now; None: as the catalogue describes it."""
        self.info = catalog.describe(self.session, self.info.name) if info is None else info
        self.sql = SqlEngine(self.session, self.info)
        self.engines["sql"] = self.sql
        self.exact = ExactEngine(self.session, self.info)

    def is_renewed(self, before: CollectionInfo, connection: object | None = None) -> bool:
        """Takes the collection as it is now; returns whether it was described otherwise before.

        Args:
            before: The description.
            connection: The caller's, which sees more than others do: they may all be in use.

        Raises:
            CollectionNotFoundError: It is gone, or has lost its keys or vectors.
        """
        try:
            session = self.on(connection).session
            info = catalog.describe(session, self.info.name)
            if info != self.info:
                self.describe(info)
                self.learn(session)
        except MrlDbError as error:  # what went wrong before says more
            if isinstance(error, CollectionNotFoundError) and connection is None:
                raise
            return False
        return self.info != before

    def learn(self, session: Session) -> None:
        """Reads what the catalogue has besides the description: promises, and the adaptor."""
        self.promises = promises.stored(session, self.info.name)
        adaptor = catalog.adaptor_of(session, self.info)
        self.adaptor = None if adaptor is None else transform_from_bytes(adaptor)

    def on(self, connection: object | None) -> Opened:
        """Returns the collection as a connection of the caller's sees it; None: as it is."""
        if connection is None:
            return self
        inside = copy.copy(self)
        inside.whole = self
        inside.session = Borrowed(self.session, connection, self.twins)
        inside.engines = {"sql": self.sql.on(inside.session)}
        inside.exact = ExactEngine(inside.session, self.info)
        return inside

    @property
    def column_types(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return {name: column.type for name, column in self.info.columns.items()}

    # Engines and plans

    def engine(
        self, choice: str, plan: Plan | None = None, shortlist: int | None = None
    ) -> TunableEngine:
        """Returns the engine that a search is for; raises NotLoadedError."""
        door.checked_choice(choice, "engine", _CHOICES)
        if plan is not None:
            door.checked_plan(plan)
        if choice == "auto":
            loaded = "native" in self.engines and shortlist is None
            choice = "native" if (loaded if plan is None else plan.native) else "sql"
        engine = self.engines.get(choice)
        if engine is None and self.whole is not None:
            raise ValueRangeError(
                'connection= searches in your transaction, whose rows engine="native" does not '
                "have; leave engine= out"
            )
        if engine is None:
            raise NotLoadedError(
                f'collection "{self.info.name}" is not loaded; call load(), or search with '
                'engine="sql"'
            )
        return engine

    def synced(
        self, choice: str, plan: Plan | None = None, shortlist: int | None = None
    ) -> TunableEngine:
        """Returns the engine, once it sees what was committed before this call."""
        engine = self.engine(choice, plan, shortlist)
        engine.sync()
        self.follow_name(engine)
        return engine

    def follow_name(self, engine: Engine) -> None:
        """Takes the table's name from an engine that saw another client rename it."""
        own, its = self.info, engine.info
        if its is not own and not its.is_of(own.schema, own.table):
            self.describe(replace(engine.info, part=None))

    def native(self) -> NativeEngine:
        """Returns the engine over the rows in this process; raises NotLoadedError."""
        engine = self.engine("native")
        assert isinstance(engine, NativeEngine)
        return engine

    def search_plainly(
        self, query: ArrayLike | None, k: int, max_staleness: float | None
    ) -> Hits | None:
        """Returns the hits of one query with no more said about it, where rows are loaded.

        None: `search` is to go its way, or to say what is wrong.
        """
        engine = self.engines.get("native")
        if engine is None or self.adaptor is not None:
            return None
        try:
            hits = engine.search_one(query, k, max_staleness)
        except (CollectionNotFoundError, RecoveryConflictError):  # as_it_is_now
            return None
        if hits is not None:
            self.log.pass_by(query, hits, k)
            if self.promises:
                self.promised(hits, engine)
        return hits

    def plan_of(
        self, engine: Engine, k: int, shortlist: int | None = None, plan: Plan | None = None
    ) -> Plan:
        """Returns the plan that a search for k answers follows; raises PlanError."""
        if plan is None:
            return engine.plan(
                k, None if shortlist is None else door.checked_count(shortlist, "shortlist")
            )
        if shortlist is not None:
            raise PlanError(
                "shortlist= and plan= were both given; the plan says how long its shortlists are"
            )
        engine.check(plan)
        return plan if plan.k == k else with_k(plan, k)

    # Arguments

    def queries(
        self, query: ArrayLike, as_stored: bool = False
    ) -> tuple[NDArray[np.float32], bool]:
        """Returns (n, dims), as they are compared with what is stored, and whether it was one."""
        queries, single = door.checked_queries(query, self.info)
        if self.adaptor is not None and not as_stored:
            queries = self.adaptor.apply(queries)
        return queries, single

    def request(
        self,
        where: Where | None = None,
        columns: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> Request:
        """Returns a filter and columns, checked; for the rows that an engine has, None: for all."""
        node = self.checked(partial(door.checked_filter, where))
        names = self.checked(partial(door.checked_column_names, columns))
        part = None if engine is None else engine.info.part
        info = self.info if part is None else replace(self.info, part=part)
        return Request(info, node, names)

    def checked(self, check: Callable[[CollectionInfo], T]) -> T:
        """Returns what a check of the door gives; another client may have added a column since."""
        try:
            return check(self.info)
        except (FilterError, ValueRangeError):
            before = self.info.columns
            self.describe()
            if self.info.columns == before:
                raise
            return check(self.info)

    def fields(self, id: str | None = None, vector: str | None = None) -> Fields:
        """Returns what is taken of frames, whose columns are named as the table's by default."""
        info = self.info
        return Fields(
            id or info.key,
            vector or info.vector,
            info.key_type,
            info.wire_types,
            info.vectors_required,
        )

    def fields_now(self) -> Fields:
        """The same, as the collection is described now."""
        self.describe()
        return self.fields()

    def batch(self, ids: Any, vectors: Any, columns: Mapping[str, Any]) -> door.Batch:
        """Returns rows, checked, as they are stored; those of a frame come without vectors."""
        if vectors is None and (self.info.vectors_required or has_columns_inside(ids, vectors)):
            if columns:
                raise ShapeError(
                    f"columns {', '.join(columns)} were given without vectors; a frame brings its "
                    "own columns"
                )
            fields = replace(self.fields(), renewed=self.fields_now)
            ids, vectors, columns = frames.whole(ids, fields)
        batch = self.checked(partial(door.checked_rows, ids, vectors, columns))
        if self.adaptor is None:
            return batch
        present = ~np.isnan(batch.vectors[:, 0])
        if present.all():
            return replace(batch, vectors=self.adaptor.apply(batch.vectors))
        vectors = np.full_like(batch.vectors, np.nan)
        vectors[present] = self.adaptor.apply(batch.vectors[present])
        return replace(batch, vectors=vectors)

    def columns_of(self, source: Any) -> tuple[Any, dict[str, Any]]:
        """Returns (ids, {column: values}) of a frame or a list of dicts without vectors."""
        fields = replace(self.fields(), vectors_required=False)
        ids, vectors, columns = frames.whole(source, fields)
        if vectors is not None:
            raise ValueRangeError(
                f"the rows have the column {fields.vector!r}, and update() leaves vectors as they "
                "are; leave it out, or replace whole rows with upsert()"
            )
        return ids, dict(columns)

    def vectors(self, keys: list[Any]) -> tuple[list[Any], NDArray[np.float32]]:
        """Returns the rows with these keys that have a vector: keys, and vectors (n, dims)."""
        present, vectors, _ = rows.get(self.session, self.info, keys, ())
        return present, vectors

    def write(self, batch_id: str | None, write: Callable[[Connection], int]) -> int:
        """Runs a write in a transaction, once for each batch_id; returns its rows."""
        checked = door.checked_batch_id(batch_id)
        try:
            return batches.write_once(self.session, self.info, checked, write)
        finally:  # it may be there, whatever was raised
            for engine in (self.whole or self).engines.values():
                engine.written()

    # Promises

    def source(self) -> Source:
        """Returns where the rows are that recall is measured by."""
        return Server(self.session)

    def stored_promises(self) -> dict[str, Promise]:
        """Returns the promise of each engine as it is stored."""
        return promises.stored(self.session, self.info.name)

    def promise_of(self, engine: Engine) -> Promise | None:
        """Returns the promise that an engine's searches keep; none where it has but a part."""
        promise = self.promises.get(engine.name)
        speaks = promise is not None and promise.parts == engine.parts and engine.info.part is None
        return promise if speaks else None

    def judged(self, promise: Promise) -> Promise:
        """Returns the promise, which says when it no longer speaks of what is there."""
        return promises.judged(self.session, self.request(), promise, self.log)

    def promised(self, hits: Hits, engine: Engine) -> Hits:
        """Returns the hits of an engine's own plan; their trace tells what it promises."""
        promise = self.promise_of(engine)
        return hits if promise is None else hits.promised(partial(self._told, promise))

    def _told(self, promise: Promise) -> str:
        return str(replace(promise, stale=promise.stale or promises.drift_since(promise, self.log)))


def has_columns_inside(ids: Any, vectors: Any) -> bool:
    """Whether rows are given as a frame, or a list of dicts."""
    return vectors is None and (frames.is_frame(ids) or frames.is_rows(ids))


class Face(Protocol):
    """Whatever has an open collection: the functions of this package are methods of it."""

    _opened: Opened


Method = TypeVar("Method", bound=Callable[..., Any])


OUTDATED = (
    CollectionNotFoundError,
    ConflictError,
    DatabaseError,
    DtypeError,
    FilterError,
    ShapeError,
    ValueRangeError,
)
"""What a call may fail by that goes by an outdated description. Nothing was written then."""


def as_it_is_now(method: Method) -> Method:
    """Calls a method again where it failed, and another client has changed the table before.

    Its name or its schema, columns and their types, or the whole collection; and where a standby
    cancelled what it read. Not in a transaction of the caller's, which the first call may have
    ended: there the next call goes by what is there.
    """

    @wraps(method)
    def call(self: Face, /, *args: Any, **kwargs: Any) -> Any:
        before, connection = self._opened.info, kwargs.get("connection")
        once = partial(method, self, *args, **kwargs)
        try:
            return once() if connection is not None else past_conflicts(once)
        except OUTDATED:
            if not self._opened.is_renewed(before, connection) or connection is not None:
                raise
        return once()

    return cast(Method, call)
