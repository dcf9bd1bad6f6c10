"""Two versions of mrl_db in one run: is a change as fast as what it replaces, and are its answers the same?

python benchmarks/bench_versions.py --data FOLDER --before OTHER_PYTHON --name versions

FOLDER holds debian-minilm. Each version works in a process of its own, with its own embedded server;
the parent asks them in turns, so that the machine's noise meets both. Reported is before's time over
after's, the median of the rounds with quartiles: above 1 is faster than before. In process it is
CPU time, which other work on the machine disturbs less; of SQL it is the clock's.

- answers: a hash of the ids at each effort; the same, or the run says where they differ; recall@10
  at each, before and after, of the default plan, too, whose effort is each version's own choice
- build, default and fast; one query and a batch at efforts 22 to 240; a batch by the default plan;
  flat int8 scan, one query and batch
- sql: one search by the default plan inside PostgreSQL, HNSW index on the low-dim column
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import machine
import numpy as np

EFFORTS = (22, 48, 130, 240)
HELD_OUT = 1000
K = 10


class Version:
    """A process with one of the two versions, which answers one question a line."""

    def __init__(self, python: str, data: Path, rows: int | None) -> None:
        self.home = tempfile.TemporaryDirectory()
        environment = {**os.environ, "MRL_DB_CACHE": self.home.name + "/cache"}
        self.process = subprocess.Popen(
            [python, __file__, "--work", str(data), self.home.name, str(rows or 0)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.home.name,
        )
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a version ended with status {self.process.wait()}")
        return json.loads(line)

    def ask(self, *question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)
        self.home.cleanup()


def work(data: Path, home: str, most: int) -> None:
    """The side of one version: reads questions from standard input, writes answers."""
    import hashlib

    import mrl_db
    from mrl_db import Precision, flat_plan, graph_plan

    everything = np.load(data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
    order = np.random.default_rng(20261122).permutation(len(everything))
    queries = np.ascontiguousarray(everything[order[:HELD_OUT]])
    rows = everything[order[HELD_OUT:]][: most or None]
    dims = rows.shape[1]
    db = mrl_db.connect(home=Path(home) / "server", settings={"shared_buffers": "512MB"})
    docs = db.create_collection("docs", dims=dims, nesting_dims=(128, dims))
    docs.add(np.arange(len(rows)), rows)
    products = queries @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    nearest = np.argpartition(-products, K, axis=1)[:, :K]
    try:
        docs.create_index(kind="hnsw")
    except TypeError:  # a version with that kind alone
        docs.create_index()

    def reply(value) -> None:
        print(json.dumps(value), flush=True)

    def digest(hits) -> str:
        return hashlib.sha256(hits.ids.tobytes()).hexdigest()[:16]

    reply({"version": mrl_db.__version__, "simd": mrl_db.simd()})
    for line in sys.stdin:
        kind, *arguments = json.loads(line)
        if kind == "load":
            began = time.process_time()
            if arguments[0] == "flat":
                plan = flat_plan(dims=dims, k=K, low_dims=128, precision=Precision.int8)
                docs.load(route="flat", plan=plan, max_staleness=3600, cache=False)
            else:
                docs.load(build=arguments[0], max_staleness=3600, cache=False)
            reply(time.process_time() - began)
        elif kind == "single":
            plan = None if arguments[0] is None else graph_plan(dims=dims, k=K, effort=arguments[0])
            began = time.process_time()
            for query in queries:
                docs.search(query, k=K, plan=plan, engine="native")
            reply(time.process_time() - began)
        elif kind == "batch":
            plan = None if arguments[0] is None else graph_plan(dims=dims, k=K, effort=arguments[0])
            began = time.process_time()
            docs.search(queries, k=K, plan=plan, engine="native", threads=1)
            reply(time.process_time() - began)
        elif kind == "sql":
            times = []
            for query in queries[: arguments[0]]:
                began = time.perf_counter()
                docs.search(query, k=K, engine="sql")
                times.append(time.perf_counter() - began)
            reply(float(np.median(times)))
        elif kind == "digest":
            plan = None if arguments[0] is None else graph_plan(dims=dims, k=K, effort=arguments[0])
            hits = docs.search(queries, k=K, plan=plan, engine=arguments[1])
            same = [len(np.intersect1d(a, b)) for a, b in zip(hits.ids, nearest, strict=True)]
            reply((digest(hits), round(float(np.mean(same)) / K, 4)))
    db.close()


def ratios(before: Version, after: Version, rounds: int, *question) -> list[float]:
    found = []
    for number in range(rounds):
        pair = (before, after) if number % 2 == 0 else (after, before)
        times = {version: version.ask(*question) for version in pair}
        found.append(times[before] / times[after])
    return [round(float(q), 3) for q in np.percentile(found, (25, 50, 75))]


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--before", required=True, help="python of an environment with the other")
    options = parser.parse_args()
    data = options.data.resolve()
    rows = 5_000 if options.quick else None
    rounds = 3 if options.quick else 15
    record = machine.resume(options.name)
    before, after = Version(options.before, data, rows), Version(sys.executable, data, rows)
    record["before"], record["after"] = before.about, after.about
    keep = lambda part, value: machine.keep(options.name, record, part, value)  # noqa: E731
    for build in ("fast", "default"):
        keep(f"load, {build}", ratios(before, after, max(3, rounds // 4), "load", build))
    answers = {
        effort: [version.ask("digest", effort, "native") for version in (before, after)]
        for effort in (*EFFORTS, None)
    }
    keep(
        "efforts whose answers differ",
        [str(effort) for effort in EFFORTS if answers[effort][0] != answers[effort][1]],
    )
    keep(
        "recall, before and after",
        {
            "default plan" if effort is None else f"effort {effort}": [recall for _, recall in both]
            for effort, both in answers.items()
        },
    )
    for effort in EFFORTS:
        keep(f"one query, effort {effort}", ratios(before, after, rounds, "single", effort))
        keep(f"batch, effort {effort}", ratios(before, after, rounds, "batch", effort))
    keep("batch, default plan", ratios(before, after, rounds, "batch", None))
    before.ask("load", "flat"), after.ask("load", "flat")
    keep("flat, one query", ratios(before, after, rounds, "single", None))
    keep("flat, batch", ratios(before, after, rounds, "batch", None))
    keep("sql, one query", ratios(before, after, rounds, "sql", 200))
    before.close(), after.close()


if __name__ == "__main__":
    main()
