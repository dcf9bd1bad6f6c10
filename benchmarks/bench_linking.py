"""What linking new rows costs, and what a graph is worth that grew by it, without PostgreSQL.

python benchmarks/bench_linking.py --data FOLDER --set debian --name linking [--grown 0.3]

Of a set's rows the last share comes after the build: all are put, then linked by one thread, whose
CPU is what counts, as on a busy machine the time on the wall is that of others. Then recall@10 by
effort, against exact search, of this graph and of one that is built of all rows; the same queries,
apart by whether the true neighbours came late. Sets: `debian` (real rows, 384 dims), `200k`
(generated.py, 768 dims), `clusters` (as bench_beside.py makes them). --folder keeps built indexes,
for the next run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from bench_beside import BLOCK, encoded, generated
from bench_peers import load
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.engines.native.plans import native_plan
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection
from mrl_db.model.plan import graph_plan

K = 10
EFFORTS = (16, 24, 48, 80, 130, 240)


def vectors(data: Path, name: str, rows: int, dims: int) -> tuple[NDArray[np.float32], ...]:
    """Returns the rows and the queries of a set."""
    if name == "clusters":
        return generated(rows, dims, 1), generated(1_000, dims, 2)
    found, queries = load(data, name)
    return found[:rows], queries


def built(rows: NDArray[np.float32], path: Path) -> _kernels.Index:
    """Returns the index of rows, from the file where it is there."""
    if not path.exists():
        index = _kernels.Index(_kernels.Metric.cosine, rows.shape[1], _kernels.KeyType.int64, True)
        index.reserve(len(rows))
        threads = _kernels.available_threads()
        for begin in range(0, len(rows), BLOCK):
            block = rows[begin : begin + BLOCK]
            index.append(encoded(begin, len(block)), block, threads)
        index.set_projection(*fit_projection(index.sample(SAMPLE_ROWS)))
        index.build("default", threads, None)
        index.save(str(path), "")
    return _kernels.Index.open(str(path))[0]


def exact(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the numbers of the nearest rows of each query."""
    best = np.empty((len(queries), 0), np.float32)
    numbers = np.empty((len(queries), 0), np.int64)
    for begin in range(0, len(rows), 50_000):
        block = rows[begin : begin + 50_000]
        best = np.concatenate([best, queries @ block.T], axis=1)
        own = np.broadcast_to(np.arange(begin, begin + len(block)), (len(queries), len(block)))
        numbers = np.concatenate([numbers, own], axis=1)
        top = np.argpartition(best, -K, axis=1)[:, -K:]
        best, numbers = (np.take_along_axis(each, top, axis=1) for each in (best, numbers))
    return numbers


def recall(
    index: _kernels.Index, queries: NDArray[np.float32], true: NDArray[np.int64], early: int
) -> dict[int, dict[str, float]]:
    """Returns by effort the share of true neighbours that are found: all, and those that came late."""
    found: dict[int, dict[str, float]] = {}
    for effort in EFFORTS:
        plan = native_plan(graph_plan(dims=queries.shape[1], k=K, effort=effort))
        keys = index.search_many(queries, plan, None, 1)[0]
        there = np.array([np.isin(t, f) for t, f in zip(true, keys, strict=True)])
        found[effort] = {
            "all": round(float(there.mean()), 4),
            "late": round(float(there[true >= early].mean()), 4),
        }
    return found


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", choices=("debian", "200k", "clusters"), default="debian")
    parser.add_argument("--rows", type=int, default=10**9, help="take so many of the set's")
    parser.add_argument("--dims", type=int, default=768, help="of clusters")
    parser.add_argument("--grown", type=float, default=0.3, help="the share that comes later")
    parser.add_argument("--folder", type=Path, help="keeps indexes")
    parser.add_argument("--note", default="", help="of the machine: busy")
    options = parser.parse_args()
    most = 10_000 if options.quick else options.rows
    rows, queries = vectors(options.data, options.set, most, options.dims)
    early = len(rows) - int(options.grown * len(rows))
    record = machine.resume(options.name)
    part = f"{options.set}, {len(rows)} x {rows.shape[1]}, the last {len(rows) - early} linked"
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        true = exact(rows, queries)
        fresh = recall(
            built(rows, folder / f"{options.set}-{len(rows)}-{rows.shape[1]}"), queries, true, early
        )
        grown = built(rows[:early], folder / f"{options.set}-{early}-{rows.shape[1]}")
        began = time.thread_time()
        for begin in range(early, len(rows), BLOCK):
            block = rows[begin : begin + BLOCK]
            grown.upsert(encoded(begin, len(block)), block)
        put = time.thread_time() - began
        began = time.thread_time()
        linked = grown.link_waiting(len(rows), 1)
        linking = time.thread_time() - began
        assert linked == len(rows) - early
        lived = recall(grown, queries, true, early)
    machine.keep(
        options.name,
        record,
        f"{part}, {options.note}" if options.note else part,
        {
            "put, CPU us a row": round(put / linked * 1e6, 1),
            "linked, CPU us a row": round(linking / linked * 1e6, 1),
            "recall by effort, lived": lived,
            "recall by effort, fresh": fresh,
            "less": {
                effort: round(fresh[effort]["all"] - lived[effort]["all"], 4) for effort in EFFORTS
            },
        },
    )


if __name__ == "__main__":
    main()
