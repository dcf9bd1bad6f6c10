"""Searches beside a writer of single rows, and what memory that takes, in one process.

python benchmarks/bench_beside.py --name beside [--rows 300000 --dims 768 --seconds 60 --rate 0]

An index of generated rows (nested spectrum, 2,000 clusters) is built, saved, and opened as a file.
One thread searches without pause, k = 10 at the default effort; another upserts a row at a time,
each with a new key, `--rate` of them a second or as many as can be; the linker goes on in a third,
as in a loaded collection. First the searches alone, then the control, beside two processes that
only compute: what a search waits for a core there is the scheduler's. Then beside the writer. Every
search must return k rows, and in the end the rows that were written last must find themselves.

Each search's time is split: CPU of its thread, waits for the index's locks, waits for Python's
lock, and the rest, in which it had no core. --native PATH runs the same without Python (CMake's
target beside_bench), where the index's sections are timed too. The recall of rows that were written
is their share of the exact nearest ten that searches find, as that of the others. Memory is what
the process holds beyond its state before the file was opened, against the sum of docs/native.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
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
from mrl_db.model.plan import flat_plan, graph_plan

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


Took = tuple[float, float, float, float]  # seconds: on the wall, CPU, locks, Python's lock
PARTS = ("wall", "cpu", "locks", "gil")


def spread(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Returns milliseconds: median, quantiles and the longest."""
    ms = seconds * 1e3
    quantiles = {
        str(share): round(float(np.quantile(ms, share)), 4) for share in (0.5, 0.99, 0.999, 0.9999)
    }
    return {**quantiles, "longest": round(float(ms.max()), 3)}


def spreads(took: list[Took]) -> dict[str, object]:
    """Returns what searches took, and each part of it."""
    parts = np.array(took)
    found: dict[str, object] = {"searches": len(parts), **spread(parts[:, 0])}
    for number, name in enumerate(PARTS[1:], 1):
        found[name] = spread(parts[:, number])
    found["no core"] = spread(np.maximum(0, parts[:, 0] - parts[:, 1:].sum(axis=1)))
    return found


def search(
    index: _kernels.Index,
    plan: _kernels.NativePlan,
    queries: NDArray[np.float32],
    stop: threading.Event,
    took: list[Took],
) -> None:
    """Searches until it is told to stop."""
    while not stop.is_set():
        query = queries[len(took) % len(queries)]
        locks, gil = _kernels.waited()
        cpu = time.thread_time()
        began = time.perf_counter()
        answer = index.search_one(query, plan)
        wall = time.perf_counter() - began
        cpu = time.thread_time() - cpu
        locks_after, gil_after = _kernels.waited()
        took.append((wall, cpu, (locks_after - locks) / 1e9, (gil_after - gil) / 1e9))
        assert answer is not None
        assert len(answer[0]) == K


def write(index: _kernels.Index, fresh: NDArray[np.float32], seconds: float, rate: float) -> int:
    """Writes rows one by one, and has them linked; returns how many."""
    rows, written = index.rows, 0
    linker = background.Task("linker")
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        if rate > 0 and written > now * rate:
            time.sleep(written / rate - now)
        index.upsert(encoded(rows + written, 1), fresh[written % len(fresh)][np.newaxis])
        written += 1
        if written % 16 == 0:
            linker.start(partial(background.link, index))
    linker.end()
    return written


def recall(
    index: _kernels.Index, plan: _kernels.NativePlan, queries: NDArray[np.float32], rows: int
) -> dict[str, float]:
    """Returns what share of the exact nearest rows is found, of those written and of the others."""
    exact = native_plan(flat_plan(dims=queries.shape[1], k=K, keep=1000))
    threads = _kernels.available_threads()
    wanted = index.search_many(queries, exact, None, threads)[0]
    found = index.search_many(queries, plan, None, threads)[0]
    there = np.array([np.isin(w, f) for w, f in zip(wanted, found, strict=True)])
    return {
        "of rows written": round(float(there[wanted >= rows].mean()), 4),
        "of the others": round(float(there[wanted < rows].mean()), 4),
    }


def measure(path: Path, dims: int, seconds: float, rate: float) -> dict[str, object]:
    """Returns searches alone, in the control and beside the writer, and what that took."""
    queries, fresh = generated(2_000, dims, 2), generated(int(8_000 * seconds), dims, 3)
    before = resident()["VmRSS"]
    index, _ = _kernels.Index.open(str(path))
    rows = index.rows
    plan = native_plan(graph_plan(dims=dims, k=K))
    result: dict[str, object] = {}
    written = 0
    _kernels.measure_waits(True)
    for case in ("alone", "control", "beside"):
        stop = threading.Event()
        took: list[Took] = []
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(2 if case == "control" else 0)
        ]
        thread = threading.Thread(target=search, args=(index, plan, queries, stop, took))
        thread.start()
        if case == "beside":
            written = write(index, fresh, seconds, rate)
        else:
            time.sleep(seconds if case == "control" else min(seconds, 10.0))
        stop.set()
        thread.join()
        for process in busy:
            process.kill()
            process.wait()
        result[case] = spreads(took)
    _kernels.measure_waits(False)
    for number in range(written - min(written, 100), written):
        answer = index.search_one(fresh[number % len(fresh)], plan)
        assert answer is not None
        assert answer[1][0] < 1e-5
    return result | {
        "sections": index.sections,
        "written_a_second": round(written / seconds),
        "waiting_in_the_end": index.waiting,
        "recall": recall(index, plan, queries[:500], rows),
        "bytes_of_index": index.bytes,
        "bytes_of_process": resident()["VmRSS"] - before,
    }


def measure_native(
    program: Path, path: Path, dims: int, seconds: float, rate: float
) -> dict[str, object]:
    """Returns what the program says of the same, without Python."""
    plan = graph_plan(dims=dims, k=K)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "queries", Path(folder) / "rows"
        generated(2_000, dims, 2).tofile(files[0])
        generated(100_000, dims, 3).tofile(files[1])
        numbers = (dims, seconds, rate, plan.effort, *(stage.keep for stage in plan.stages[:2]))
        command = [program, path, *map(str, numbers), *files]
        return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def main() -> None:
    """Builds, measures, and writes the record."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--index", type=Path, help="a file of such an index; else one is built")
    parser.add_argument("--rate", type=float, default=0.0, help="rows a second; 0: all it can")
    parser.add_argument("--native", type=Path, help="beside_bench, to measure without Python, too")
    parser.add_argument("--note", default="", help="of the machine: busy")
    options = parser.parse_args()
    rows, seconds = (20_000, 2.0) if options.quick else (options.rows, options.seconds)
    record = machine.resume(options.name)
    with tempfile.TemporaryDirectory() as folder:
        path = options.index or Path(folder) / "index.mrl"
        if not path.exists():
            build(rows, options.dims, path)
        part = f"{rows} x {options.dims}, {seconds:.0f} s"
        if options.rate:
            part += f", {options.rate:.0f} rows/s"
        part += f", {options.note}" if options.note else ""
        found = measure(path, options.dims, seconds, options.rate)
        machine.keep(options.name, record, part, found)
        if options.native:
            found = measure_native(options.native, path, options.dims, seconds, options.rate)
            machine.keep(options.name, record, f"{part}, without Python", found)


if __name__ == "__main__":
    main()
