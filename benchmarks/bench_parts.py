"""What merging parts costs over the slowest of them, and whether promises on merged answers are kept.

pip install '.[embedded,ray]' && python benchmarks/bench_parts.py --data SHARED --name parts

SHARED is the folder with debian-minilm: 62,666 real rows of 384 dims, 3,000 of which are held out as
queries. Two parts on two cores. Before any clock the merged exact answers must be the whole table's,
and walks must find at least .9 of them. Everything is timed in turns, a query at a time. Parts:

threads   one table in two parts of this process: the median of a merged search less the median of
          the slower part, asked by itself in the same way; in turns with merged searches whose parts
          all ask for themselves, each by a thread, and with an empty hand-over to a thread
servers   two databases that PostgreSQL searches, likewise
ray       two actors: a merged search, less the slower part of `threads`; in turns with calls of
          both actors that do nothing
batches   200 queries at once: two actors over the same two parts in one process, and over one
          process that has the whole table and two threads (which walks half as often)
promises  15 promises, each target with three seeds, over two parts of this process, tuned on rows;
          then the recall of the fresh queries
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psycopg
from psycopg import conninfo

import mrl_db
from mrl_db import parts
from mrl_db.evaluate.metrics import recall_at_k

K, PARTS, BATCH = 10, 2, 200
TARGETS = (0.90, 0.95, 0.98, 0.99, 0.995)
SEEDS = 3


def rows_and_queries(data: Path, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns real rows at unit length, and 3,000 that are none of them."""
    vectors = np.load(data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(42).permutation(len(vectors))
    chosen = order[3000 : 3000 + 8000] if quick else order[3000:]
    return vectors[np.sort(chosen)], vectors[order[:3000]]


def median_ms(took: list[float]) -> float:
    """Returns milliseconds."""
    return round(float(np.median(took)) * 1e3, 4)


def in_turns(
    ways: dict[str, Callable[[np.ndarray], Any]], queries: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Returns the median milliseconds of each way in each round, the ways in turns.

    Each way is asked for another query than the ones before it: else the first would bring the rows
    into the caches for all others.
    """
    medians: dict[str, list[float]] = {name: [] for name in ways}
    apart = max(1, len(queries) // len(ways))
    for _ in range(rounds):
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(len(queries)):
            for place, (name, way) in enumerate(ways.items()):
                query = queries[(number + place * apart) % len(queries)]
                began = time.perf_counter()
                way(query)
                took[name].append(time.perf_counter() - began)
        for name, own in took.items():
            medians[name].append(median_ms(own))
    return medians


def beyond(medians: dict[str, list[float]], merged: str, alone: list[str]) -> dict[str, Any]:
    """Returns what merging adds to the slowest part, in each round and in the middle of them."""
    added = [
        round(whole - max(each), 4)
        for whole, each in zip(
            medians[merged], zip(*(medians[name] for name in alone), strict=True), strict=True
        )
    ]
    return {**medians, "added_ms": added, "added_ms_middle": round(float(np.median(added)), 4)}


def check(merged: Any, docs: mrl_db.Collection, queries: np.ndarray, engine: str) -> float:
    """The exact answers must be the same, with ties; returns the recall of the plan in use."""
    route = "flat" if engine == "native" else "seqscan"
    stage = mrl_db.Stage(docs.dims, mrl_db.Precision.float32, K)
    truth = docs.search(queries, k=K, exact=True)
    exact = merged.search(queries, k=K, plan=mrl_db.Plan(route, 1, (stage,)))
    assert np.abs(exact.distances - truth.distances).max() < 1e-6
    same = (exact.ids == truth.ids).mean()
    assert same > 0.999, same  # float32 and float64 may order two that are nearly as near otherwise
    recall = float(np.mean(recall_at_k(merged.search(queries, k=K), truth)))
    assert recall > 0.9, recall
    return round(recall, 4)


def alone(part: Any, engine: str) -> Callable[[np.ndarray], Any]:
    """Returns a search of one part by itself: its own collection's engine, asked like a merged one."""
    opened = part.opened
    return lambda query: opened_search(opened, query, engine)


def opened_search(opened: Any, query: np.ndarray, engine: str) -> Any:
    """A search of a part by itself, by the shortest way that there is: it asks the log, and runs the plan."""
    if engine == "native":
        hits = opened.search_plainly(query, K, 0.0)
        assert hits is not None
        return hits
    runner = opened.engine(engine)
    runner.sync(0.0)
    return runner.search(opened.request(engine=runner), query[np.newaxis], runner.plan(K))


def servers(dsn: str, rows: np.ndarray) -> list[str]:
    """Makes a database for each part, with an empty collection in it."""
    made = []
    for number in range(PARTS):
        name = f"part_{number}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        made.append(conninfo.make_conninfo(dsn, dbname=name))
        with mrl_db.connect(made[-1]) as db:
            db.create_collection("docs", dims=rows.shape[1], nesting_dims=(128, rows.shape[1]))
    return made


def promises(docs: Any, whole: mrl_db.Collection, queries: np.ndarray, seconds: float) -> Any:
    """Returns each promise with the recall of fresh queries."""
    truth = whole.search(queries, k=K, exact=True)
    found = []
    for target in TARGETS:
        for seed in range(SEEDS):
            promise = docs.tune(recall=target, k=K, seed=seed, budget_seconds=seconds)
            recall = float(np.mean(recall_at_k(docs.search(queries, k=K), truth)))
            found.append(
                {
                    "target": target,
                    "seed": seed,
                    "recall": round(recall, 4),
                    "kept": recall >= target,
                    "plan": str(promise.plan),
                    "microseconds": round(promise.microseconds),
                }
            )
            print(found[-1], flush=True)
    return {"kept": sum(each["kept"] for each in found), "of": len(found), "promises": found}


def main() -> None:
    """Measures the parts that are asked for, and writes the record."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    every = ["threads", "servers", "ray", "batches", "promises"]
    parser.add_argument("--parts", nargs="*", choices=every, default=every)
    options = parser.parse_args()
    rows, fresh = rows_and_queries(options.data, options.quick)
    rounds, timed = (2, 100) if options.quick else (7, 400)
    record = machine.resume(options.name, "ray")

    def keep(name: str, found: Any) -> None:
        busy = {"load_average": round(os.getloadavg()[0], 1), "rows": len(rows)}
        machine.keep(options.name, record, name, {**busy, **found})

    with tempfile.TemporaryDirectory() as home, mrl_db.connect(home=Path(home) / "home") as db:
        os.environ["MRL_DB_CACHE"] = str(Path(home) / "cache")
        docs = db.create_collection("docs", dims=rows.shape[1], nesting_dims=(128, rows.shape[1]))
        docs.ingest(np.arange(len(rows)), rows)
        some = fresh[:timed]
        split = parts.open_threads(db, "docs", parts=PARTS)
        recall = check(split, docs, some, "native")
        of_parts = {
            f"part {n}": alone(part, "native") for n, part in enumerate(split._holding.crew.parts)
        }
        if "threads" in options.parts:
            together = split._holding.together
            hand = ThreadPoolExecutor(1)

            def apart(query: np.ndarray) -> None:
                split._holding.together = None
                split.search(query, k=K)
                split._holding.together = together

            ways = {
                "merged": lambda query: split.search(query, k=K),
                "merged, parts apart": apart,
                "empty hand-over": lambda _: hand.submit(int).result(),
                **of_parts,
            }
            medians = in_turns(ways, some, rounds)
            found = beyond(medians, "merged", list(of_parts))
            added = beyond(medians, "merged, parts apart", list(of_parts))["added_ms_middle"]
            keep("threads", {"recall": recall, **found, "added_ms_apart": added})
        if "servers" in options.parts:
            many = parts.open_servers(servers(db.dsn, rows), "docs", timeout=None)
            for begin in range(0, len(rows), 10_000):
                numbers = np.arange(begin, min(begin + 10_000, len(rows)))
                many.add(numbers, rows[numbers])
            many.create_index()
            recall = check(many, docs, some[:50], "sql")
            each = {
                f"server {n}": alone(part, "sql") for n, part in enumerate(many._holding.crew.parts)
            }
            ways = {"merged": lambda query: many.search(query, k=K), **each}
            found = beyond(in_turns(ways, some[: timed // 4], rounds), "merged", list(each))
            keep("servers", {"recall": recall, **found})
            many.close()
        if {"ray", "batches"} & set(options.parts):
            import ray  # costs a second, and 100 MB

            began = time.perf_counter()
            actors = parts.open_actors(db.dsn, "docs", parts=PARTS)
            start = round(time.perf_counter() - began, 1)
            recall = check(actors, docs, some, "native")
            if "ray" in options.parts:
                crew: list[Any] = list(actors._holding.crew.parts)
                both = [part.actor for part in crew]
                ways = {
                    "merged": lambda query: actors.search(query, k=K),
                    "both called for nothing": lambda _: ray.get(
                        [actor.process.remote() for actor in both]
                    ),
                    **of_parts,
                }
                found = beyond(in_turns(ways, some, rounds), "merged", list(of_parts))
                keep("ray", {"recall": recall, "start_seconds": start, **found})
            if "batches" in options.parts:
                docs.load(threads=2)
                batches = fresh[: len(fresh) // BATCH * BATCH].reshape(-1, BATCH, rows.shape[1])
                ways = {
                    "two actors": lambda batch: actors.search(batch, k=K),
                    "two parts": lambda batch: split.search(batch, k=K),
                    "whole, two threads": lambda batch: docs.search(batch, k=K),
                }
                medians = in_turns(ways, batches, rounds)
                found = {
                    f"actors_over_{name}": round(
                        float(np.median(np.divide(medians[name], medians["two actors"]))), 3
                    )
                    for name in ("two parts", "whole, two threads")
                }
                keep("batches", {**medians, **found})
                docs.unload()
            actors.close()
        if "promises" in options.parts:
            keep("promises", promises(split, docs, fresh, 5.0 if options.quick else 20.0))
        split.close()


if __name__ == "__main__":
    main()
