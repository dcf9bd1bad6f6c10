"""Searches beside a writer of single rows, and what memory that takes, in one process.

python benchmarks/bench_beside.py --name beside [--rows 300000 --dims 768 --seconds 60]

An index of generated rows (nested spectrum, 2,000 clusters) is built, saved, and opened as a file.
One thread searches without pause, k = 10 at the default effort; another upserts a row at a time,
each with a new key; the linker goes on in a third, as in a loaded collection. First the searches
alone, then beside the writer. Every search must return k rows, and in the end the rows that were
written last must find themselves. Memory is what the process holds beyond its state before the
file was opened, against the sum of docs/native.md.
"""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import machine
import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.engines.native import background
from mrl_db.engines.native.plans import native_plan
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection
from mrl_db.model.plan import graph_plan

K = 10
BLOCK = 20_000
CLUSTERS = 2_000


def generated(rows: int, dims: int, seed: int) -> NDArray[np.float32]:
    """Returns unit rows in clusters whose spectrum falls, so that a projection holds much of them."""
    centres = np.random.default_rng(7).standard_normal((CLUSTERS, dims)).astype(np.float32)
    spectrum = (1 / np.sqrt(1 + np.arange(dims))).astype(np.float32)
    random = np.random.default_rng(seed)
    all_rows = np.empty((rows, dims), dtype=np.float32)
    for begin in range(0, rows, BLOCK):
        block = random.standard_normal((min(BLOCK, rows - begin), dims), dtype=np.float32)
        block += 0.7 * centres[random.integers(0, CLUSTERS, len(block))]
        block *= spectrum
        all_rows[begin : begin + len(block)] = block
    return all_rows / np.linalg.norm(all_rows, axis=1, keepdims=True)


def encoded(first: int, count: int) -> NDArray[np.uint8]:
    """Returns `count` keys as the index takes them."""
    return np.arange(first, first + count, dtype=np.int64).view(np.uint8).reshape(count, 8)


def build(rows: int, dims: int, path: Path) -> None:
    """Builds an index and saves it."""
    index = _kernels.Index(_kernels.Metric.cosine, dims, _kernels.KeyType.int64, True)
    index.reserve(rows)
    vectors = generated(rows, dims, 1)
    threads = _kernels.available_threads()
    for begin in range(0, rows, BLOCK):
        block = vectors[begin : begin + BLOCK]
        index.append(encoded(begin, len(block)), block, threads)
    index.set_projection(*fit_projection(index.sample(SAMPLE_ROWS)))
    index.build("fast", threads, None)
    index.save(str(path), "")


def resident() -> dict[str, int]:
    """Returns bytes of this process: the most so far, and now."""
    lines = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmHWM", "VmRSS")}


def spread(seconds: list[float]) -> dict[str, float]:
    """Returns milliseconds: median, quantiles and the longest."""
    ms = np.array(seconds) * 1e3
    quantiles = {
        str(share): round(float(np.quantile(ms, share)), 4) for share in (0.5, 0.99, 0.9999)
    }
    return {"searches": len(ms), **quantiles, "longest": round(float(ms.max()), 3)}


def search(
    index: _kernels.Index,
    plan: _kernels.NativePlan,
    queries: NDArray[np.float32],
    stop: threading.Event,
    took: list[float],
) -> None:
    """Searches until it is told to stop."""
    while not stop.is_set():
        query = queries[len(took) % len(queries)]
        began = time.perf_counter()
        answer = index.search_one(query, plan)
        took.append(time.perf_counter() - began)
        assert answer is not None
        assert len(answer[0]) == K


def measure(path: Path, dims: int, seconds: float) -> dict[str, object]:
    """Returns searches alone and beside the writer, the writer's rows a second, and memory."""
    queries, fresh = generated(2_000, dims, 2), generated(int(8_000 * seconds), dims, 3)
    before = resident()["VmRSS"]
    index, _ = _kernels.Index.open(str(path))
    rows = index.rows
    plan = native_plan(graph_plan(dims=dims, k=K))
    took: list[float] = []
    result: dict[str, object] = {}
    written = 0
    linker = background.Task("linker")
    for beside in (False, True):
        stop, took = threading.Event(), []
        thread = threading.Thread(target=search, args=(index, plan, queries, stop, took))
        thread.start()
        end = time.perf_counter() + (seconds if beside else min(seconds, 10.0))
        while time.perf_counter() < end:
            if not beside:
                time.sleep(0.1)
                continue
            row = fresh[written % len(fresh)][np.newaxis]
            index.upsert(encoded(rows + written, 1), row)
            written += 1
            if written % 16 == 0:
                linker.start(partial(background.link, index))
        stop.set()
        thread.join()
        result["beside" if beside else "alone"] = spread(took)
    linker.end()
    last = range(written - min(written, 100), written)
    for number in last:
        answer = index.search_one(fresh[number % len(fresh)], plan)
        assert answer is not None
        assert answer[1][0] < 1e-5
    result |= {
        "written_a_second": round(written / seconds),
        "waiting_in_the_end": index.waiting,
        "bytes_of_index": index.bytes,
        "bytes_of_process": resident()["VmRSS"] - before,
    }
    return result


def main() -> None:
    """Builds, measures, and writes the record."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--index", type=Path, help="a file of such an index; else one is built")
    options = parser.parse_args()
    rows, seconds = (20_000, 2.0) if options.quick else (options.rows, options.seconds)
    record = machine.resume(options.name)
    with tempfile.TemporaryDirectory() as folder:
        path = options.index or Path(folder) / "index.mrl"
        if not path.exists():
            build(rows, options.dims, path)
        found = measure(path, options.dims, seconds)
    machine.keep(options.name, record, f"{rows} x {options.dims}, {seconds:.0f} s", found)


if __name__ == "__main__":
    main()
