"""An index `USING mrl` after churn against a fresh one of the same rows, in one run.

python benchmarks/bench_churn.py --data FOLDER --set debian --name churn

30 % of the rows are deleted, VACUUM; the same rows are inserted again, one statement each, VACUUM:
every third row is then a linked one. Another index of these rows is built afresh. Of both, in
turns and at equal effort: recall@10 against exact float64, and microseconds of the backend's CPU
for a search, least of the rounds. FOLDER as for bench_extension.py.
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


def use(bench: Bench, index: str) -> None:
    """Lets the planner see one of the two indexes."""
    with bench.connect() as connection:
        connection.execute(
            "UPDATE pg_index SET indisvalid = (indexrelid = %s::regclass) "
            "WHERE indexrelid IN ('churned'::regclass, 'fresh'::regclass)",
            (index,),
        )


def answers(bench: Bench) -> dict[int, dict[str, tuple[float, float]]]:
    """Returns recall and CPU in microseconds of both indexes for each effort."""
    found: dict[int, dict[str, tuple[float, float]]] = {effort: {} for effort in EFFORTS}
    for effort in EFFORTS:
        for _ in range(ROUNDS):
            for index in ("churned", "fresh"):
                use(bench, index)
                ids, cpu = bench.answers("mrl", effort)
                least = min(cpu, found[effort].get(index, (0.0, cpu))[1])
                found[effort][index] = (round(bench.recall(ids), 4), round(least, 1))
    return found


def churn(bench: Bench) -> dict[str, object]:
    """Returns what searches find and cost by the index after churn, and by a fresh one."""
    gone = np.flatnonzero(np.random.default_rng(3).random(len(bench.rows)) < SHARE)
    create = "USING mrl (embedding vector_cosine_ops)"
    with bench.connect() as connection:
        connection.execute(f"CREATE INDEX churned ON mrl {create}")
        connection.execute("DELETE FROM mrl WHERE id = ANY (%s)", (gone.tolist(),))
        connection.execute("VACUUM mrl")
        pid = connection.info.backend_pid
        before = cpu_of(pid)
        for number in gone.tolist():
            row = (number, number * 7919 % 1000, VectorParameter(bench.rows[number]))
            connection.execute("INSERT INTO mrl VALUES (%s, %s, %s)", row)
        insert_us = (cpu_of(pid) - before) / len(gone) * 1e6
        connection.execute("VACUUM mrl")
        (rows,) = connection.execute("SELECT mrl_check_index('churned', true)").fetchone()
        connection.execute(f"CREATE INDEX fresh ON mrl {create}")
    measured = answers(bench)
    return {
        "rows": rows,
        "inserted": len(gone),
        "insert, CPU µs": round(insert_us),
        "effort": {
            effort: {
                **{f"recall, CPU: {index}": pair for index, pair in both.items()},
                "recall less": round(both["fresh"][0] - both["churned"][0], 4),
                "CPU over": round(both["churned"][1] / both["fresh"][1], 3),
            }
            for effort, both in measured.items()
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
