"""An index `USING mrl` after churn against a fresh one of the same rows, in one run.

python benchmarks/bench_churn.py --data FOLDER --set debian --name churn

30 % of the rows are deleted, VACUUM; the same rows are inserted again, one statement each, VACUUM:
every third row is then a linked one. REINDEX builds a graph of these rows. At equal effort:
recall@10 against exact float64, and microseconds of the backend's CPU for a search, least of the
rounds. FOLDER as for bench_extension.py.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import machine
import numpy as np
from bench_extension import Bench, cpu_of, load

from mrl_db.postgres.vectors import VectorParameter

SHARE = 0.3
EFFORTS = (24, 48, 130)
ROUNDS = 5


def answers(bench: Bench) -> dict[int, tuple[float, float]]:
    """Returns recall and CPU in microseconds for each effort."""
    found = {}
    for effort in EFFORTS:
        rounds = [bench.answers("mrl", effort) for _ in range(ROUNDS)]
        found[effort] = (round(bench.recall(rounds[0][0]), 4), round(min(r[1] for r in rounds), 1))
    return found


def churn(bench: Bench) -> dict[str, object]:
    """Returns what searches find and cost after churn and after REINDEX."""
    gone = np.flatnonzero(np.random.default_rng(3).random(len(bench.rows)) < SHARE)
    with bench.connect() as connection:
        connection.execute("CREATE INDEX mrl_index ON mrl USING mrl (embedding vector_cosine_ops)")
        connection.execute("DELETE FROM mrl WHERE id = ANY (%s)", (gone.tolist(),))
        connection.execute("VACUUM mrl")
        pid = connection.info.backend_pid
        before = cpu_of(pid)
        for number in gone.tolist():
            row = (number, number * 7919 % 1000, VectorParameter(bench.rows[number]))
            connection.execute("INSERT INTO mrl VALUES (%s, %s, %s)", row)
        insert_us = (cpu_of(pid) - before) / len(gone) * 1e6
        connection.execute("VACUUM mrl")
        churned = answers(bench)
        (rows,) = connection.execute("SELECT mrl_check_index('mrl_index', true)").fetchone()
        connection.execute("REINDEX INDEX mrl_index")
    fresh = answers(bench)
    return {
        "rows": rows,
        "inserted": len(gone),
        "insert, CPU µs": round(insert_us),
        "effort": {
            effort: {
                "recall, CPU after churn": churned[effort],
                "after REINDEX": fresh[effort],
                "recall less": round(fresh[effort][0] - churned[effort][0], 4),
                "CPU over": round(churned[effort][1] / fresh[effort][1], 3),
            }
            for effort in EFFORTS
        },
    }


def main() -> None:
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
        result = churn(bench)
        print(result)
        machine.keep(options.name, record, options.set, result)
        bench.db.close()


if __name__ == "__main__":
    main()
