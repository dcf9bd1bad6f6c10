"""What the native engine promises beside speed at equal recall: each line of the table is checked, then timed.

python benchmarks/bench_native.py --data FOLDER --name native

FOLDER holds debian-minilm. Ratios are of interleaved rounds within the run, medians with quartiles.

- flat batch: int8 codes of 128 dims, one thread, share of the VPDPBUSD ceiling of the same round
- flat query: the same codes, 512 MiB of them, share of the read bandwidth of the same round
- call: microseconds of one `Collection.search` beyond what the C++ side measured
- memory: bytes beside the float32 rows over what docs/native.md says
- life: 30 % deleted and as many inserted, against a fresh build of the same rows
- filters: k rows, recall and time over the unfiltered search, at 50, 10, 1 and 0.1 %
- builds: "fast" against the default
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import gc
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from bench_kernels import build_ceilings, seconds
from bench_peers import least_similarity, load, recall
from curves import at_recall

import mrl_db
from mrl_db import Precision, _kernels, flat_plan, graph_plan
from mrl_db.engines.native.memory import footprint

K = 10
NOT_ASKED = 3600.0  # seconds of staleness that are allowed: no search asks PostgreSQL what is new, which bench_freshness.py measures


def quartiles(ratios: list[float]) -> list[float]:
    return [round(float(q), 3) for q in np.percentile(ratios, (25, 50, 75))]


def flat(rounds: int, ceilings) -> dict[str, object]:
    """Batch and single query over int8 codes of 128 dims."""
    rng = np.random.default_rng(0)
    dims, width = 256, 128

    def loaded(rows: int) -> _kernels.Index:
        index = _kernels.Index(_kernels.Metric.cosine, dims, _kernels.KeyType.int64, False)
        index.reserve(rows)
        for begin in range(0, rows, 100_000):
            count = min(100_000, rows - begin)
            keys = np.arange(begin, begin + count).view(np.uint8).reshape(-1, 8)
            index.append(keys, rng.standard_normal((count, dims), dtype=np.float32), 2)
        index.add_flat_codes(_kernels.Space.prefix, width, _kernels.Precision.int8, None, 2)
        return index

    prefix, whole = _kernels.Space.prefix, _kernels.Precision.float32
    stages = [(prefix, width, _kernels.Precision.int8, 20), (prefix, dims, whole, K)]
    plan = _kernels.NativePlan(_kernels.Route.flat, 1, stages)
    queries = rng.standard_normal((1000, dims), dtype=np.float32)
    batch, single = [], []
    small = loaded(100_000)
    one = small.search_many(queries[:3], plan, None, 1)[0]
    assert (small.search_many(queries, plan, None, 1)[0][:3] == one).all(), (
        "tiles and single scans differ"
    )
    for _ in range(rounds):
        products = 1_000_000 * 16 * 64 / seconds(lambda: ceilings.vpdpbusd_only(1_000_000), 0.2)
        # The stage's own time: the rest of the plan is not what is held against the ceiling.
        nanoseconds = min(small.search_many(queries, plan, None, 1)[2][0][2] for _ in range(2))
        batch.append(len(queries) * 100_000 * width / (nanoseconds * 1e-9) / products)
    del small
    gc.collect()
    rows = (512 << 20) // width
    large = loaded(rows)
    memory = np.ones(128 << 20, dtype=np.float32)
    for _ in range(rounds):
        bandwidth = memory.nbytes / min(
            seconds(lambda: ceilings.read_all(memory.ctypes.data, memory.size), 0.2),
            seconds(lambda: ceilings.read_all_plain(memory.ctypes.data, memory.size), 0.2),
        )
        nanoseconds = min(large.search_many(queries[:1], plan, None, 1)[2][0][2] for _ in range(3))
        single.append(
            rows * (width + 4) / (nanoseconds * 1e-9) / bandwidth
        )  # codes and their factors
    return {
        "flat batch over the VPDPBUSD ceiling": quartiles(batch),
        "flat query over the read bandwidth": quartiles(single),
    }


def speed(docs: mrl_db.Collection, queries: np.ndarray, **options: object) -> float:
    began = time.perf_counter()
    for query in queries:
        docs.search(query, k=K, max_staleness=NOT_ASKED, **options)
    return len(queries) / (time.perf_counter() - began)


def curve(
    docs: mrl_db.Collection,
    rows: np.ndarray,
    place: dict[int, int],
    queries: np.ndarray,
    least: np.ndarray,
) -> dict[int, float]:
    """Recall of each effort."""
    found = {}
    for effort in (22, 30, 40, 60, 80, 110, 160):
        ids = docs.search(queries, k=K, plan=graph_plan(dims=docs.dims, k=K, effort=effort)).ids
        found[effort] = recall(rows, queries, np.vectorize(place.__getitem__)(ids), least)
    return found


def life(
    db: mrl_db.Database, rows: np.ndarray, queries: np.ndarray, rounds: int
) -> dict[str, object]:
    """Deletes 30 % of the rows, inserts as many others, and compares with a fresh build."""
    rng = np.random.default_rng(2)
    first = len(rows) * 10 // 13
    gone = rng.choice(first, len(rows) - first, replace=False)
    docs = db.create_collection("life", dims=rows.shape[1])
    docs.ingest(np.arange(first), rows[:first], index=False)
    docs.load()
    native = docs.loaded
    assert native is not None
    began = time.perf_counter()
    docs.delete(gone)
    native.sync()
    deleting = time.perf_counter() - began
    began = time.perf_counter()
    docs.add(np.arange(first, len(rows)), rows[first:])
    native.sync()
    found = time.perf_counter() - began
    while native.index.waiting:
        time.sleep(0.01)
    inserting = time.perf_counter() - began
    fresh = db.open("life")
    fresh.load(cache=False)  # built, not mapped from the file that the other one left
    left = np.setdiff1d(np.arange(len(rows)), gone)
    place = {int(key): number for number, key in enumerate(left)}
    least = least_similarity(rows[left], queries, K)
    curves = {
        name: curve(each, rows[left], place, queries, least)
        for name, each in (("lived", docs), ("fresh", fresh))
    }
    speeds: dict[str, list[list[float]]] = {"lived": [], "fresh": []}
    for _ in range(rounds):
        for name, each in (("lived", docs), ("fresh", fresh)):
            speeds[name].append(
                [
                    speed(each, queries, plan=graph_plan(dims=docs.dims, k=K, effort=effort))
                    for effort in curves[name]
                ]
            )
    at = {
        name: np.array(
            [
                [at_recall(list(curves[name].values()), np.array(s), t) for t in (0.95, 0.98)]
                for s in speeds[name]
            ]
        )
        for name in curves
    }
    ratios = at["lived"] / at["fresh"]
    return {
        "rows": len(left),
        "delete, rows/s": round(len(gone) / deleting),
        "insert until found, rows/s": round((len(rows) - first) / found),
        "insert until linked, rows/s": round((len(rows) - first) / inserting),
        "recall by effort, lived": curves["lived"],
        "recall by effort, fresh": curves["fresh"],
        "queries/s lived over fresh at recall .95": quartiles(list(ratios[:, 0])),
        "queries/s lived over fresh at recall .98": quartiles(list(ratios[:, 1])),
    }


def filters(
    db: mrl_db.Database, rows: np.ndarray, queries: np.ndarray, rounds: int
) -> dict[str, object]:
    """A condition that selects a share of the rows, at random, against no condition."""
    docs = db.create_collection("filtered", dims=rows.shape[1], columns={"lot": "integer"})
    docs.ingest(
        np.arange(len(rows)),
        rows,
        lot=np.random.default_rng(3).integers(0, 1000, len(rows)),
        index=False,
    )
    docs.load()
    results: dict[str, object] = {}
    for share in (500, 100, 10, 1):
        where = {"lot": {"$lt": share}}
        allowed = np.sort(docs.search(queries[0], k=len(rows), where=where, exact=True).ids)
        if len(allowed) < K:
            continue
        least = least_similarity(rows[allowed], queries, K)
        ids = np.stack([docs.search(query, k=K, where=where).ids for query in queries])
        assert ids.shape == (len(queries), min(K, len(allowed)))
        assert np.isin(ids, allowed).all()
        native = docs.loaded
        request, plan = docs._opened.request(where), docs.loaded.plan(K)
        plain = docs._opened.request()

        def timed(asked, native=native, plan=plan) -> float:
            began = time.perf_counter()
            for query in queries:
                native.search(asked, query[np.newaxis], plan)
            return time.perf_counter() - began

        ratios = [timed(request) / timed(plain) for _ in range(rounds)]
        results[f"{share / 10:g} %"] = {
            "recall": round(
                recall(rows[allowed], queries, np.searchsorted(allowed, ids), least), 4
            ),
            "time over unfiltered": quartiles(ratios),
        }
    return results


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows, queries = load(options.data, "debian")
    if options.quick:
        rows, queries, options.rounds = rows[:8000], queries[:200], 2
    results: dict[str, object] = flat(options.rounds, build_ceilings())
    print(results, flush=True)
    with tempfile.TemporaryDirectory() as folder, mrl_db.connect(home=Path(folder) / "home") as db:
        docs = db.create_collection("docs", dims=rows.shape[1])
        docs.ingest(np.arange(len(rows)), rows, index=False)
        memory = {}
        for name, arguments in {
            "graph": {},
            "graph, rows in PostgreSQL": {"rows": "postgres"},
            "flat int4": {"route": "flat"},
            "flat int8 of 128 dims": {
                "plan": flat_plan(dims=docs.dims, low_dims=128, precision=Precision.int8)
            },
            "flat bit": {"plan": flat_plan(dims=docs.dims, precision=Precision.bit)},
        }.items():
            began = time.perf_counter()
            docs.load(**arguments)
            taken = time.perf_counter() - began
            expected = footprint(
                len(rows),
                docs._opened.info,
                docs.loaded.followed_plan,
                in_memory=docs.loaded.in_memory,
            )
            beside = docs.loaded.bytes - docs.loaded.vector_bytes
            memory[name] = {
                "load seconds": round(taken, 2),
                "bytes a row": round(beside / len(rows)),
                "over the formula": round(beside / expected.resident, 3),
            }
        results["memory beside float32 rows"] = memory
        print(memory, flush=True)
        docs.load(effort=1)
        query = queries[0]
        calls = []
        for _ in range(options.rounds):
            whole = seconds(lambda: docs.search(query, max_staleness=NOT_ASKED), 0.2) * 1e6
            inside = min(
                docs.search(query, max_staleness=NOT_ASKED).trace.microseconds for _ in range(200)
            )
            calls.append(whole - inside)
        results["call, microseconds beyond C++"] = quartiles(calls)
        print(results["call, microseconds beyond C++"], flush=True)
        docs.unload()
        results["life"] = life(db, rows, queries, options.rounds)
        print(results["life"], flush=True)
        results["filters"] = filters(db, rows, queries, options.rounds)
        print(results["filters"], flush=True)
    if options.name:
        print(machine.save(options.name, {**machine.describe(), **results}))


if __name__ == "__main__":
    main()
