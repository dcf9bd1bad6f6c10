"""Instruction sets of one machine against each other, forced in one process.

python benchmarks/bench_simd.py --data FOLDER --name simd [--part queries|batch|build]

FOLDER holds debian-minilm (62,666 x 384, 1,000 queries held out). All sets build the same graph and
give the same answers, which is checked first; so what differs is CPU time. The sets take turns in an
order drawn anew for each round. Ratios are speeds over plain avx512's (avx2's, on a machine without),
taken within a round; reported are median and quartiles. Other work on the machine moves CPU time by
caches and clock alone, and all sets alike.

- one query: the least effort of the sweep that reaches a recall of .95, .98, .99
- flat batch: 500 queries over int8 codes of 128 dims
- build: the default graph, on two threads
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import machine
import numpy as np
from bench_peers import least_similarity, load, recall

import mrl_db
from mrl_db import _kernels, kernels
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection

K = 10
EFFORTS = (16, 22, 30, 40, 50, 60, 80, 110, 160, 220)
TARGETS = (0.95, 0.98, 0.99)
BATCH = 500
PREFIX, PROJECTION = _kernels.Space.prefix, _kernels.Space.projection
INT4, INT8, F32 = _kernels.Precision.int4, _kernels.Precision.int8, _kernels.Precision.float32


def graph(dims: int, effort: int) -> _kernels.NativePlan:
    kept = min(dims, _kernels.PROJECTION_DIMS)
    stages = [(PROJECTION, kept, INT4, K + effort // 8 + 10), (PREFIX, dims, F32, K)]
    return _kernels.NativePlan(_kernels.Route.graph, effort, stages)


def cpu(call: Callable[[], None]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


class Bench:
    """Rows, queries, and an index over them; every set takes its turn in each round."""

    def __init__(self, data: Path, quick: bool) -> None:
        self.rows, self.queries = load(data, "debian")
        if quick:
            self.rows, self.queries = self.rows[:6000], self.queries[:200]
        self.dims = self.rows.shape[1]
        self.names = [name for name in mrl_db.available_simd() if name != "scalar"]
        self.base = "avx512" if "avx512" in self.names else self.names[0]
        self.rounds = 3 if quick else 9
        self._random = np.random.default_rng(3)
        sample = self.rows[np.random.default_rng(0).permutation(len(self.rows))[:SAMPLE_ROWS]]
        self._projection = fit_projection(sample)
        self.index = self._built()

    def _built(self) -> _kernels.Index:
        index = _kernels.Index(_kernels.Metric.cosine, self.dims, _kernels.KeyType.int64, True)
        index.append(np.arange(len(self.rows)).view(np.uint8).reshape(-1, 8), self.rows, 2)
        index.set_projection(*self._projection)
        index.build("default", 2, None)
        return index

    def turns(self, call: Callable[[], None], rounds: int) -> dict[str, list[float]]:
        """Returns each set's speed over the base's, quartiles."""
        shares: dict[str, list[float]] = {name: [] for name in self.names}
        for _ in range(rounds):
            times = {}
            for name in self._random.permutation(self.names):
                with kernels.using_simd(str(name)):
                    times[str(name)] = cpu(call)
            for name in self.names:
                shares[name].append(times[self.base] / times[name])
        return {
            name: [round(float(q), 3) for q in np.percentile(each, (25, 50, 75))]
            for name, each in shares.items()
        }

    def builds(self) -> Iterator[tuple[str, object]]:
        def build() -> None:
            assert np.array_equal(self._built().links(), self.index.links()), "graphs differ"

        yield "build", self.turns(build, 3)

    def single(self) -> Iterator[tuple[str, object]]:
        least = least_similarity(self.rows, self.queries, K)
        reached = {}
        for effort in EFFORTS:
            ids = self.same_answers(graph(self.dims, effort), self.queries)
            reached[effort] = recall(self.rows, self.queries, ids, least)
        for target in TARGETS:
            effort = next((e for e in EFFORTS if reached[e] >= target), EFFORTS[-1])
            plan = graph(self.dims, effort)

            def search(plan: _kernels.NativePlan = plan) -> None:
                for query in self.queries:
                    self.index.search_one(query, plan)

            found = {"effort": effort, "recall": round(reached[effort], 4)}
            yield f"one query at {target}", {**found, **self.turns(search, self.rounds)}

    def batch(self) -> Iterator[tuple[str, object]]:
        self.index.add_flat_codes(PREFIX, 128, INT8, None, 2)
        stages = [(PREFIX, 128, INT8, 50), (PREFIX, self.dims, F32, K)]
        plan = _kernels.NativePlan(_kernels.Route.flat, 1, stages)
        queries = self.queries[:BATCH]
        self.same_answers(plan, queries)

        def search() -> None:
            self.index.search_many(queries, plan, None, 1)

        yield "flat batch", self.turns(search, self.rounds)

    def same_answers(self, plan: _kernels.NativePlan, queries: np.ndarray) -> np.ndarray:
        """Returns the ids that every set finds."""
        answers = []
        for name in self.names:
            with kernels.using_simd(name):
                keys, *_ = self.index.search_many(queries, plan, None, 1)
                answers.append(np.asarray(keys).view(np.int64).reshape(len(queries), K))
        assert all(np.array_equal(ids, answers[0]) for ids in answers), "answers differ"
        return answers[0]


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=("queries", "batch", "build"))
    options = parser.parse_args()
    bench = Bench(options.data, options.quick)
    record = machine.resume(options.name)
    record["over"] = bench.base
    parts = {"queries": bench.single, "batch": bench.batch, "build": bench.builds}
    for part in [options.part] if options.part else parts:
        for name, figures in parts[part]():
            machine.keep(options.name, record, name, figures)


if __name__ == "__main__":
    main()
