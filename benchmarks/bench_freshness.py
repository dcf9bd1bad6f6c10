"""What it costs that a loaded collection is as fresh as its database, and how soon one is open again.

pip install '.[embedded]' && python benchmarks/bench_freshness.py --data SHARED --name freshness

SHARED is the folder with debian-minilm and openai3s-almedalen. Parts, each of which checks its answers before its clock:

log       a COPY of the 63,666 rows into a collection's table, with the change log's triggers and with them taken away, in turn; with the low-dim
          HNSW index and without
check     the question whether anything is new, when nothing is, beside SELECT 1 through the same connection
apply     changes by another client until a native search has seen them, rows/s: inserted, replaced, deleted; while another thread searches
open      load() out of the file against building, 200,000 x 768 generated rows: seconds, and the memory that a second process takes for itself
filter    a filtered search after one write by another client, 1,000,000 x 16 generated rows of which all, half or a thousandth pass: beside the same
          search when nothing was written, one without the filter after a write, SELECT 1, asking for all rows that pass as after no other search, and a write
          whose rows are copied and then judged, in two statements
churn     memory over searches and over open and close
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import gc
import multiprocessing
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psycopg
from generated import generate

import mrl_db
from mrl_db.postgres import written


def quartiles(values: Any, digits: int = 3) -> list[float]:
    """Returns the 25th, 50th and 75th percentile."""
    return [round(float(q), digits) for q in np.percentile(values, (25, 50, 75))]


def resident(kind: str = "Rss") -> int:
    """Returns bytes of this process's memory: Rss, or what is its own (Private_Dirty)."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(kind)


def log_cost(
    db: mrl_db.Database, vectors: np.ndarray, rounds: int, *, indexed: bool, whole: bool
) -> dict[str, Any]:
    """Returns the cost of the log as ratios of loading times: of `add`, or of one COPY statement that someone else sends (whole)."""
    rows = len(vectors)
    tables = {}
    stream: list[bytes] = []
    for name, logged in (("logged", True), ("plain", False)):
        tables[name] = db.create_collection(f"{name}_{int(indexed)}", dims=vectors.shape[1])
        if indexed:
            tables[name].create_index()
        if logged:
            with psycopg.connect(db.dsn, autocommit=True) as connection:
                connection.execute("SELECT mrl.log_changes(%s)", (f"{name}_{int(indexed)}",))
    statement = psycopg.sql.SQL("COPY {table} (id, embedding) {way} (FORMAT binary)")
    into, out = psycopg.sql.SQL("FROM STDIN"), psycopg.sql.SQL("TO STDOUT")
    seconds: dict[str, list[float]] = {name: [] for name in tables}
    for number in range(rounds + 1):
        for name in (
            sorted(tables, key=lambda _: np.random.default_rng(number).random())
            if number % 2
            else list(tables)
        ):
            tables[name].delete(where={})
            with psycopg.connect(db.dsn, autocommit=True) as connection:
                connection.execute(
                    psycopg.sql.SQL("VACUUM {}").format(
                        psycopg.sql.Identifier(f"{name}_{int(indexed)}")
                    )
                )
                connection.execute("CHECKPOINT")
            with psycopg.connect(db.dsn) as connection, connection.cursor() as cursor:
                began = time.perf_counter()
                if stream:
                    with cursor.copy(
                        statement.format(
                            table=psycopg.sql.Identifier(f"{name}_{int(indexed)}"), way=into
                        )
                    ) as copy:
                        for piece in stream:
                            copy.write(piece)
                    connection.commit()
                else:
                    tables[name].add(np.arange(rows), vectors)
                seconds[name].append(time.perf_counter() - began)
                if whole and not stream:
                    with cursor.copy(
                        statement.format(
                            table=psycopg.sql.Identifier(f"{name}_{int(indexed)}"), way=out
                        )
                    ) as copy:
                        sent = [bytes(piece) for piece in copy]
                    stream = [
                        b"".join(sent[begin : begin + 170]) for begin in range(0, len(sent), 170)
                    ]
            assert tables[name].count() == rows
    ratios = np.array(seconds["logged"][1:]) / np.array(seconds["plain"][1:])
    for name in tables:
        db.drop(f"{name}_{int(indexed)}")
    return {
        "rows_per_s": round(rows / float(np.median(seconds["logged"][1:]))),
        "logged_over_plain": quartiles(ratios),
    }


def check_cost(db: mrl_db.Database, rounds: int) -> dict[str, Any]:
    """Returns the time of a sync when nothing is new, and of SELECT 1 through psycopg."""
    docs = db.create_collection("small", dims=8)
    docs.add([1, 2], np.eye(2, 8, dtype=np.float32))
    docs.load(cache=False)
    query = np.eye(1, 8, dtype=np.float32)[0]
    assert docs.search(query, k=1).ids[0] == 1
    assert docs.loaded is not None
    cursor = docs.loaded._live._link.connection().cursor()
    ways: dict[str, Any] = {
        "sync": docs.loaded.sync,
        "one": lambda: cursor.execute("SELECT 1").fetchone(),
    }
    times: dict[str, list[float]] = {"sync": [], "one": []}
    for _ in range(rounds):
        spent: dict[str, list[float]] = {"sync": [], "one": []}
        for _ in range(
            100
        ):  # in short turns: who wakes whom on which core changes from moment to moment
            for name, call in ways.items():
                began = time.perf_counter()
                for _ in range(10):
                    call()
                spent[name].append((time.perf_counter() - began) / 10 * 1e6)
        for name, each in spent.items():
            times[name].append(float(np.median(each)))
    sync, one = times["sync"], times["one"]
    docs.unload()
    db.drop("small")
    return {
        "sync_us": quartiles(sync, 1),
        "select_1_us": quartiles(one, 1),
        "sync_over_select_1": quartiles(np.array(sync) / np.array(one)),
    }


def apply_speed(db: mrl_db.Database, vectors: np.ndarray, rounds: int) -> dict[str, Any]:
    """Returns rows/s from another client's commit to an answer that knows of them, and from when they are read."""
    half = len(vectors) // 2
    docs, other = db.create_collection("applied", dims=vectors.shape[1]), None
    docs.add(np.arange(half), vectors[:half])
    docs.load(cache=False)
    other = db.open("applied")
    assert docs.loaded is not None
    searches, stop = [0], threading.Event()

    def search() -> None:
        rng = np.random.default_rng(1)
        while not stop.is_set():
            docs.search(vectors[rng.integers(half)], k=10, max_staleness=3600)
            searches[0] += 1

    thread = threading.Thread(target=search)
    thread.start()
    rates: dict[str, list[float]] = {"inserted": [], "replaced": [], "deleted": []}
    rng = np.random.default_rng(2)
    many = min(20_000, len(vectors) - half)
    for _ in range(rounds):
        for what in rates:
            if what == "inserted":
                other.add(np.arange(half, half + many), vectors[half : half + many])
            elif what == "replaced":
                other.upsert(np.arange(half, half + many), vectors[rng.permutation(half)[:many]])
            else:
                other.delete(np.arange(half, half + many))
            began = time.perf_counter()
            docs.loaded.sync(0)
            rates[what].append(many / (time.perf_counter() - began))
            assert docs.loaded.rows == half + (0 if what == "deleted" else many)
        while docs.loaded.index.waiting:
            time.sleep(0.01)
    stop.set()
    thread.join()
    probe = vectors[rng.integers(half, size=200)]
    found = docs.search(probe, k=10)
    exact = docs.search(probe, k=10, exact=True)
    recall = np.mean(
        [
            len(set(a) & set(b)) / 10
            for a, b in zip(found.ids.tolist(), exact.ids.tolist(), strict=True)
        ]
    )
    docs.unload()
    db.drop("applied")
    return {
        "rows_per_s": {what: quartiles(rate, 0) for what, rate in rates.items()},
        "searches_beside": searches[0],
        "recall_after": float(recall),
    }


def open_elsewhere(dsn: str, query: np.ndarray, results: Any) -> None:
    """In a process of its own: opens, answers, and tells seconds and private memory."""
    with mrl_db.connect(dsn) as db:
        docs = db.open("large")
        gc.collect()
        before = resident("Private_Dirty")
        began = time.perf_counter()
        docs.load()
        ids = docs.search(query, k=10).ids.tolist()
        seconds = time.perf_counter() - began
        docs.search(np.stack([query] * 10), k=10)
        assert docs.loaded is not None
        results.put((seconds, resident("Private_Dirty") - before, docs.loaded.bytes, ids))


def opening(
    db: mrl_db.Database, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Returns seconds of building and of opening, memory, and the speed of mapped rows beside those in huge pages."""
    docs = db.create_collection("large", dims=vectors.shape[1])
    docs.ingest(np.arange(len(vectors)), vectors, index=False)
    began = time.perf_counter()
    docs.load(cache=False)
    built = time.perf_counter() - began
    first = docs.search(queries[0], k=10).ids.tolist()
    docs.load()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    seconds, private, size = [], [], 0
    for _ in range(rounds):
        process = context.Process(target=open_elsewhere, args=(db.dsn, queries[0], results))
        process.start()
        took, own, size, ids = results.get(timeout=600)
        process.join()
        assert ids == first
        seconds.append(took)
        private.append(own)
    mapped = db.open("large")
    mapped.load(max_staleness=3600)
    docs.load(cache=False, max_staleness=3600)
    rates: dict[str, list[float]] = {"built": [], "mapped": []}
    for _ in range(2 * rounds + 1):
        for name, asked in (("built", docs), ("mapped", mapped)):
            began = time.perf_counter()
            for query in queries:
                asked.search(query, k=10)
            rates[name].append(len(queries) / (time.perf_counter() - began))
    for each in (docs, mapped):
        each.unload()
    db.drop("large")
    return {
        "rows": vectors.shape,
        "built_s": round(built, 2),
        "opened_s": quartiles(seconds),
        "opened_over_built": quartiles(np.array(seconds) / built, 4),
        "bytes": size,
        "private_bytes": quartiles(private, 0),
        "private_share": quartiles(np.array(private) / size, 4),
        "queries_per_s_mapped_over_built": quartiles(
            np.array(rates["mapped"][1:]) / np.array(rates["built"][1:])
        ),
    }


def filtered(db: mrl_db.Database, rows: int, rounds: int) -> dict[str, Any]:
    """Returns microseconds of filtered searches when nothing was written, and after one write; answers are checked against the exact ones."""
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((rows, 16), dtype=np.float32)
    docs = db.create_collection("filtered", dims=16, columns={"part": "integer"})
    docs.ingest(np.arange(rows), vectors, index=False, part=np.arange(rows) % 1000)
    docs.load(cache=False, build="fast")
    assert docs.loaded is not None
    filters: dict[str, Any] = {
        "all pass": {"part": {"$gte": 0}},
        "half pass": {"part": {"$lt": 500}},
        "a thousandth passes": {"part": 7},
    }
    queries = rng.standard_normal((64, 16), dtype=np.float32)
    results: dict[str, Any] = {"rows": (rows, 16), "load average": os.getloadavg()[0]}
    with psycopg.connect(db.dsn, autocommit=True) as other:

        def write() -> None:
            key, part = int(rng.integers(rows)), int(rng.integers(1000))
            other.execute("UPDATE filtered SET part = %s WHERE id = %s", (part, key))

        def timed(call: Any) -> float:
            began = time.perf_counter()
            call()
            return (time.perf_counter() - began) * 1e6

        def apart(call: Any) -> None:
            most, written.MOST = written.MOST, -1
            docs.loaded._selections.judge = lambda _: None
            call()
            written.MOST = most
            del docs.loaded._selections.judge

        for name, where in filters.items():

            def search(where: Any = where) -> Any:
                return docs.search(queries[int(rng.integers(64))], k=10, where=where)

            asked = []
            for _ in range(3):
                docs.loaded._selections._remembered.clear()
                asked.append(timed(search))
            times: dict[str, list[float]] = {}
            with other.cursor() as cursor:
                for number in range(rounds):
                    turns: dict[str, Any] = {
                        "nothing written": (None, search),
                        "one write": (write, search),
                        "one write, judged apart": (write, partial(apart, search)),
                        "one write, no filter": (write, partial(search, None)),
                        "judged": (None, search),
                        "SELECT 1": (None, lambda: cursor.execute("SELECT 1").fetchone()),
                    }
                    for turn, (before, call) in turns.items():
                        if before is not None:
                            before()
                        took = timed(call)
                        docs.loaded.settle()
                        if number >= rounds // 10:
                            times.setdefault(turn, []).append(took)
            for query in queries[:8]:
                hits = docs.search(query, k=10, where=where)
                exact = docs.search(query, k=10, where=where, exact=True)
                assert len(set(hits.ids.tolist()) & set(exact.ids.tolist())) >= 8
            medians = {turn: float(np.median(took)) for turn, took in times.items()}
            results[name] = {
                "us": {turn: quartiles(took, 1) for turn, took in times.items()},
                "all asked anew, us": round(min(asked)),
                "one write over (SELECT 1 + 1.2 x nothing written)": round(
                    medians["one write"] / (medians["SELECT 1"] + 1.2 * medians["nothing written"]),
                    2,
                ),
                "one write over one that is judged apart": round(
                    medians["one write"] / medians["one write, judged apart"], 2
                ),
                "filter after one write, us more than without": round(
                    medians["one write"] - medians["one write, no filter"], 1
                ),
            }
    docs.unload()
    db.drop("filtered")
    return results


def churn(db: mrl_db.Database, vectors: np.ndarray, searches: int, openings: int) -> dict[str, Any]:
    """Returns how memory grew over searches, and over opening and closing, after a first tenth of each."""
    docs = db.create_collection("churned", dims=vectors.shape[1])
    docs.add(np.arange(5000), vectors[:5000])
    docs.load(max_staleness=3600)
    after: dict[str, list[int]] = {"searches": [], "openings": []}
    for number in range(searches):
        docs.search(vectors[number % 5000], k=10)
        if number % (searches // 10) == searches // 10 - 1:
            gc.collect()
            after["searches"].append(resident())
    for number in range(openings):
        docs.unload()
        docs.load()
        docs.search(vectors[number % 5000], k=10)
        if number % (openings // 10) == openings // 10 - 1:
            gc.collect()
            after["openings"].append(resident())
    docs.unload()
    db.drop("churned")
    grown = {what: round((sizes[-1] - sizes[0]) / 2**20, 2) for what, sizes in after.items()}
    return {"searches": searches, "openings": openings, "grown_mib": grown}


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, help="for all parts but filter and check")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--parts", nargs="*", default=["log", "check", "apply", "filter", "open", "churn"]
    )
    options = parser.parse_args()
    real = np.empty((0, 384), np.float32)
    if options.data is not None:
        real = np.load(options.data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
    searches, openings = 1_000_000, 1000
    if options.quick:
        real, options.rounds, searches, openings = real[:8000], 2, 2000, 20
    record = machine.resume(options.name, "psycopg")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRL_DB_CACHE"] = str(Path(folder) / "cache")
        with mrl_db.connect(home=Path(folder) / "home") as db:
            parts: dict[str, Any] = {
                "check": lambda: check_cost(db, 3 * options.rounds),
                "log": lambda: {
                    "bare": log_cost(db, real, options.rounds, indexed=False, whole=False),
                    "bare, one COPY statement": log_cost(
                        db, real, options.rounds, indexed=False, whole=True
                    ),
                    "with HNSW": log_cost(db, real, 2, indexed=True, whole=False),
                },
                "apply": lambda: apply_speed(db, real, options.rounds),
                "filter": lambda: filtered(
                    db, 30_000 if options.quick else 1_000_000, 30 if options.quick else 300
                ),
                "churn": lambda: churn(db, real, searches, openings),
            }
            for name, part in parts.items():
                if name in options.parts:
                    machine.keep(options.name, record, name, part())
            if "open" in options.parts:
                rows = 20_000 if options.quick else 200_000
                generated = generate(options.data / "openai3s-almedalen", rows + 500, 768, seed=1)
                machine.keep(
                    options.name,
                    record,
                    "open",
                    opening(db, generated[:-500], generated[-500:], options.rounds),
                )


if __name__ == "__main__":
    main()
