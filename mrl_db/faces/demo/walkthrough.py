"""The walk of `mrl-db demo`: load, search by example, filter, measure recall and time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrl_db.collection import Collection
from mrl_db.database import Database
from mrl_db.evaluate.metrics import recall_at_k
from mrl_db.faces.demo import load_packages
from mrl_db.kernels import simd

NAME = "demo_packages"
_HELD_OUT = 200  # rows that are not loaded: the queries that recall is measured with
_EXAMPLES = ("gimp", "r-cran-ggplot2")


def run_demo(db: Database, out: Console) -> None:
    """Runs the demo against a database and prints what it measures.

    The collection `demo_packages` is made anew, and stays.
    """
    packages = load_packages()
    keep = np.ones(len(packages.names), dtype=bool)
    keep[
        np.random.default_rng(0).choice(
            [i for i, name in enumerate(packages.names) if name not in _EXAMPLES],
            _HELD_OUT,
            replace=False,
        )
    ] = False
    rows = np.flatnonzero(keep)
    queries = packages.vectors[~keep]

    versions = f"PostgreSQL {db.server_version}, pgvector {db.pgvector_version}"
    out.print(f"[bold]{versions}, kernels: {simd()}[/]", highlight=False)
    if NAME in db.list():
        db.drop(NAME)
    docs = db.create_collection(
        NAME,
        dims=384,
        nesting_dims=(64, 128, 384),
        key_type="text",
        columns={"description": "text", "section": "text"},
    )
    began = time.perf_counter()
    docs.ingest(
        [packages.names[i] for i in rows],
        packages.vectors[rows],
        description=[packages.descriptions[i] for i in rows],
        section=[packages.sections[i] for i in rows],
        index=False,
        progress=True,
    )
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    docs.create_index(progress=True)
    indexed = time.perf_counter() - began
    out.print(
        f"loaded {len(rows):,} Debian packages × 384 dims in {loaded:.1f} s "
        f"({len(rows) / loaded:,.0f} rows/s), "
        f"indexed them by {docs.index_kind} in {indexed:.1f} s\n",
        highlight=False,
        soft_wrap=True,
    )
    _search_by_example(docs, out)
    _measure(docs, queries, out)
    _measure_native(docs, queries, out)
    out.print(
        f"The collection stays: mrl-db search {NAME} --like gimp\n"  # noqa: S608  # shown, not run
        f'                      mrl-db psql -c "SELECT h.* FROM {NAME} p, '
        f"mrl.search_{NAME}(p.embedding, 5) h WHERE p.id = 'gimp'\"",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )


def _search_by_example(docs: Collection, out: Console) -> None:
    for title, like, where in (
        (f"like {_EXAMPLES[0]}", _EXAMPLES[0], None),
        (
            f"like {_EXAMPLES[1]}, in Python: where={{'section': 'python'}}",
            _EXAMPLES[1],
            {"section": "python"},
        ),
    ):
        hits = docs.search(
            docs.get(like).vectors[0], k=5, where=where, columns=("section", "description")
        )
        table = Table(
            "package",
            "distance",
            "section",
            "description",
            title=escape(title),
            title_justify="left",
            box=None,
        )
        for row in hits.to_list():
            table.add_row(
                escape(row["id"]),
                f"{row['distance']:.3f}",
                escape(row["section"]),
                escape(row["description"]),
            )
        out.print(table)
        out.print()


def _measure(
    docs: Collection, queries: np.ndarray[Any, np.dtype[np.float32]], out: Console
) -> None:
    exact = docs.search(queries, k=10, exact=True)
    hits = docs.search(queries, k=10)
    recall = recall_at_k(hits, exact)
    traces = [docs.explain(query, k=10) for query in queries[:50]]
    table = Table(
        "stage",
        "rows in",
        "rows out",
        "bytes a row",
        "ms",
        title="one search, stage by stage",
        title_justify="left",
        box=None,
    )
    for number, stage in enumerate(traces[0].stages):
        milliseconds = (
            float(np.median([trace.stages[number].microseconds or 0.0 for trace in traces])) / 1000
        )
        rows_in = f"{docs.count():,}" if stage.rows_in is None else f"{stage.rows_in:,}"
        table.add_row(
            stage.name,
            rows_in,
            f"{stage.rows_out:,}",
            f"{stage.bytes_per_row:,}",
            f"{milliseconds:.2f}",
        )
    out.print(table)
    began = time.perf_counter()
    for query in queries[:50]:
        docs.search(query, k=10)
    each = (time.perf_counter() - began) / 50 * 1000
    out.print(
        f"\nrecall@10 against exact, {len(queries)} queries that are not in the collection: "
        f"[bold]mean {recall.mean():.4f}[/], 5th percentile {np.percentile(recall, 5):.2f}, "
        f"minimum {recall.min():.2f}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(
        f"one search from Python, round trip included: [bold]{each:.2f} ms[/]\n", highlight=False
    )


def _measure_native(
    docs: Collection, queries: np.ndarray[Any, np.dtype[np.float32]], out: Console
) -> None:
    exact = docs.search(queries, k=10, exact=True)
    began = time.perf_counter()
    docs.load()
    loading = time.perf_counter() - began
    engine = docs.loaded
    if engine is None:
        return
    recall = recall_at_k(docs.search(queries, k=10), exact)
    microseconds = []
    for staleness in (0.0, 60.0):
        began = time.perf_counter()
        for query in queries:
            docs.search(query, k=10, max_staleness=staleness)
        microseconds.append((time.perf_counter() - began) / len(queries) * 1e6)
    out.print(
        f"the same loaded into this process (docs.load(), {loading:.1f} s, "
        f"{engine.bytes / 2**20:.0f} MiB): recall@10 [bold]{recall.mean():.4f}[/], "
        f"one search [bold]{microseconds[0]:.0f} µs[/] as fresh as the database, "
        f"[bold]{microseconds[1]:.0f} µs[/] with max_staleness=60\n",
        highlight=False,
        soft_wrap=True,
    )
    docs.unload()
