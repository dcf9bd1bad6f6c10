"""A collection: a table of embeddings that is written to and searched.

Its methods are the functions of this package, grouped by what they do. Each goes by the door
(`mrl_db.door`) to an engine or to the rows, and gives back hits, records or a promise. What they
share is `Opened`, the state of a collection object.
"""

from __future__ import annotations

from typing import Any

from mrl_db.collection import (
    classifying,
    embedding,
    loading,
    promising,
    replaying,
    rows,
    searching,
    writing,
)
from mrl_db.collection.opened import Embedding, Opened
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.faces.progress import Progress
from mrl_db.hits import Records
from mrl_db.learn.transform import Transform
from mrl_db.lifetime import let_out_at_exit
from mrl_db.model import html, key
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan
from mrl_db.model.promise import Promise
from mrl_db.postgres import catalog
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import OwnSession
from mrl_db.recall.explorer import Measured
from mrl_db.recall.query_log import QueryLog


@let_out_at_exit
class Collection:
    """A table of embeddings with a key, made by `Database.create_collection` or `attach`.

    Every method sees the database as it is: a row committed by any client is found by the next
    search, in PostgreSQL or, after `load()`, in this process.

    Several methods take the same arguments:

    - where: A filter over metadata columns (`mrl_db.model.filters`).
    - engine: "sql" in PostgreSQL; "native" over the rows that `load()` brought here; "auto" the one
      that the plan is for: native where rows are loaded, and no plan or shortlist says otherwise.
    - plan: The stages of a search, instead of the stored, loaded or default ones.
    - progress: True for a bar on standard error, or a function called with (done, all or None).
    - batch_id: A name for a write, under which it is committed once: after a CommitUncertain the
      same call with the same batch_id writes unless that was written.
    - connection: A connection of yours, of psycopg 3, SQLAlchemy or Django (docs/connections.md):
      the call is part of its transaction, sees what that wrote, and commits nothing.
    """

    def __init__(self, session: OwnSession, info: CollectionInfo, log: QueryLog) -> None:
        """Not for callers: use `Database.open`."""
        self._opened = Opened(session, info, log)

    def __repr__(self) -> str:
        return (
            f"Collection({self.name!r}, dims={self.dims}, nesting_dims={self.nesting_dims}, "
            f"metric={self.metric.value!r})"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("table", ".".join(self.table)),
            ("dims", f"{self.dims}, nesting {self.nesting_dims}"),
            ("metric", self.metric.value),
            ("columns", ", ".join(f"{name} {kind}" for name, kind in self.columns.items())),
            ("index", self.index_kind),
            ("loaded", None if self.loaded is None else loading.summary(self.loaded)),
        ]
        return html.table(f"collection {self.name}", (), rows)

    # What it is

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._opened.info.name

    @property
    def dims(self) -> int:
        """The full dims of its vectors."""
        return self._opened.info.dims

    @property
    def nesting_dims(self) -> tuple[int, ...]:
        """The legal prefix widths, rising; the last is the full dims."""
        return self._opened.info.nesting_dims

    @property
    def low_dims(self) -> int:
        """The width of the low-dim column that makes the shortlist."""
        return self._opened.info.low_dims

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._opened.info.metric

    @property
    def columns(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return self._opened.column_types

    @property
    def table(self) -> tuple[str, str]:
        """(schema, table) in PostgreSQL."""
        return self._opened.info.schema, self._opened.info.table

    @property
    def indexed(self) -> bool:
        """Whether an index for searches in PostgreSQL stood when this object last looked."""
        return self._opened.info.index is not None

    @property
    def index_kind(self) -> str | None:
        """Its kind: "mrl" on the full vectors, "hnsw" on the low-dim ones; or None."""
        return next(iter(self._opened.info.index_kinds), None)

    @property
    def adaptor(self) -> Transform | None:
        """What changes vectors before they are written, and queries alike; None in most."""
        return self._opened.adaptor

    @property
    def plan(self) -> Plan:
        """The plan that a search for ten answers follows."""
        return self._opened.engine("auto").plan(10)

    @property
    def loaded(self) -> NativeEngine | None:
        """The engine over the rows in this process, or None when nothing is loaded."""
        engine = self._opened.engines.get("native")
        return engine if isinstance(engine, NativeEngine) else None

    @property
    def promise(self) -> Promise | None:
        """What the engine that answers searches promises, or None.

        `promise.stale` says why it no longer speaks of the rows or of the queries, if so.
        """
        return promising.promise(self)

    @property
    def tried(self) -> tuple[Measured, ...]:
        """The plans that the last `tune()` of this object measured, with their recall and time."""
        return self._opened.tried

    def parse_key(self, text: str) -> Any:
        """Returns a key from its text form, as a command line has it; raises ValueRangeError."""
        return key.parse(text, self._opened.info.key_type)

    # What it does

    add = writing.add
    upsert = writing.upsert
    ingest = writing.ingest
    delete = writing.delete
    create_index = writing.create_index

    scan = rows.scan
    update = rows.update

    get = searching.get
    count = searching.count
    search = searching.search
    explain = searching.explain
    set_plan = searching.set_plan

    position = replaying.position
    wait_for = replaying.wait_for

    add_texts = embedding.add_texts
    search_text = embedding.search_text

    load = loading.load
    unload = loading.unload
    refresh = loading.refresh
    log_health = loading.log_health

    tune = promising.tune
    recall = promising.recall
    report = promising.report

    classify = classifying.classify
    save_classifier = classifying.save_classifier
    classifier = classifying.load_classifier

    def adapt(
        self, name: str, adaptor: Transform, *, progress: Progress | bool = False
    ) -> Collection:
        """Copies this collection into a new one whose vectors are changed by an adaptor.

        Key, vectors and metadata columns are copied, from one snapshot; constraints, defaults and
        indexes of the table are not.

        Args:
            name: Of the new collection.
            adaptor: A `mrl_db.learn.Rotation` or `Adaptor` for these dims. It stays with the new
                collection, whose methods change what is written and searched for alike.
            progress: As above.
        """
        writing.adapt(self, name, adaptor, progress=progress)
        opened = self._opened
        return open_collection(opened.own, name, QueryLog(opened.log.keep))


def open_collection(
    session: OwnSession, name: str, log: QueryLog, embedding: Embedding | None = None
) -> Collection:
    """Returns a collection by its name; raises CollectionNotFoundError."""
    collection = Collection(session, catalog.describe(session, name), log)
    collection._opened.embedding = embedding
    return collection


__all__ = ["Collection", "Records", "open_collection"]
