"""A collection: a table of embeddings that is written to and searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db import filters, sources
from mrl_db._kernels import available_threads
from mrl_db.arguments import checked_count, checked_engine, checked_staleness
from mrl_db.classify import Cascade, loaded, stored
from mrl_db.classify.stored import Classified
from mrl_db.engines import exact as exact_engine
from mrl_db.engines import loading
from mrl_db.engines import sql as sql_engine
from mrl_db.engines.native import NativeEngine
from mrl_db.errors import NotLoadedError, PlanError, PrivilegeError, ShapeError, ValueRangeError
from mrl_db.evaluate.metrics import Recall
from mrl_db.evaluate.report import write as write_report
from mrl_db.hits import Hits, Trace
from mrl_db.learn.change import Change, change_from_bytes, check_change
from mrl_db.metric import Metric
from mrl_db.plan import Plan, default_plan, flat_plan, graph_plan, with_k
from mrl_db.postgres import batches, catalog, changes, indexing, ingest, rows
from mrl_db.postgres.adapting import copy_changed
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session
from mrl_db.progress import Report, reporting
from mrl_db.tuning import run as tuning
from mrl_db.tuning.explorer import Measured
from mrl_db.tuning.findings import gather
from mrl_db.tuning.losses import fates
from mrl_db.tuning.promise import Promise, drift_of_queries, drift_of_rows
from mrl_db.tuning.query_log import QueryLog

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


class Collection:
    """A table of embeddings with a key, made by `Database.create_collection` or `attach`.

    Every method sees the database as it is: a row committed by any client is found by the next search, in PostgreSQL or, after `load()`, in
    this process.
    """

    def __init__(self, session: Session, info: CollectionInfo) -> None:
        """Not for callers: use `Database.open`."""
        self._session = session
        self._info = info
        self._native: NativeEngine | None = None
        self._loaded_by: dict[str, Any] = {}  # the arguments of load(), for refresh()
        self._log = QueryLog()
        self._promises = _stored_promises(session, info.name)
        kept = catalog.adaptor_of(session, info)
        self._adaptor = None if kept is None else change_from_bytes(kept)
        self._tried: tuple[Measured, ...] = ()

    def __repr__(self) -> str:
        """Tells what the collection is."""
        info = self._info
        return f"Collection({info.name!r}, dims={info.dims}, nesting_dims={info.nesting_dims}, metric={info.metric.value!r})"

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._info.name

    @property
    def dims(self) -> int:
        """The full dims of its vectors."""
        return self._info.dims

    @property
    def nesting_dims(self) -> tuple[int, ...]:
        """The legal prefix widths, rising; the last is the full dims."""
        return self._info.nesting_dims

    @property
    def low_dims(self) -> int:
        """The width of the low-dim column that makes the shortlist."""
        return self._info.low_dims

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""
        return self._info.metric

    @property
    def columns(self) -> dict[str, str]:
        """The metadata columns with their SQL types."""
        return {name: column.type for name, column in self._info.columns.items()}

    @property
    def table(self) -> tuple[str, str]:
        """(schema, table) in PostgreSQL."""
        return self._info.schema, self._info.table

    @property
    def indexed(self) -> bool:
        """Whether the HNSW index on the low-dim vectors stood when the collection was opened or last changed here."""
        return self._info.index is not None

    @property
    def adaptor(self) -> Change | None:
        """What changes vectors before they are written, and queries alike; None in most collections."""
        return self._adaptor

    def parse_key(self, text: str) -> Any:
        """Returns a key of this collection from its text form, as a command line has it; raises ValueRangeError."""
        return ingest.parse_key(text, self._info.key_type)

    # Writing

    def add(self, ids: Any, vectors: ArrayLike, *, batch_id: str | None = None, **columns: Any) -> int:
        """Adds new rows, all or none, and returns how many.

        ids: n keys of the collection's key type. vectors: (n, dims) of float32; float16 and float64 are converted. columns: n values for
        each metadata column; a column left out is NULL. batch_id: a name for this write, under which it is committed once: after a
        CommitUncertain the same call with the same batch_id writes unless that was written.

        Raises ShapeError, DtypeError or ValueRangeError before anything is sent, DuplicateKeyError when a key stands twice or is there
        already, and CommitUncertain when the connection is lost while the server commits.
        """
        return self._write(ids, vectors, columns, batch_id, upsert=False)

    def upsert(self, ids: Any, vectors: ArrayLike, *, batch_id: str | None = None, **columns: Any) -> int:
        """Adds rows and replaces those whose key is there, all or none; returns how many. Columns left out keep their values."""
        return self._write(ids, vectors, columns, batch_id, upsert=True)

    def _write(self, ids: Any, vectors: ArrayLike, columns: Mapping[str, Any], batch_id: str | None, *, upsert: bool) -> int:
        batch = self._batch(ids, vectors, columns)
        return self._write_once(batch_id, lambda connection: ingest.write(connection, self._info, [batch], upsert=upsert))

    def _batch(self, ids: Any, vectors: ArrayLike, columns: Mapping[str, Any]) -> ingest.Batch:
        batch = ingest.check_batch(ids, vectors, columns, self._info)
        return batch if self._adaptor is None else replace(batch, vectors=self._adaptor.apply(batch.vectors))

    def _queries(self, query: ArrayLike, as_stored: bool = False) -> tuple[NDArray[np.float32], bool]:
        """(n, dims), as they are compared with what is stored, and whether it was one query alone."""
        queries, single = ingest.check_query(query, self._info)
        return queries if self._adaptor is None or as_stored else self._adaptor.apply(queries), single

    def _write_once(self, batch_id: str | None, write: Callable[[Connection], int]) -> int:
        try:
            return batches.write_once(self._session, self._info, batches.check_batch_id(batch_id), write)
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
        total, batches = sources.open_source(source, vectors, columns, id=id, vector=vector, known=self.columns)
        checked = (self._batch(ids, part, further) for ids, part, further in batches)
        with reporting(progress, "rows") as report:
            told = None if report is None else lambda done: report(done, total)
            count = self._write_once(
                batch_id, lambda connection: ingest.write(connection, self._info, checked, upsert=upsert, progress=told)
            )
        if index and self.count() >= _INDEX_WORTH_ROWS:
            self.create_index(progress=progress is True)
        return count

    def delete(self, ids: Any = None, *, where: Mapping[str, Any] | None = None, batch_id: str | None = None) -> int:
        """Deletes the rows with these ids, or those that a filter selects, and returns how many there were."""
        if (ids is None) == (where is None):
            raise ValueRangeError("delete() takes ids or where=, one of the two; where={} deletes all rows")
        if ids is not None:
            keys = self._keys(ids)
            return self._write_once(batch_id, lambda connection: rows.delete_ids(connection, self._info, keys))
        request = self._request(where)
        return self._write_once(batch_id, lambda connection: rows.delete_where(connection, request))

    def adapt(self, name: str, adaptor: Change, *, progress: Report | bool = False) -> Collection:
        """Makes a collection of that name with the rows of this one, their vectors changed by the adaptor, and returns it.

        adaptor: a `mrl_db.learn.Rotation` or `Adaptor` for this collection's dims; it stays with the new collection, whose methods change
        what is written and asked for alike. Key, vectors and metadata columns are copied, from one snapshot; constraints, defaults and
        indexes of the table are not. progress: True for a bar, or a function called with (rows so far, rows in all).
        """
        if self._adaptor is not None:
            raise ValueRangeError(f'the vectors of collection "{self.name}" are adapted already; adapt the collection that they came from')
        info = self._info
        kept = {column.name: column.type for column in info.columns.values() if not column.generated}
        check_change(adaptor, info.dims, info.metric)
        wanted = catalog.Wanted(name, info.dims, info.nesting_dims, info.low_dims, info.metric, info.key_type, kept, info.schema)
        total = self.count()
        with reporting(progress, "rows") as report:
            told = None if report is None else lambda done: report(done, total)
            copy_changed(self._session, self._request(None), wanted, adaptor.to_bytes(), adaptor.apply, told)
        return open_collection(self._session, name)

    # Reading

    def get(self, ids: Any, *, columns: Sequence[str] | None = None) -> Records:
        """Returns the rows with these ids in the order asked for; ids that are not there are left out. columns: all by default."""
        names = tuple(self._info.columns) if columns is None else self._column_names(columns)
        keys, vectors, values = rows.get(self._session, self._info, self._keys(ids), names)
        found = np.array(keys, dtype=sql_engine.key_dtype(self._info))
        return Records(found, vectors, values)

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """Returns the number of rows with a vector, of those that pass the filter."""
        return rows.count(self._session, self._request(where))

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
        stored = _stored_promises(self._session, self.name).get("native")
        if plan is None and effort is None and stored is not None and stored.plan.route == route:
            plan = stored.plan
        if plan is None:
            walked = graph_plan(dims=self.dims) if effort is None else graph_plan(dims=self.dims, effort=checked_count(effort, "effort"))
            plan = walked if route == "graph" else flat_plan(dims=self.dims)
        used = available_threads() if threads is None else checked_count(threads, "threads")
        self._loaded_by = {
            "plan": plan,
            "in_memory": rows == "memory",
            "max_memory": None if max_memory is None else checked_count(max_memory, "max_memory", 2**62),
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
        self._promises = _stored_promises(self._session, self.name)
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

    @property
    def loaded(self) -> NativeEngine | None:
        """The native engine with its plan, rows and bytes, or None when nothing is loaded."""
        return self._native

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

        query: (dims,), giving arrays of shape (k,), or (n, dims), giving (n, k). where: a filter (`mrl_db.filters`). columns: metadata to
        bring along. shortlist: how many rows the low-dim stage passes on, in PostgreSQL. plan: the stages to go through, instead of the
        stored, loaded or default plan. engine: "sql" in PostgreSQL, "native" over the rows that `load()` brought here, "auto" the one that
        the plan is for: native where rows are loaded and neither plan nor shortlist says otherwise. threads: for a batch in the native
        engine. max_staleness: seconds that the native engine's answer may be behind the database; by default what load() was told.
        exact: the brute-force answer, computed in this process from the rows in PostgreSQL; no plan is used. as_stored: the query is a
        vector as `get` returns it, which the collection's adaptor, if it has one, is not to change again.

        Raises NotLoadedError when engine="native" and nothing, or not what the plan needs, is loaded.
        """
        native = self._native
        plain = where is None and plan is None and shortlist is None and not columns and not exact and self._adaptor is None
        if native is not None and plain and engine in _NATIVE:
            native.sync(max_staleness if max_staleness is None else checked_staleness(max_staleness))
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
            native.sync(max_staleness if max_staleness is None else checked_staleness(max_staleness))
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
            note = self._note("sql") if stored else _nothing
            hits = sql_engine.search(self._session, request, queries, self._plan(wanted, shortlist, plan), note=note)
        if where is None:
            self._log.note(queries, hits.distances, wanted)
        return hits[0] if single else hits

    def _runs_here(self, engine: str, shortlist: int | None, plan: Plan | None) -> bool:
        """Whether the native engine is to run a search."""
        if engine == "auto":
            return self._native is not None and shortlist is None if plan is None else plan.native
        if engine == "native" and shortlist is not None:
            raise PlanError("shortlist= is the SQL engine's; the native engine's plans say what each stage keeps: plan=graph_plan(…)")
        return engine == "native"

    def _loaded(self) -> NativeEngine:
        if self._native is None:
            raise NotLoadedError(f'collection "{self.name}" is not loaded; call load(), or search with engine="sql"')
        return self._native

    # Recall, declared and measured

    def tune(
        self,
        *,
        recall: float | None = None,
        k: int = 10,
        statistic: str = "mean",
        p95_ms: float | None = None,
        queries: ArrayLike | None = None,
        engine: str = "auto",
        budget_seconds: float = 60.0,
        seed: int = 0,
        progress: Report | bool = False,
    ) -> Promise:
        """Measures plans, stores the fastest one that is proven to keep the recall, and returns the promise; searches follow it from then
        on.

        recall: of k answers, above 0 and below 1. statistic: "mean" over queries, or "p05", the recall that 95 % of the queries reach.
        p95_ms: milliseconds that 95 % of the searches shall keep within; without recall=, the best recall within that is promised. queries:
        (n, dims) of the kind that will be asked; by default the queries that this object was asked, when it remembers 500, else rows of the
        collection, each left out of its own answers. engine: "sql", "native", or "auto": native where rows are loaded. budget_seconds:
        about as long as it may take; less means fewer queries, so a plan that is dearer than it need be. progress: True for a bar, or a
        function.

        A promise speaks of queries like those that it was measured on, with 95 % confidence, and of unfiltered searches. Raises
        TargetNotMetError when no plan that keeps the recall is fast enough for p95_ms, and says what the best reaches.
        """
        checked_engine(engine)
        target = tuning.check_target(recall, statistic, p95_ms)
        wanted = checked_count(k, "k", 1000)
        asked = None if queries is None else self._queries(queries)[0]
        native = self._loaded() if self._runs_here(engine, None, None) else None
        if native is not None:
            native.sync()
        self._info = catalog.describe(self._session, self.name)
        with reporting(progress, "plans") as report:
            promise, self._tried = tuning.tune(
                self._session,
                self._request(None),
                native,
                self._log,
                target=target,
                statistic=statistic,
                p95_ms=p95_ms,
                k=wanted,
                queries=asked,
                seconds=budget_seconds,
                seed=seed,
                report=report,
            )
        if native is not None:
            native.follow_plan(promise.plan)
        self._info = catalog.describe(self._session, self.name)
        self._promises[promise.engine] = promise
        return promise

    @property
    def tried(self) -> tuple[Measured, ...]:
        """The plans that the last `tune()` of this object measured, with their recall and time."""
        return self._tried

    @property
    def promise(self) -> Promise | None:
        """What searches are promised by the engine that answers them, or None; `stale` says why it no longer speaks of them, if so."""
        self._promises = _stored_promises(self._session, self.name)
        promise = self._promises.get("sql" if self._native is None else "native")
        if promise is None:
            return None
        total = self.count()
        newer = rows.share_newer(self._session, self._info, promise.as_of, total)
        drift = drift_of_rows(promise, total, newer) or self._drift_of_queries(promise)
        promise = replace(promise, stale=drift)
        self._promises[promise.engine] = promise
        return promise

    def recall(
        self,
        queries: ArrayLike | None = None,
        *,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        plan: Plan | None = None,
        engine: str = "auto",
        sample: int = 500,
        seed: int | None = None,
    ) -> Recall:
        """Measures the recall of searches as they are now: mean, 5th percentile, minimum, and bounds of the mean.

        queries: (n, dims); by default `sample` rows drawn at random (of those that pass the filter), each left out of its own answers; what
        PostgreSQL's index misses of these counts double, as it finds rows too easily. where: measures searches with this filter.
        """
        checked_engine(engine)
        asked = None if queries is None else self._queries(queries)[0]
        here = self._runs_here(engine, None, plan)
        native = self._loaded() if here else None
        if native is not None:
            native.sync()
        wanted = checked_count(k, "k")
        used = with_k(plan or self._loaded().plan, wanted) if here else self._plan(wanted, None, plan)
        drawn = int(np.random.default_rng().integers(2**31)) if seed is None else seed
        n = checked_count(sample, "sample")
        return tuning.measure(self._session, self._request(where), native, used, asked, k=wanted, n=n, seed=drawn)[0]

    def explain(
        self,
        query: ArrayLike,
        *,
        want: Any = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        shortlist: int | None = None,
        plan: Plan | None = None,
        engine: str = "auto",
        as_stored: bool = False,
    ) -> Trace:
        """Returns how one search goes, stage by stage: rows in and out, bytes a row, microseconds; and what became of wanted rows.

        want: ids; `trace.fates` says of each whether it was found, else the stage that lost it, its rank there, and the least keep (or,
        where the walk did not meet it, effort) that would have saved it.
        """
        checked_engine(engine)
        queries, single = self._queries(query, as_stored)
        if not single:
            raise ShapeError(f"query has shape {queries.shape}, explain() takes one query: ({self.dims},)")
        wanted, request = checked_count(k, "k"), self._request(where)
        if self._runs_here(engine, shortlist, plan):
            native = self._loaded()
            native.sync()
            if plan is not None:
                loading.check_native(plan, self._info)
            used = with_k(native.plan if plan is None else plan, wanted)
            trace = native.search(request, queries, wanted, used, 1).trace

            def run(tried: Plan) -> list[Any]:
                return list(native.search(request, queries, tried.k, tried, 1).ids[0].tolist())
        else:
            used = self._plan(wanted, shortlist, plan)
            trace = sql_engine.explain(self._session, request, queries[0], used)

            def run(tried: Plan) -> list[Any]:
                return list(sql_engine.search(self._session, request, queries, tried, fill=False).ids[0].tolist())

        if want is None:
            return trace
        keys = self._keys(want)
        present = set(rows.get(self._session, self._info, keys, ())[0])
        return replace(trace, fates=tuple(fates(run, used, keys, present, self.count())))

    # Classification

    def classify(
        self, classifier: Cascade | str, *, where: Mapping[str, Any] | None = None, dims: int | None = None, engine: str = "auto"
    ) -> Classified:
        """Classifies the rows that pass a filter where they are: each pass reads only the coordinates that its rows need next.

        classifier: a fitted cascade, or the name of one that `save_classifier` stored. dims: asks this one head only. engine: "sql" reads
        prefixes from PostgreSQL; "native" those of the rows that `load()` brought here, as they were at one moment of the call; "auto":
        native where they are here. Returns ids, the answer for each, and how many bytes were read.
        """
        checked_engine(engine)
        cascade = self.classifier(classifier) if isinstance(classifier, str) else classifier
        request = self._request(where)
        if engine != "sql" and self._runs_here(engine, None, None) and (engine == "native" or self._loaded().in_memory):
            native = self._loaded()
            if not native.in_memory:
                raise NotLoadedError(f'the vectors of collection "{self.name}" stayed in PostgreSQL; load(rows="memory"), or engine="sql"')
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

    def report(
        self,
        folder: Path | str,
        *,
        queries: ArrayLike | None = None,
        judgements: Sequence[Mapping[Any, float]] | None = None,
        k: int = 10,
        engine: str = "auto",
        sample: int = 500,
        seed: int = 0,
        budget_seconds: float = 20.0,
    ) -> Path:
        """Measures this collection and writes report.html and its figures into a folder; returns the page's path.

        It shows recall (and nDCG) against dims, plans by time and recall with the one that searches follow, the recall of single queries,
        the energy of the first dims, and the stages' times. queries: (n, dims); by default rows of the collection. judgements: for each
        query the gain of ids, for nDCG, where the collection has at most 20,000 rows. Needs the extra `report`.
        """
        checked_engine(engine)
        asked = None if queries is None else self._queries(queries)[0]
        wanted = checked_count(k, "k")
        here = self._runs_here(engine, None, None)
        native = self._loaded() if here else None
        if native is not None:
            native.sync()
        findings = gather(
            self._session,
            self._request(None),
            native,
            with_k(self._loaded().plan, wanted) if here else self._plan(wanted, None, None),
            self.promise,
            queries=asked,
            judgements=judgements,
            k=wanted,
            n=checked_count(sample, "sample"),
            seed=seed,
            seconds=budget_seconds,
        )
        return write_report(findings, Path(folder))

    def _note(self, engine: str) -> Callable[[], str | None]:
        """Tells, when a trace is looked at, what the plan that was followed promises."""
        promise = self._promises.get(engine)
        if promise is None:
            return _nothing
        return lambda: str(replace(promise, stale=promise.stale or self._drift_of_queries(promise)))

    def _drift_of_queries(self, promise: Promise) -> str | None:
        if self._log.k != promise.k:
            return None
        return drift_of_queries(promise.distances, promise.recall.queries, self._log.distances)

    @property
    def plan(self) -> Plan:
        """The plan that a search for ten answers uses."""
        return self._plan(10, None, None)

    def set_plan(self, plan: Plan | None) -> None:
        """Stores a plan for the SQL engine, here and for `mrl.search_<collection>`; None returns to the default."""
        if plan is not None:
            self._check_plan(plan)
        catalog.set_plan(self._session, self.name, plan)
        self._info = catalog.describe(self._session, self.name)

    def create_index(self, *, m: int = 16, ef_construction: int = 64, concurrently: bool = False, progress: Report | bool = False) -> None:
        """Builds the HNSW index on the low-dim vectors, unless it is there: after the load, when it is several times faster.

        m, ef_construction: pgvector's links a node and candidates while building. concurrently: without locking out writers, at about
        twice the time. progress: True for a bar, or a function that is called with (blocks of the table indexed, blocks in all).
        """
        if not 2 <= m <= 100 or not max(4, 2 * m) <= ef_construction <= 1000:
            raise ValueRangeError(f"m is {m} and ef_construction {ef_construction}, pgvector takes 2 to 100, and 2 * m to 1000")
        self._info = catalog.describe(self._session, self.name)  # another client may have built or dropped it
        with reporting(progress, "index") as report:
            indexing.create_index(
                self._session, self._info, m=m, ef_construction=ef_construction, concurrently=concurrently, progress=report
            )
        self._info = catalog.describe(self._session, self.name)

    def _request(self, where: Mapping[str, Any] | None, columns: Sequence[str] = ()) -> Request:
        return Request(self._info, filters.parse(where, self.columns), self._column_names(columns))

    def _column_names(self, columns: Sequence[str]) -> tuple[str, ...]:
        for name in (columns,) if isinstance(columns, str) else columns:
            if name not in self._info.columns:
                known = ", ".join(self._info.columns) or "none"
                raise ValueRangeError(f'collection "{self.name}" has no column {name!r}; there are: {known}')
        return (columns,) if isinstance(columns, str) else tuple(columns)

    def _keys(self, ids: Any) -> list[Any]:
        alone = isinstance(ids, (str, bytes)) or not isinstance(ids, (Iterable, np.ndarray))
        _, values = ingest.check_keys([ids] if alone else ids if isinstance(ids, np.ndarray) else list(ids), self._info.key_type)
        return values

    def _plan(self, k: int, shortlist: int | None, plan: Plan | None) -> Plan:
        if plan is not None:
            if shortlist is not None:
                raise PlanError("shortlist= and plan= were both given; the plan says how long its shortlists are")
            self._check_plan(plan)
            return plan if plan.k == k else with_k(plan, k)
        if shortlist is None and self._info.plan is not None:
            return with_k(self._info.plan, k)
        keep = None if shortlist is None else checked_count(shortlist, "shortlist")
        return default_plan(dims=self.dims, low_dims=self.low_dims, k=k, keep=keep)

    def _check_plan(self, plan: Plan) -> None:
        if plan.native:
            raise PlanError(f"the plan's route {plan.route!r} is the native engine's, PostgreSQL's are 'hnsw' and 'seqscan'")
        if plan.dims != self.dims:
            raise PlanError(f'the plan ends at {plan.dims} dims, collection "{self.name}" has {self.dims}')
        for stage in plan.stages[:-1]:
            if stage.precision.value != "float16":
                raise PlanError(f"the SQL engine looks at prefixes in float16, stage ({stage}) asks for {stage.precision.value}")


def _nothing() -> None:
    return None


def _stored_promises(session: Session, name: str) -> dict[str, Promise]:
    """The promises of each engine; none for a role that may search and not see them."""
    try:
        stored_plans = catalog.stored_plans(session, name)
    except PrivilegeError:
        return {}
    return {
        engine: Promise.from_json(engine, plan, promise, made_at)
        for engine, (plan, promise, made_at) in stored_plans.items()
        if promise is not None and made_at is not None
    }


def open_collection(session: Session, name: str) -> Collection:
    """Returns a collection by its name; raises CollectionNotFoundError."""
    return Collection(session, catalog.describe(session, name))


__all__ = ["Collection", "Records", "open_collection"]
