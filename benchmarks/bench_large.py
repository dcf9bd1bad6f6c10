"""Ten million rows of 128 dims on one machine: loaded whole, and in four parts, in 20 GiB.

python benchmarks/bench_large.py --data SHARED --work FOLDER --name large [--millions 10 --parts 4]
    [--dims 128] [--ways whole parts ours FAISS SVS --fewer 4]

SHARED is the folder with openai3s-almedalen, whose spectrum and neighbourhoods the rows have
(generated.py, a seed for each million); FOLDER needs 15 GB. A thousand more of the same are the
queries. Exact answers come from NumPy, over all rows. Each way runs in a process of its own: it
loads out of PostgreSQL, with two threads, without a file; what it takes at most is what the system
counts. Then, by the default plan and for efforts in turn: recall@10, and the median of single
queries and a batch of all of them. Searches do not ask what is new: that would be the same for all.

FAISS and SVS hold the first millions of the same rows, as many as --fewer says, from memory, and
so does an index of ours (ours). Their graphs are built with less effort than bench_peers.py has
them built with: by that, ten million rows would take these cores hours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
from generated import generate
from numpy.typing import NDArray
from peers import Faiss, Ours, Svs, System

import mrl_db
from mrl_db import parts

K, MILLION, QUERIES = 10, 1_000_000, 1_000
EFFORTS = (24, 48, 96, 192, 384)
ROUNDS = 5


def most_bytes() -> int:
    """Returns the most memory that this process had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Truth:
    """The nearest rows of each query among those that came, exact in float32."""

    def __init__(self, queries: NDArray[np.float32]) -> None:
        self._queries = queries
        self._products = np.full((len(queries), K), -np.inf, dtype=np.float32)
        self.ids = np.zeros((len(queries), K), dtype=np.int64)

    def take(self, first: int, rows: NDArray[np.float32]) -> None:
        """Looks at rows whose keys are first, first + 1, …"""
        products = self._queries @ rows.T
        best = np.argpartition(-products, K, axis=1)[:, :K]
        products = np.hstack([self._products, np.take_along_axis(products, best, axis=1)])
        ids = np.hstack([self.ids, best + first])
        order = np.argsort(-products, axis=1)[:, :K]
        self._products = np.take_along_axis(products, order, axis=1)
        self.ids = np.take_along_axis(ids, order, axis=1)


def fill(dsn: str, source: Path, work: Path, millions: int, dims: int) -> None:
    """Writes the rows into the collection, the queries and their exact answers into `work`."""
    each = QUERIES // millions
    made = generate(source, MILLION + each, dims, seed=0)
    # The queries of all millions come first: the exact answers are looked for in one pass.
    queries = [made[MILLION:].copy()]
    for seed in range(1, millions):
        queries.append(generate(source, MILLION + each, dims, seed=seed)[MILLION:].copy())
    truth = Truth(np.concatenate(queries))

    def batches() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for seed in range(millions):
            rows = generate(source, MILLION + each, dims, seed=seed)[:MILLION]
            for begin in range(0, MILLION, 50_000):
                block, first = rows[begin : begin + 50_000], seed * MILLION + begin
                truth.take(first, block)
                yield np.arange(first, first + len(block)), block
            print(f"{seed + 1} of {millions} million rows", flush=True)

    with mrl_db.connect(dsn) as db:
        docs = db.create_collection("docs", dims=dims)
        docs.ingest(batches(), index=False)
    np.savez(work / "queries.npz", queries=truth._queries, ids=truth.ids)


def searches(
    points: tuple[int | None, ...],
    planned: Callable[[Any, int], Any],
    search: Callable[[NDArray[np.float32], Any], NDArray[np.int64]],
    known: Any,
    threads: int,
) -> dict[str, Any]:
    """Returns recall@10 and times of single queries and batches, for efforts in turn.

    Args:
        points: The efforts; None: the default plan.
        planned: Returns what a search takes for one of them, and for so many threads.
        search: Returns the keys of queries' answers, or of one query's.
        known: Queries, and the keys of their exact answers.
        threads: Of a batch.
    """
    queries, truth = known["queries"], known["ids"]
    found: dict[str, Any] = {}
    for point in points:
        plan = planned(point, threads)
        ids = search(queries, plan)
        same = [len(np.intersect1d(a, b)) for a, b in zip(ids, truth, strict=True)]
        batches = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            search(queries, plan)
            batches.append(time.perf_counter() - start)
        plan, took = planned(point, 1), []
        for query in queries:
            start = time.perf_counter()
            search(query, plan)
            took.append(time.perf_counter() - start)
        found["default plan" if point is None else f"effort {point}"] = {
            "recall": round(float(np.mean(same)) / K, 4),
            "median_us": round(float(np.median(took)) * 1e6, 1),
            "batch_queries_a_second": round(len(queries) / min(batches)),
        }
    return found


def measure(way: str, dsn: str, work: Path, threads: int) -> dict[str, Any]:
    """Loads in one way, and returns seconds, bytes and the searches at every effort."""
    known = np.load(work / "queries.npz")
    before, began = most_bytes(), time.perf_counter()
    with mrl_db.connect(dsn) as db:
        options: dict[str, Any] = {"cache": False, "max_staleness": float("inf")}
        if way == "whole":
            docs: Any = db.open("docs")
            docs.load(threads=threads, **options)
            loaded = [docs.loaded]
        else:
            docs = parts.open_threads(db, "docs", parts=int(way), threads=threads, **options)
            loaded = [part.opened.native() for part in docs._holding.crew.parts]
        found: dict[str, Any] = {
            "rows": sum(each.rows for each in loaded),
            "load_seconds": round(time.perf_counter() - began),
            "load_cpu_seconds": round(time.process_time()),
            "peak_gib": round((most_bytes() - before) / 2**30, 2),
            "bytes_a_row": round(sum(e.bytes for e in loaded) / sum(e.rows for e in loaded)),
            "load_average": round(os.getloadavg()[0], 1),
        }
        dims = docs.dims
        found |= {"dims": dims, "default": str(docs.plan)}
        print(f"loaded: {found}", file=sys.stderr, flush=True)
        return found | searches(
            (None, *EFFORTS),
            lambda effort, _: effort and mrl_db.graph_plan(dims=dims, k=K, effort=effort),
            lambda queries, plan: docs.search(queries, k=K, plan=plan).ids,
            known,
            threads,
        )


def beside(way: str, source: Path, millions: int, dims: int, threads: int) -> dict[str, Any]:
    """Builds a library's index of some millions of the rows, and returns the same of it."""
    system: System
    if way == "ours":
        system = Ours()
    elif way == "FAISS":
        system = Faiss("HNSW32", "HNSW32", (), "efSearch", {"efConstruction": 40})
    else:
        system = Svs("float16")
        system.degree, system.window = 32, 64
    each = QUERIES // millions
    rows = np.empty((millions * MILLION, dims), dtype=np.float32)
    queries = np.empty((millions * each, dims), dtype=np.float32)
    for seed in range(millions):
        made = generate(source, MILLION + each, dims, seed=seed)
        rows[seed * MILLION : (seed + 1) * MILLION] = made[:MILLION]
        queries[seed * each : (seed + 1) * each] = made[MILLION:]
    truth = Truth(queries)
    for begin in range(0, len(rows), 50_000):
        truth.take(begin, rows[begin : begin + 50_000])
    began, used = time.perf_counter(), time.process_time()
    system.build(rows)
    found: dict[str, Any] = {
        "system": system.name,
        "rows": len(rows),
        "dims": dims,
        "build_seconds": round(time.perf_counter() - began),
        "build_cpu_seconds": round(time.process_time() - used),
        "peak_gib": round(most_bytes() / 2**30, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }
    print(f"loaded: {found}", file=sys.stderr, flush=True)

    def search(queries: NDArray[np.float32], _: Any) -> NDArray[np.int64]:
        return system.many(queries) if queries.ndim == 2 else system.one(queries)

    known = {"queries": queries, "ids": truth.ids}
    return found | searches(
        (*EFFORTS, 768, 1536),
        lambda effort, threads: system.set(effort, K, threads),
        search,
        known,
        threads,
    )


def main() -> None:
    """Fills the table once; then each way in a process of its own."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--millions", type=int, default=10)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fewer", type=int, default=4, help="millions beside other libraries")
    parser.add_argument("--ways", nargs="*", default=["whole", "parts"])
    parser.add_argument("--way", help="(one way, in this process)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    record = machine.resume(options.name, "faiss-cpu", "scalable-vs")
    source, millions = options.data / "openai3s-almedalen", 1 if options.quick else options.millions
    if options.way in ("ours", "FAISS", "SVS"):
        fewer = min(millions, options.fewer)
        print(json.dumps(beside(options.way, source, fewer, options.dims, options.threads)))
        return
    with mrl_db.connect(home=options.work / "home") as db:
        if options.way:
            print(json.dumps(measure(options.way, db.dsn, options.work, options.threads)))
            return
        if not (options.work / "queries.npz").exists():
            if "docs" in db:
                db.drop("docs")
            fill(db.dsn, source, options.work, millions, options.dims)
        for name in options.ways:
            way = str(options.parts) if name == "parts" else name
            printed = subprocess.run(
                [sys.executable, *sys.argv, "--way", way],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            machine.keep(
                options.name,
                record,
                f"{name}",
                json.loads(printed.splitlines()[-1]),
            )


if __name__ == "__main__":
    main()
