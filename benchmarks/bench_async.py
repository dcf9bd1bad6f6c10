"""What awaiting costs: a crowd of searches with some cancelled, and a search with nothing to ask.

python benchmarks/bench_async.py --data FOLDER --name async

The crowd are 1,000 SQL searches at once over 8 connections, 100 of them cancelled in flight. Their
answers are checked against the plain face's; connections and statements are counted afterwards;
every step of the event loop is timed, in CPU time as the machine may be busy, and what of it is a pass
of Python's garbage collector. Then single searches
of loaded rows, plain, awaited and by a thread for each, in turns.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import tempfile
import time
from asyncio import events
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psycopg

import mrl_db

ROWS, SEARCHES, CANCELLED, CONNECTIONS, K = 20_000, 1000, 100, 8, 10


class Steps:
    """The CPU seconds of each step of the event loop, while `on`, and Python's garbage collector's part."""

    def __init__(self) -> None:
        self.on = False
        self.seconds: list[float] = []
        self.collected: list[float] = []
        self._collecting = self._began = 0.0
        run = events.Handle._run

        def timed(handle: Any) -> None:
            self._collecting = 0.0
            began = time.thread_time()
            run(handle)
            if self.on:
                self.seconds.append(time.thread_time() - began)
                self.collected.append(self._collecting)

        gc.callbacks.append(self._collect)
        events.Handle._run = timed  # type: ignore[method-assign]

    def _collect(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self._collecting += time.thread_time() - self._began


async def crowd(docs: mrl_db.AsyncCollection, queries: np.ndarray, dsn: str) -> dict[str, object]:
    """Searches all at once; the figures of the steps and of what is left."""
    expected = (await asyncio.to_thread(docs.plain.search, queries, k=K)).ids
    steps = Steps()
    tasks = [asyncio.create_task(docs.search(query, k=K)) for query in queries]
    await asyncio.sleep(0)
    steps.on = True
    for number in range(CANCELLED):
        await asyncio.sleep(0.002)
        tasks[number * (SEARCHES // CANCELLED) + 5].cancel()
    await asyncio.wait(tasks)
    steps.on = False
    answers = [task for task in tasks if not task.cancelled()]
    wrong = sum(
        task.result().ids.tolist() != ids.tolist()
        for task, ids in zip(tasks, expected, strict=True)
        if not task.cancelled()
    )
    with psycopg.connect(dsn) as connection:
        left = connection.execute(
            "SELECT state, count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
            "pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY 1"
        ).fetchall()
    milliseconds, collected = 1e3 * np.array(steps.seconds), 1e3 * np.array(steps.collected)
    return {
        "answers": len(answers),
        "wrong": wrong,
        "cancelled": len(tasks) - len(answers),
        "connections by state": dict(left),
        "steps": len(milliseconds),
        "ms of CPU, median, 99.9 %, most": [
            round(float(np.quantile(milliseconds, part)), 3) for part in (0.5, 0.999, 1)
        ],
        "without the garbage collector's: 99.9 %, most": [
            round(float(np.quantile(milliseconds - collected, part)), 3) for part in (0.999, 1)
        ],
        "of the garbage collector: most": round(float(collected.max()), 3),
    }


async def one_by_one(docs: mrl_db.AsyncCollection, query: np.ndarray) -> dict[str, object]:
    """Microseconds of a search with nothing to ask: median and 10th percentile."""

    async def plain() -> None:
        docs.plain.search(query, k=K)

    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "plain": plain,
        "awaited": lambda: docs.search(query, k=K),
        "a thread each": lambda: asyncio.to_thread(docs.plain.search, query, k=K),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(2000):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            took[name].append((time.perf_counter() - began) * 1e6)
    return {
        name: [round(statistics.median(each), 1), round(float(np.quantile(each, 0.1)), 1)]
        for name, each in took.items()
    }


async def run(home: Path, vectors: np.ndarray, record: dict[str, Any], name: str | None) -> None:
    """Loads the rows, and measures."""
    rows, queries = vectors[:ROWS], vectors[ROWS : ROWS + SEARCHES]
    async with await mrl_db.connect_async(home=home, pool_size=CONNECTIONS) as db:
        docs = await db.create_collection("docs", dims=rows.shape[1])
        await docs.ingest(np.arange(len(rows)), rows)
        await asyncio.gather(*(docs.search(query, k=K) for query in queries[:32]))
        machine.keep(name, record, "crowd", await crowd(docs, queries, db.dsn))
        await docs.load(max_staleness=3600)
        machine.keep(name, record, "one", await one_by_one(docs, queries[0]))


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    real = np.load(options.data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
    record = machine.resume(options.name, "psycopg", "psycopg-pool", "greenlet")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRL_DB_CACHE"] = str(Path(folder) / "cache")
        asyncio.run(run(Path(folder) / "home", real, record, options.name))


if __name__ == "__main__":
    main()
