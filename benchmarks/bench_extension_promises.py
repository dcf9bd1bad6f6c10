"""Promises of the index `USING mrl`: which recall fresh queries get, and what it costs.

python benchmarks/bench_extension_promises.py --data FOLDER --set debian --name extension_promises

Several splits into rows and held-out queries. Each table is indexed WITH (recall = .99), and for
targets from .90 to .99 the effort that searches take is asked of the index; recall@10 of the fresh
queries against exact float64 tells whether the promise is kept. The price is the CPU of the least
effort that keeps it for these queries over that of the effort that is taken.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np
from bench_extension import Bench, load

TARGETS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99)


def measure(bench: Bench) -> dict[str, object]:
    """Returns the evidence of an index, and recall and CPU of fresh queries by effort."""
    with bench.connect() as connection:
        connection.execute(
            "CREATE INDEX mrl_index ON mrl USING mrl (embedding vector_cosine_ops) "
            "WITH (recall = 0.99)"
        )
        evidence = connection.execute("SELECT mrl_promise('mrl_index')").fetchone()[0]
        efforts = {}
        for target in TARGETS:
            connection.execute(f"SET mrl.recall = {target}")
            promise = connection.execute("SELECT mrl_promise('mrl_index')").fetchone()[0]
            efforts[target] = promise["effort"]
    fresh = {}
    for each in evidence["measured"]:
        cpu = []
        for _ in range(3):
            ids, took = bench.answers("mrl", each["effort"])
            cpu.append(took)
        fresh[each["effort"]] = (round(bench.recall(ids), 4), round(min(cpu), 1))
    return {"measured": evidence["measured"], "efforts": efforts, "fresh": fresh}


def judge(split: dict[str, Any]) -> list[dict[str, float]]:
    """Returns for each target what was delivered, and the price."""
    fresh, proven = split["fresh"], [each["lower_bound"] for each in split["measured"]]
    cases = []
    for target, effort in split["efforts"].items():
        if max(proven) < target:
            continue  # CREATE INDEX said so
        least = min((cpu for recall, cpu in fresh.values() if recall >= target), default=None)
        case = {"target": target, "effort": effort, "recall": fresh[effort][0]}
        cases.append(case | ({"price": round(least / fresh[effort][1], 2)} if least else {}))
    return cases


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("debian", "200k"), default="debian")
    options = parser.parse_args()
    everything = np.concatenate(load(options.data, options.set, 1500))
    if options.quick:
        everything = everything[:9_500]
    record = machine.resume(options.name)
    cases = []
    for seed in (1,) if options.quick else (1, 2, 3):
        order = np.random.default_rng(seed).permutation(len(everything))
        with tempfile.TemporaryDirectory() as home:
            bench = Bench(home, everything[order[1500:]], everything[order[:1500]], ("mrl",))
            split = measure(bench)
            bench.db.close()
        cases += judge(split)
        machine.keep(options.name, record, f"{options.set}: split {seed}", judge(split))
    kept = sum(case["recall"] >= case["target"] for case in cases)
    prices = [case["price"] for case in cases if "price" in case]
    summary = {"cases": len(cases), "kept": kept, "median price": statistics.median(prices)}
    machine.keep(options.name, record, f"{options.set}: promises", summary)


if __name__ == "__main__":
    main()
