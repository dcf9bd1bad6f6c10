"""CPU of a search by the index `USING mrl` over that of the engine in process, at equal recall.

python benchmarks/bench_inside.py --data FOLDER --set debian --name inside

The same rows, one query after another, one thread; in turns. For each target the least effort of
either side that reaches it on held-out queries, recall@10 against exact float64. Inside: the CPU of
the backend, queries pipelined, binary parameters; and the same less the floor, a statement that
does not search. In process: the CPU of the calling thread in `Collection.search`, with nothing to
ask the database; and of that the time in C++ alone. FOLDER as for bench_extension.py.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from bench_extension import K, SYSTEMS, TARGETS, Bench, cpu_of, load, quartiles

from mrl_db import graph_plan
from mrl_db.postgres.vectors import VectorParameter

ROUNDS = 7
NOT_ASKED = 3600.0  # seconds of staleness that are allowed


class Sides:
    """Both ways to ask the same rows."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.docs = bench.db.attach("mrl", low_dim="index")
        self.docs.load()
        self.parameters = [VectorParameter(query) for query in bench.queries]

    def inside(self, effort: int | None) -> float:
        """Microseconds of the backend's CPU for a query; None: of a statement without a search."""
        name = "floor" if effort is None else "mrl"
        options = f"-c mrl.effort={effort or 1} -c enable_seqscan=off"
        with self.bench.connect(options) as connection:
            statement = self.bench.statement(name, "%s")
            spent = 0.0
            for measured in (False, True):
                before = cpu_of(connection.info.backend_pid)
                with connection.pipeline():
                    for parameter in self.parameters:
                        connection.execute(statement, (parameter,))
                spent = cpu_of(connection.info.backend_pid) - before if measured else 0.0
        return spent / len(self.parameters) * 1e6

    def in_process(self, effort: int) -> tuple[list[list[int]], float, float]:
        """Returns the ids of each query, and microseconds of the thread's CPU, and in C++, for one."""
        plan = graph_plan(dims=self.bench.dims, k=K, effort=effort)
        found, before = [], time.thread_time()
        for query in self.bench.queries:
            found.append(self.docs.search(query, k=K, plan=plan, max_staleness=NOT_ASKED))
        spent = time.thread_time() - before
        kernels = float(np.mean([hits.trace.microseconds for hits in found]))
        return [hits.ids.tolist() for hits in found], spent / len(found) * 1e6, kernels

    def least(self, target: float) -> dict[str, int | None]:
        """The least effort of each side that reaches a recall."""
        efforts = SYSTEMS["mrl"][2]
        recall = self.bench.recall
        return {
            "inside": next(
                (e for e in efforts if recall(self.bench.answers("mrl", e)[0]) >= target), None
            ),
            "in process": next(
                (e for e in efforts if recall(self.in_process(e)[0]) >= target), None
            ),
        }


def main() -> None:
    """Measures and keeps what is asked for."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("debian", "200k"), default="debian")
    options = parser.parse_args()
    rows, queries = load(options.data, options.set, 1000)
    if options.quick:
        rows, queries = rows[:8_000], queries[:100]
    record = machine.resume(options.name)
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(home, rows, queries, ("mrl",))
        bench.build()
        sides = Sides(bench)
        for target in TARGETS:
            least = sides.least(target)
            if None in least.values():
                continue
            times = np.array(
                [
                    (
                        sides.inside(least["inside"]),
                        sides.inside(None),
                        *sides.in_process(least["in process"] or 0)[1:],
                    )
                    for _ in range(1 if options.quick else ROUNDS)
                ]
            )
            inside, floor, in_process, kernels = times.T
            names = ("inside", "floor", "in process", "in C++")
            kept = {
                "effort": least,
                "microseconds": dict(zip(names, times.min(axis=0).round(1).tolist(), strict=True)),
                "inside over in process": quartiles(list(inside / in_process)),
                "inside less the floor, over C++": quartiles(list((inside - floor) / kernels)),
            }
            machine.keep(options.name, record, f"{options.set}: {target:g}", kept)
        bench.db.close()


if __name__ == "__main__":
    main()
