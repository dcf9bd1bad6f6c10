"""A collection: a table of embeddings that is written to and searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db._kernels import available_threads
from mrl_db.classify import Cascade, loaded, stored
from mrl_db.classify.stored import Classified
from mrl_db.declared import DeclaredRecall
from mrl_db.door import checked_count, checked_engine, checked_staleness
from mrl_db.engines import exact as exact_engine
from mrl_db.engines import sql as sql_engine
from mrl_db.engines.native import index as loading
from mrl_db.faces import sources
from mrl_db.faces.progress import Report, reporting
from mrl_db.hits import Hits
from mrl_db.learn.change import Change, check_change
from mrl_db.model.errors import NotLoadedError, PlanError, ValueRangeError
from mrl_db.model.plan import Plan, flat_plan, graph_plan
from mrl_db.postgres import batches, catalog, changes, indexing, ingest, rows
from mrl_db.postgres.adapting import copy_changed
from mrl_db.postgres.session import Connection, Session
from mrl_db.recall import promises

_NATIVE = ("auto", "native")
_INDEX_WORTH_ROWS = 10_000  # below, scanning the low-dim column takes no longer than walking a graph (benchmarks/record)


@dataclass(frozen=True, slots=True)
class Records:
    """Rows as they are stored: ids and vectors (n, dims) float32 in the same order, and metadata columns as lists."""

    ids: NDArray[Any]
    vectors: NDArray[np.float32]
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        """Rows."""
        return len(self.ids)


class Collection(DeclaredRecall):
    """A table of embeddings with a key, made by `Database.create_collection` or `attach`.

    Every method sees the database as it is: a row committed by any client is found by the next search, in PostgreSQL or, after `load()`, in
    this process.
    """

    # Writing

    def add(
        self, ids: Any, vectors: ArrayLike, *, batch_id: str | None = None, **columns: Any
    ) -> int:
        """Adds new rows, all or none, and returns how many.

        ids: n keys of the collection's key type. vectors: (n, dims) of float32; float16 and float64 are converted. columns: n values for
        each metadata column; a column left out is NULL. batch_id: a name for this write, under which it is committed once: after a
        CommitUncertain the same call with the same batch_id writes unless that was written.

        Raises ShapeError, DtypeError or ValueRangeError before anything is sent, DuplicateKeyError when a key stands twice or is there
        already, and CommitUncertain when the connection is lost while the server commits.
        """
        return self._write(ids, vectors, columns, batch_id, upsert=False)

    def upsert(
        self, ids: Any, vectors: ArrayLike, *, batch_id: str | None = None, **columns: Any
    ) -> int:
        """Adds rows and replaces those whose key is there, all or none; returns how many. Columns left out keep their values."""
        return self._write(ids, vectors, columns, batch_id, upsert=True)

    def _write(
        self,
        ids: Any,
        vectors: ArrayLike,
        columns: Mapping[str, Any],
        batch_id: str | None,
        *,
        upsert: bool,
    ) -> int:
        batch = self._batch(ids, vectors, columns)
        return self._write_once(
            batch_id,
            lambda connection: ingest.write(connection, self._info, [batch], upsert=upsert),
        )

    def _batch(self, ids: Any, vectors: ArrayLike, columns: Mapping[str, Any]) -> ingest.Batch:
        batch = ingest.check_batch(ids, vectors, columns, self._info)
        return (
            batch
            if self._adaptor is None
            else replace(batch, vectors=self._adaptor.apply(batch.vectors))
        )

    def _write_once(self, batch_id: str | None, write: Callable[[Connection], int]) -> int:
        try:
            return batches.write_once(
                self._session, self._info, batches.check_batch_id(batch_id), write
            )
        finally:  # it may be there, whatever was raised
            if self._native is not None:
                self._native.written()

    def ingest(
        self,
        source: sources.Source,
        vectors: ArrayLike | None = None,
        *,
        id: str = "id",  # the column's name, as everybody calls it
        vector: str = "embedding",
        upsert: bool = False,
        index: bool = True,
        progress: Report | bool = False,
        batch_id: str | None = None,
        **columns: Any,
    ) -> int:
        """Loads many rows in one transaction, all or none, with bounded memory, then builds the index; returns how many.

        source: a path of a Parquet file, an Arrow table or record-batch reader, an array of ids (with `vectors` and columns, as for `add`),
        or an iterable of batches: (ids, vectors), (ids, vectors, {column: values}), or Arrow record batches. id, vector: the names of the
        key and the vector in Parquet and Arrow data, whose other columns go to the metadata columns of the same name.
        index: build the HNSW index afterwards when there is none and the collection is large enough to need one.
        progress: True for a bar on standard error, or a function that is called with (rows so far, rows in all or None).
        """
        total, batches = sources.open_source(
            source, vectors, columns, id=id, vector=vector, known=self.columns
        )
        checked = (self._batch(ids, part, further) for ids, part, further in batches)
        with reporting(progress, "rows") as report:
            told = None if report is None else lambda done: report(done, total)
            count = self._write_once(
                batch_id,
                lambda connection: ingest.write(
                    connection, self._info, checked, upsert=upsert, progress=told
                ),
            )
        if index and self.count() >= _INDEX_WORTH_ROWS:
            self.create_index(progress=progress is True)
        return count

    def delete(
        self,
        ids: Any = None,
        *,
        where: Mapping[str, Any] | None = None,
        batch_id: str | None = None,
    ) -> int:
        """Deletes the rows with these ids, or those that a filter selects, and returns how many there were."""
        if (ids is None) == (where is None):
            raise ValueRangeError(
                "delete() takes ids or where=, one of the two; where={} deletes all rows"
            )
        if ids is not None:
            keys = self._keys(ids)
            return self._write_once(
                batch_id, lambda connection: rows.delete_ids(connection, self._info, keys)
            )
        request = self._request(where)
        return self._write_once(batch_id, lambda connection: rows.delete_where(connection, request))

    def adapt(self, name: str, adaptor: Change, *, progress: Report | bool = False) -> Collection:
        """Makes a collection of that name with the rows of this one, their vectors changed by the adaptor, and returns it.

        adaptor: a `mrl_db.learn.Rotation` or `Adaptor` for this collection's dims; it stays with the new collection, whose methods change
        what is written and asked for alike. Key, vectors and metadata columns are copied, from one snapshot; constraints, defaults and
        indexes of the table are not. progress: True for a bar, or a function called with (rows so far, rows in all).
        """
        if self._adaptor is not None:
            raise ValueRangeError(
                f'the vectors of collection "{self.name}" are adapted already; adapt the collection that they came from'
            )
        info = self._info
        kept = {
            column.name: column.type for column in info.columns.values() if not column.generated
        }
        check_change(adaptor, info.dims, info.metric)
        wanted = catalog.Wanted(
            name,
            info.dims,
            info.nesting_dims,
            info.low_dims,
            info.metric,
            info.key_type,
            kept,
            info.schema,
        )
        total = self.count()
        with reporting(progress, "rows") as report:
            told = None if report is None else lambda done: report(done, total)
            copy_changed(
                self._session, self._request(None), wanted, adaptor.to_bytes(), adaptor.apply, told
            )
        return open_collection(self._session, name)

    # Reading

    def get(self, ids: Any, *, columns: Sequence[str] | None = None) -> Records:
        """Returns the rows with these ids in the order asked for; ids that are not there are left out. columns: all by default."""
        names = tuple(self._info.columns) if columns is None else self._column_names(columns)
        keys, vectors, values = rows.get(self._session, self._info, self._keys(ids), names)
        found = np.array(keys, dtype=sql_engine.key_dtype(self._info))
        return Records(found, vectors, values)

    # The native engine

    def load(
        self,
        *,
        route: str = "graph",
        plan: Plan | None = None,
        effort: int | None = None,
        rows: str = "memory",
        max_memory: int | None = None,
        build: str = "default",
        threads: int | None = None,
        max_staleness: float = 0.0,
        allow_rls_bypass: bool = False,
        cache: bool = True,
        progress: Report | bool = False,
    ) -> None:
        """Loads the rows into this process, so that searches run here at the speed of memory; loading again starts afresh.

        A search then asks PostgreSQL first, in one round trip, what was committed since the last one, and applies it: it sees what every
        client committed before it. max_staleness: seconds that searches may be behind the database instead; a thread then follows in the
        background, and searches ask nobody. What this object writes its next search sees in any case. infinity: the rows stay as they are
        loaded until `refresh()`, and need no right on the change log.

        route: "graph" walks a proximity graph; "flat" scans a code of every row, and is ready sooner. plan: the stages to load codes for,
        instead of the route's default. effort: of the default plan's walk (`mrl_db.graph_plan`). rows: "memory" keeps the float32 vectors
        here; "postgres" leaves them there and fetches those of the last stage, which costs a round trip a search. max_memory: bytes that
        may be taken; by default what is free. build: "default", or "fast" for a graph in a third of the time that finds a little less.
        threads: to build and to search batches with; all by default. progress: True for a bar, or a function called with (done, total).
        allow_rls_bypass: load a table under row-level security, whose policies then bind no search here. cache: keep what was built as a
        file in the user's cache folder (MRL_DB_CACHE), which all processes of this machine map; the next load() takes a moment.

        Raises MemoryLimitError before anything is read, PlanError when the plan is none of this engine's, RowSecurityError, PrivilegeError,
        and FreshnessError when writes to the table are not all logged.
        """
        if rows not in ("memory", "postgres"):
            raise ValueRangeError(f"rows is {rows!r}, wanted 'memory' or 'postgres'")
        if route not in ("graph", "flat"):
            raise ValueRangeError(f"route is {route!r}, wanted 'graph' or 'flat'")
        if plan is not None and effort is not None:
            raise PlanError("effort= and plan= were both given; the plan says its effort")
        stored = promises.stored(self._session, self.name).get("native")
        if plan is None and effort is None and stored is not None and stored.plan.route == route:
            plan = stored.plan
        if plan is None:
            walked = (
                graph_plan(dims=self.dims)
                if effort is None
                else graph_plan(dims=self.dims, effort=checked_count(effort, "effort"))
            )
            plan = walked if route == "graph" else flat_plan(dims=self.dims)
        used = available_threads() if threads is None else checked_count(threads, "threads")
        self._loaded_by = {
            "plan": plan,
            "in_memory": rows == "memory",
            "max_memory": None
            if max_memory is None
            else checked_count(max_memory, "max_memory", 2**62),
            "build": build,
            "threads": used,
            "max_staleness": checked_staleness(max_staleness),
            "allow_rls_bypass": allow_rls_bypass,
            "cache": cache,
        }
        self._load(progress)

    def _load(self, progress: Report | bool) -> None:
        self.unload()  # its memory is needed
        self._info = catalog.describe(self._session, self.name)
        self._promises = promises.stored(self._session, self.name)
        self._native = loading.load(self._session, self._info, progress=progress, **self._loaded_by)
        self._native.note = lambda: self._note("native")()

    def unload(self) -> None:
        """Gives the native engine's memory back; searches run in PostgreSQL again."""
        native, self._native = self._native, None
        if native is not None:
            native.close()

    def refresh(self) -> None:
        """Loads the rows again as they are now, graph and projection included; raises NotLoadedError when they were not loaded.

        Searches see what was written without it. It pays when a collection has become another one: twice as many rows, another model.
        """
        self._loaded().load_afresh()

    def log_health(self) -> tuple[int, int, bool]:
        """Returns (changes that the log holds for its readers, readers, whether all writes are logged): `mrl-db doctor` shows it."""
        return changes.health(self._session, self.name)

    # Searching

    def search(
        self,
        query: ArrayLike,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        columns: Sequence[str] = (),
        shortlist: int | None = None,
        plan: Plan | None = None,
        engine: str = "auto",
        threads: int | None = None,
        max_staleness: float | None = None,
        exact: bool = False,
        as_stored: bool = False,
    ) -> Hits:
        """Returns the k nearest rows, the nearest first, ties by id; fewer only when fewer match.

        query: (dims,), giving arrays of shape (k,), or (n, dims), giving (n, k). where: a filter (`mrl_db.model.filters`). columns: metadata to
        bring along. shortlist: how many rows the low-dim stage passes on, in PostgreSQL. plan: the stages to go through, instead of the
        stored, loaded or default plan. engine: "sql" in PostgreSQL, "native" over the rows that `load()` brought here, "auto" the one that
        the plan is for: native where rows are loaded and neither plan nor shortlist says otherwise. threads: for a batch in the native
        engine. max_staleness: seconds that the native engine's answer may be behind the database; by default what load() was told.
        exact: the brute-force answer, computed in this process from the rows in PostgreSQL; no plan is used. as_stored: the query is a
        vector as `get` returns it, which the collection's adaptor, if it has one, is not to change again.

        Raises NotLoadedError when engine="native" and nothing, or not what the plan needs, is loaded.
        """
        native = self._native
        plain = (
            where is None
            and plan is None
            and shortlist is None
            and not columns
            and not exact
            and self._adaptor is None
        )
        if native is not None and plain and engine in _NATIVE:
            native.sync(
                max_staleness if max_staleness is None else checked_staleness(max_staleness)
            )
            found = native.search_plainly(query, k)
            if found is not None:
                self._log.pass_by(query, found, k)
                return found
        checked_engine(engine)
        wanted = checked_count(k, "k")
        queries, single = self._queries(query, as_stored)
        runs_here = not exact and self._runs_here(engine, shortlist, plan)
        if runs_here:
            native = self._loaded()
            native.sync(
                max_staleness if max_staleness is None else checked_staleness(max_staleness)
            )
            if native.info.relation != self._info.relation:  # renamed by another client
                self._info = native.info
        request = self._request(where, columns)
        if exact:
            hits = exact_engine.search(self._session, request, queries, wanted)
        elif runs_here:
            if plan is not None:
                loading.check_native(plan, self._info)
            used = None if threads is None else checked_count(threads, "threads")
            hits = self._loaded().search(request, queries, wanted, plan, used)
        else:
            stored = plan is None and shortlist is None and self._info.plan is not None
            note = self._note("sql") if stored else lambda: None
            hits = sql_engine.search(
                self._session, request, queries, self._plan(wanted, shortlist, plan), note=note
            )
        if where is None:
            self._log.note(queries, hits.distances, wanted)
        return hits[0] if single else hits

    # Classification

    def classify(
        self,
        classifier: Cascade | str,
        *,
        where: Mapping[str, Any] | None = None,
        dims: int | None = None,
        engine: str = "auto",
    ) -> Classified:
        """Classifies the rows that pass a filter where they are: each pass reads only the coordinates that its rows need next.

        classifier: a fitted cascade, or the name of one that `save_classifier` stored. dims: asks this one head only. engine: "sql" reads
        prefixes from PostgreSQL; "native" those of the rows that `load()` brought here, as they were at one moment of the call; "auto":
        native where they are here. Returns ids, the answer for each, and how many bytes were read.
        """
        checked_engine(engine)
        cascade = self.classifier(classifier) if isinstance(classifier, str) else classifier
        request = self._request(where)
        if (
            engine != "sql"
            and self._runs_here(engine, None, None)
            and (engine == "native" or self._loaded().in_memory)
        ):
            native = self._loaded()
            if not native.in_memory:
                raise NotLoadedError(
                    f'the vectors of collection "{self.name}" stayed in PostgreSQL; load(rows="memory"), or engine="sql"'
                )
            stored.check_cascade(cascade, self._info)
            native.sync()
            found = loaded.classify(native, request, cascade, dims)
            if found is not None:
                return found
        return stored.classify(self._session, request, cascade, dims)

    def save_classifier(self, name: str, cascade: Cascade) -> None:
        """Stores a fitted cascade with the collection (`mrl.classifier`), in place of one of this name."""
        stored.save(self._session, self.name, name, cascade)

    def classifier(self, name: str) -> Cascade:
        """Returns the cascade of this name; raises NotFittedError when there is none."""
        return stored.load(self._session, self.name, name)

    def set_plan(self, plan: Plan | None) -> None:
        """Stores a plan for the SQL engine, here and for `mrl.search_<collection>`; None returns to the default."""
        if plan is not None:
            self._check_plan(plan)
        catalog.set_plan(self._session, self.name, plan)
        self._info = catalog.describe(self._session, self.name)

    def create_index(
        self,
        *,
        m: int = 16,
        ef_construction: int = 64,
        concurrently: bool = False,
        progress: Report | bool = False,
    ) -> None:
        """Builds the HNSW index on the low-dim vectors, unless it is there: after the load, when it is several times faster.

        m, ef_construction: pgvector's links a node and candidates while building. concurrently: without locking out writers, at about
        twice the time. progress: True for a bar, or a function that is called with (blocks of the table indexed, blocks in all).
        """
        if not 2 <= m <= 100 or not max(4, 2 * m) <= ef_construction <= 1000:
            raise ValueRangeError(
                f"m is {m} and ef_construction {ef_construction}, pgvector takes 2 to 100, and 2 * m to 1000"
            )
        self._info = catalog.describe(
            self._session, self.name
        )  # another client may have built or dropped it
        with reporting(progress, "index") as report:
            indexing.create_index(
                self._session,
                self._info,
                m=m,
                ef_construction=ef_construction,
                concurrently=concurrently,
                progress=report,
            )
        self._info = catalog.describe(self._session, self.name)


def open_collection(session: Session, name: str) -> Collection:
    """Returns a collection by its name; raises CollectionNotFoundError."""
    return Collection(session, catalog.describe(session, name))


__all__ = ["Collection", "Records", "open_collection"]
