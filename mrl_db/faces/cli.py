"""The command line, `mrl-db`: each command opens a database and calls its Python twin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mrl_db
from mrl_db.collection import Collection
from mrl_db.collection.opened import EngineChoice
from mrl_db.database import Database
from mrl_db.faces import extending
from mrl_db.faces.demo.walkthrough import run_demo
from mrl_db.faces.doctor import examine
from mrl_db.faces.options import Dsn, Engine, Home, K, Like, Name, Queries, Vector, Where
from mrl_db.hits import Hits
from mrl_db.model.errors import MissingDependencyError, MrlDbError, ValueRangeError
from mrl_db.model.filters import from_json
from mrl_db.model.metric import Metric
from mrl_db.model.promise import Statistic
from mrl_db.postgres.server import embedded
from mrl_db.postgres.server.upgrade import upgrade as upgrade_cluster

app = typer.Typer(
    help="Funnel search over embeddings in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(extending.app, name="extension")
out = Console()
err = Console(stderr=True)


def main() -> None:
    """Runs the command line; an error of ours is one line, not a traceback."""
    try:
        app()
    except MrlDbError as error:
        err.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", highlight=False)
        sys.exit(1)


def _connect(dsn: str | None, home: Path | None) -> Database:
    return mrl_db.connect(dsn) if dsn else mrl_db.connect(home=home)


@app.command()
def demo(dsn: Dsn = None, home: Home = None) -> None:
    """Loads 5,000 real rows, searches by example, and shows recall and time of every stage."""
    with _connect(dsn, home) as db:
        run_demo(db, out)


@app.command()
def collections(dsn: Dsn = None, home: Home = None) -> None:
    """Lists the collections."""
    with _connect(dsn, home) as db:
        titles = "collection", "table", "rows", "dims", "low dims", "metric", "index"
        table = Table(*titles, box=None)
        for name in db.list():
            docs = db.open(name)
            widths = str(docs.dims), str(docs.low_dims)
            cells = name, ".".join(docs.table), f"{docs.count():,}", *widths, docs.metric.value
            table.add_row(*(escape(cell) for cell in cells), docs.index_kind or "no")
        out.print(table)


@app.command()
def ingest(
    collection: Annotated[
        str, typer.Argument(help="Name of the collection; made if it is not there.")
    ],
    source: Annotated[Path, typer.Argument(help="A Parquet file.")],
    id: Annotated[str, typer.Option(help="The column with the key.")] = "id",
    vector: Annotated[str, typer.Option(help="The column with the vectors.")] = "embedding",
    upsert: Annotated[bool, typer.Option(help="Replace rows whose key is there already.")] = False,
    metric: Annotated[
        str, typer.Option(help=f"New ones: one of {', '.join(Metric.__members__)}.")
    ] = "cosine",
    nesting_dims: Annotated[str | None, typer.Option(help="New ones: 64,128,768.")] = None,
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Loads a Parquet file into a collection in one transaction, then builds the index."""
    with _connect(dsn, home) as db:
        if collection not in db.list():
            _create_for(db, collection, source, id, vector, metric, nesting_dims)
        docs = db.open(collection)
        began = time.perf_counter()
        count = docs.ingest(source, id=id, vector=vector, upsert=upsert, index=False, progress=True)
        seconds = time.perf_counter() - began
        out.print(f"{count:,} rows in {seconds:.1f} s ({count / seconds:,.0f} rows/s)")
        docs.create_index(progress=True)
        out.print(
            f"collection {escape(collection)}: {docs.count():,} rows, index {docs.index_kind}"
        )


def _create_for(
    db: Database,
    name: str,
    source: Path,
    key: str,
    vector: str,
    metric: str,
    nesting_dims: str | None,
) -> None:
    """Makes a collection for a Parquet file: dims from its first row, columns from its schema."""
    from mrl_db.faces.sources import parquet_schema

    key_type, dims, columns = parquet_schema(source, key, vector)
    try:
        widths = None if nesting_dims is None else [int(width) for width in nesting_dims.split(",")]
    except ValueError:
        raise ValueRangeError(
            f"--nesting-dims is {nesting_dims!r}, wanted widths such as 64,128,{dims}"
        ) from None
    how = Metric.of(metric)
    db.create_collection(
        name, dims=dims, nesting_dims=widths, metric=how, key_type=key_type, columns=columns
    )
    listed = escape(", ".join(columns) or "none")
    out.print(f"created collection {escape(name)}: {dims} dims, key {key_type}, columns {listed}")


@app.command()
def search(
    collection: Name,
    like: Like = None,
    vector: Vector = None,
    k: K = 10,
    where: Where = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to show: title,year; by default all.")
    ] = None,
    exact: Annotated[bool, typer.Option(help="The brute-force answer.")] = False,
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Shows the rows nearest to an example or a vector."""
    with _connect(dsn, home) as db:
        docs = db.open(collection)
        beside = [name for name in docs.columns if name not in ("id", "distance")]
        shown = beside if columns is None else columns.split(",")
        hits = docs.search(
            _query(docs, like, vector),
            as_stored=like is not None,
            k=k,
            where=_filter(docs, where),
            columns=shown,
            exact=exact,
        )
        out.print(_hits_table(hits))
        out.print(escape(str(hits.trace)), style="dim", highlight=False)


def _query(docs: Collection, like: str | None, vector: Path | None) -> Any:
    if (like is None) == (vector is None):
        raise ValueRangeError("give --like or --vector, one of the two")
    if vector is not None:
        query = _queries(vector)
        if query.ndim != 1:
            raise ValueRangeError(
                f"{vector} has an array of shape {query.shape}, wanted one vector: ({docs.dims},)"
            )
        return query
    rows = docs.get(docs.parse_key(str(like)))
    if not len(rows):
        raise ValueRangeError(f'collection "{docs.name}" has no row {like!r}')
    return rows.vectors[0]


def _filter(docs: Collection, where: str | None) -> Any:
    if where is None:
        return None
    try:
        return from_json(json.loads(where), docs.columns)
    except json.JSONDecodeError as error:
        raise ValueRangeError(f"--where is no JSON: {error}") from None


def _hits_table(hits: Hits) -> Table:
    table = Table("id", "distance", *(escape(name) for name in hits.columns), box=None)
    for row in hits.to_list():
        cells = (row["id"], f"{row['distance']:.4f}", *(row[name] for name in hits.columns))
        table.add_row(*(escape(str(cell)) for cell in cells))
    return table


def _engine(docs: Collection, engine: str) -> tuple[Collection, EngineChoice]:
    """Loads the rows where the native engine is to be measured."""
    if engine not in ("sql", "native"):
        raise ValueRangeError(f"--engine is {engine!r}, wanted sql or native")
    if engine == "native":
        docs.load(progress=True)
    return docs, cast("EngineChoice", engine)


def _queries(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueRangeError(f"{path} is not a .npy file that can be read: {error}") from None


@app.command()
def tune(
    collection: Name,
    recall: Annotated[float | None, typer.Option(help="The recall to keep: 0.99.")] = None,
    k: K = 10,
    statistic: Annotated[
        str, typer.Option(help="mean, or p05: what 95 % of the queries reach.")
    ] = "mean",
    p95_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that 95 % of the searches shall keep within.")
    ] = None,
    queries: Queries = None,
    engine: Engine = "sql",
    budget_seconds: Annotated[float, typer.Option(help="About as long as it may take.")] = 60.0,
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Measures plans, stores the fastest one proven to reach a recall, and shows the evidence."""
    with _connect(dsn, home) as db:
        docs, choice = _engine(db.open(collection), engine)
        promise = docs.tune(
            recall=recall,
            k=k,
            statistic=cast("Statistic", statistic),  # the door checks it
            p95_ms=p95_ms,
            queries=_queries(queries),
            engine=choice,
            budget_seconds=budget_seconds,
            progress=True,
        )
        table = Table("plan", "recall", "5 %", "µs", box=None)
        timed = [(trial.microseconds, trial) for trial in docs.tried if trial.microseconds]
        for microseconds, trial in sorted(timed, key=itemgetter(0))[:12]:
            recalls = f"{trial.recall.mean:.4f}", f"{trial.recall.p05:.2f}"
            table.add_row(escape(str(trial.plan)), *recalls, f"{microseconds:,.0f}")
        out.print(table)
        out.print(f"chosen: {escape(str(promise.plan))}", highlight=False)
        out.print(f"[bold]promise[/]: {escape(str(promise))}", highlight=False)
        if promise.kind == "rows":
            out.print(
                "measured on rows of the collection; if your queries are of another kind, "
                "give --queries",
                style="dim",
                soft_wrap=True,
            )


@app.command()
def recall(
    collection: Name,
    k: K = 10,
    queries: Queries = None,
    where: Where = None,
    sample: Annotated[int, typer.Option(help="Rows to ask for, where no queries are given.")] = 500,
    engine: Engine = "sql",
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Measures the recall of searches as they are now."""
    with _connect(dsn, home) as db:
        docs, choice = _engine(db.open(collection), engine)
        r = docs.recall(
            _queries(queries), k=k, where=_filter(docs, where), sample=sample, engine=choice
        )
        table = Table("queries", "mean", "from", "to", "5th percentile", "minimum", box=None)
        bounds = (f"{share:.4f}" for share in (r.mean, r.low, r.high))
        table.add_row(str(r.queries), *bounds, f"{r.p05:.2f}", f"{r.minimum:.2f}")
        out.print(table)
        promise = docs.promise
        shown = "nothing is promised" if promise is None else f"promise: {escape(str(promise))}"
        out.print(shown, style="dim", highlight=False)


@app.command()
def explain(
    collection: Name,
    like: Like = None,
    vector: Vector = None,
    want: Annotated[
        list[str] | None,
        typer.Option(help="The id of a row that should be found; may be repeated."),
    ] = None,
    k: K = 10,
    where: Where = None,
    engine: Engine = "sql",
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Shows a search stage by stage, and what became of wanted rows."""
    with _connect(dsn, home) as db:
        docs, choice = _engine(db.open(collection), engine)
        keys = [docs.parse_key(text) for text in want or ()]
        trace = docs.explain(
            _query(docs, like, vector),
            as_stored=like is not None,
            want=keys or None,
            k=k,
            where=_filter(docs, where),
            engine=choice,
        )
        table = Table("stage", "rows in", "rows out", "bytes a row", "µs", box=None)
        for stage in trace.stages:
            rows_in = "all" if stage.rows_in is None else f"{stage.rows_in:,}"
            counts = rows_in, f"{stage.rows_out:,}", f"{stage.bytes_per_row:,}"
            table.add_row(escape(stage.name), *counts, f"{stage.microseconds or 0:,.0f}")
        out.print(table)
        for fate in trace.fates:
            out.print(escape(str(fate)), highlight=False)


@app.command()
def report(
    collection: Name,
    folder: Annotated[Path, typer.Option(help="Where report.html and the figures go.")] = Path(
        "report"
    ),
    k: K = 10,
    queries: Queries = None,
    engine: Engine = "sql",
    dsn: Dsn = None,
    home: Home = None,
) -> None:
    """Measures a collection and writes a page: recall by dims, plans, queries, energy, stages."""
    with _connect(dsn, home) as db:
        docs, choice = _engine(db.open(collection), engine)
        page = docs.report(folder, queries=_queries(queries), k=k, engine=choice)
        out.print(str(page), highlight=False, soft_wrap=True)


@app.command()
def doctor(dsn: Dsn = None, home: Home = None) -> None:
    """Says what is here, what is wrong and the way out: instruction set, server, collections."""
    folder = None if dsn else home or embedded.default_home()
    if not examine(lambda: _connect(dsn, home), folder, out):
        raise typer.Exit(1)


@app.command()
def upgrade(home: Home = None) -> None:
    """Brings the embedded server's data to the newest PostgreSQL here; nobody may be using it."""
    before, now = upgrade_cluster(embedded.default_home() if home is None else home)
    out.print(f"PostgreSQL {now}" if before == now else f"PostgreSQL {before} → {now}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context, home: Home = None) -> None:
    """Opens psql on the embedded server; further arguments go to it: mrl-db psql -c 'SELECT 1'."""
    with mrl_db.connect(home=home) as db:
        if db.server is None:
            raise MissingDependencyError(
                "psql here is for the embedded server; use your own for other servers"
            )
        program = db.server.binaries.program("psql")
        code = subprocess.run(
            [program, db.dsn, *context.args], env=dict(os.environ), check=False
        ).returncode
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
