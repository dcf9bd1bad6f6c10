"""The index `USING mrl` inside PostgreSQL against pgvector's HNSW, at equal recall, in one run.

python benchmarks/bench_extension.py --data FOLDER --set debian --name extension

FOLDER holds debian-minilm, and openai3s-almedalen for the generated set (200k × 768). Three tables
with the same rows: an mrl index, HNSW on vector, HNSW on halfvec. For each, the search width is
swept on held-out queries, recall@10 against exact float64; for every target the least width that
reaches it is run. Clients are pgbench's (prepared statements, the query vector from a table), the
systems in turns; the floor is the same without a search.

- tps: mrl over the best HNSW, 1 and 2 clients, medians and quartiles of the rounds, the cores kept
  awake (`machine.awake`); the floor says what a search that takes no time would reach
- cpu: microseconds of the backend for a search, binary parameters, minimum of the rounds
- build: CPU seconds of the server's processes; bytes of the index a row
- insert: microseconds of backend CPU and bytes of WAL a row, beyond a table without an index
- connection: milliseconds of the first search of a connection
- filters: time of a filtered search over the unfiltered one, by default; rows that came back, and
  recall; without and with a B-tree on the filter's column, and with the column included; the same
  where the column rises along the vectors' first principal axis, so that for half of the queries
  few rows pass near them
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import machine
import numpy as np
import psycopg
from generated import generate
from psycopg import conninfo

import mrl_db
from mrl_db.postgres.vectors import VectorParameter

K = 10
AS_MEASURED = 0  # an effort: what the index found to be enough when it was made
TARGETS = (0.95, 0.98, 0.99)
SYSTEMS = {  # table: what is indexed, the setting of the search width, the widths of the sweep
    "mrl": ("embedding", "mrl.effort", (12, 16, 22, 32, 40, 48, 64, 90, 130, 180, 240, 340, 480)),
    "hnsw_vector": ("embedding", "hnsw.ef_search", (20, 30, 40, 60, 80, 120, 180, 260, 400, 640)),
    "hnsw_halfvec": (
        "(embedding::halfvec({dims}))",
        "hnsw.ef_search",
        (20, 30, 40, 60, 80, 120, 180, 260, 400, 640),
    ),
}


def load(data: Path, name: str, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and held-out queries, float32."""
    if name == "debian":
        everything = np.load(data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
        order = np.random.default_rng(20261122).permutation(len(everything))
        return everything[order[queries:]], everything[order[:queries]]
    made = generate(data / "openai3s-almedalen", 200_000 + queries, 768, seed=1)
    return made[queries:], made[:queries]


def exact(rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns the k-th best cosine similarity of each query: what reaches it is right, ties too."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float64)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True).astype(np.float64)
    best = np.empty(len(queries))
    for begin in range(0, len(queries), 100):
        similarity = asked[begin : begin + 100] @ unit.T
        best[begin : begin + 100] = -np.partition(-similarity, K - 1, axis=1)[:, K - 1]
    return best


def cpu_of(pid: int) -> float:
    """Returns the CPU seconds of a process."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def cpu_below(pid: int) -> float:
    """Returns the CPU seconds of the server and of all of its processes, ended ones included."""
    total = 0.0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.name) == pid or int(fields[1]) == pid:
            total += sum(int(fields[number]) for number in (11, 12, 13, 14))
    return total / os.sysconf("SC_CLK_TCK")


class Bench:
    """A server with a table for each system."""

    def __init__(
        self, home: str, rows: np.ndarray, queries: np.ndarray, systems: tuple[str, ...]
    ) -> None:
        self.systems = systems
        settings = {
            "shared_buffers": "2GB",
            "maintenance_work_mem": "2GB",
            "max_parallel_maintenance_workers": "1",
            "autovacuum": "off",
            "synchronous_commit": "off",
            "max_wal_size": "8GB",
        }
        self.db = mrl_db.connect(home=home, settings=settings)
        self.rows, self.queries = rows, queries
        self.dims = rows.shape[1]
        self.unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        self.least = exact(rows, queries)
        with psycopg.connect(self.db.dsn) as connection:
            (self.vector_oid,) = connection.execute("SELECT 'vector'::regtype::oid").fetchone()
        self.builds: dict[str, dict[str, float]] = {}
        folder = Path(home) / "data"
        self.postmaster = int((folder / "postmaster.pid").read_text().split()[0])
        with self.connect() as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS mrl_db")
            for name in (*systems, "queries"):
                connection.execute(
                    f"CREATE TABLE {name} (id integer PRIMARY KEY, n integer, "
                    f"embedding vector({self.dims}))"
                )
                connection.execute(f"ALTER TABLE {name} ALTER embedding SET STORAGE EXTERNAL")
                stored = queries if name == "queries" else rows
                self.copy(connection, name, stored, 0)
                connection.execute(f"VACUUM ANALYZE {name}")

    def connect(self, options: str = "") -> psycopg.Connection:
        dsn = conninfo.make_conninfo(self.db.dsn, options=options)
        connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
        dumper = type("Dumper", (_Dumper,), {"oid": self.vector_oid})
        connection.adapters.register_dumper(VectorParameter, dumper)
        return connection

    def copy(self, connection, name: str, vectors: np.ndarray, first: int) -> None:
        with connection.cursor().copy(f"COPY {name} FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["integer", "integer", self.vector_oid])
            for number, vector in enumerate(vectors):
                copy.write_row((first + number, (number * 7919) % 1000, VectorParameter(vector)))

    def build(self) -> None:
        for name in self.systems:
            indexed, _, _ = SYSTEMS[name]
            kind = "mrl" if name == "mrl" else "hnsw"
            types = "halfvec" if name == "hnsw_halfvec" else "vector"
            with self.connect() as connection:
                began, before = time.perf_counter(), cpu_below(self.postmaster)
                connection.execute(
                    f"CREATE INDEX {name}_index ON {name} USING {kind} "
                    f"({indexed.format(dims=self.dims)} {types}_cosine_ops)"
                )
                size = connection.execute(f"SELECT pg_relation_size('{name}_index')").fetchone()[0]
            self.builds[name] = {
                "seconds": round(time.perf_counter() - began, 1),
                "cpu_seconds": round(cpu_below(self.postmaster) - before, 1),
                "bytes_a_row": round(size / len(self.rows)),
            }

    def statement(self, name: str, parameter: str, where: str = "") -> str:
        if name == "floor":
            return f"SELECT vector_dims({parameter})"
        distance = f"embedding <=> {parameter}"
        if name == "hnsw_halfvec":
            distance = f"embedding::halfvec({self.dims}) <=> ({parameter})::halfvec({self.dims})"
        return f"SELECT id FROM {name} {where} ORDER BY {distance} LIMIT {K}"

    def answers(self, name: str, width: int, where: str = "") -> tuple[list[list[int]], float]:
        """Returns the ids of each query, and microseconds of the backend's CPU for one.

        Under a filter the planner is free to take another plan.
        """
        with self.connect(f"-c {SYSTEMS.get(name, ('', 'mrl.effort'))[1]}={width}") as connection:
            if not where:
                connection.execute("SET enable_seqscan = off")
            statement = self.statement(name, "%s", where)
            pid = connection.info.backend_pid
            parameters = [VectorParameter(query) for query in self.queries]
            for parameter in parameters[:5]:
                connection.execute(statement, (parameter,))
            before = cpu_of(pid)
            ids = [
                [row[0] for row in connection.execute(statement, (parameter,)).fetchall()]
                for parameter in parameters
            ]
            return ids, (cpu_of(pid) - before) / len(parameters) * 1e6

    def recall(self, ids: list[list[int]]) -> float:
        """Returns the share of answers that are as near as the k-th best, a tie counted right."""
        asked = self.queries / np.linalg.norm(self.queries, axis=1, keepdims=True)
        right = [
            (self.unit[np.array(each, dtype=int)].astype(np.float64) @ query >= least - 1e-7).sum()
            for each, query, least in zip(ids, asked.astype(np.float64), self.least, strict=True)
        ]
        return float(np.sum(right)) / (K * len(ids))

    def tps(self, name: str, width: int, clients: int, seconds: int, folder: Path) -> float:
        script = folder / f"{name}.sql"
        asked = "(SELECT q.embedding FROM queries AS q WHERE q.id = :query)"
        last = len(self.queries) - 1
        script.write_text(f"\\set query random(0, {last})\n{self.statement(name, asked)};\n")
        setting = SYSTEMS.get(name, ("", "mrl.effort"))[1]
        done = subprocess.run(
            [
                str(self.db.server.binaries.folder / "pgbench"),
                *("-n", "-M", "prepared", "-c", str(clients), "-j", str(clients)),
                *("-T", str(seconds), "-f", str(script), self.db.dsn),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PGOPTIONS": f"-c {setting}={width} -c enable_seqscan=off"},
        )
        return float(done.stdout.rpartition("tps = ")[2].split()[0])


class _Dumper(psycopg.adapt.Dumper):
    format = psycopg.pq.Format.BINARY

    def dump(self, obj: VectorParameter) -> bytes:
        return obj.wire


def quartiles(values: list[float]) -> list[float]:
    return [round(float(value), 2) for value in np.percentile(values, (25, 50, 75))]


def sweep(bench: Bench) -> dict[str, list[tuple[int, float, float]]]:
    """Returns (width, recall, CPU) of each system, up to beyond the last target."""
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for name, (_, _, widths) in SYSTEMS.items():
        curves[name] = []
        for width in widths:
            ids, cpu = bench.answers(name, width)
            curves[name].append((width, round(bench.recall(ids), 4), round(cpu, 1)))
            if curves[name][-1][1] > TARGETS[-1] + 0.003:
                break
    return curves


def compare(bench: Bench, curves, rounds: int, seconds: int) -> dict[str, object]:
    """Returns, for each target and number of clients, tps and CPU of mrl against the best HNSW."""
    table: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            reach = {
                name: next((w for w, recall, _ in curve if recall >= target), None)
                for name, curve in curves.items()
            }
            used = {name: width for name, width in reach.items() if width is not None}
            row: dict[str, object] = {"width": reach}
            for clients in (1, 2):
                found: dict[str, list[float]] = {name: [] for name in (*used, "floor")}
                for _ in range(rounds):
                    for name, width in used.items():
                        found[name].append(bench.tps(name, width, clients, seconds, Path(folder)))
                    found["floor"].append(bench.tps("floor", 1, clients, seconds, Path(folder)))
                rivals = [name for name in used if name != "mrl"]
                row[f"tps, {clients} clients"] = {
                    n: round(statistics.median(v)) for n, v in found.items()
                }
                if "mrl" in used and rivals:
                    row[f"over the best, {clients} clients"] = quartiles(
                        [
                            ours / max(found[name][number] for name in rivals)
                            for number, ours in enumerate(found["mrl"])
                        ]
                    )
            cpu: dict[str, float] = {}
            for _ in range(3):
                for name, width in {**used, "floor": 40}.items():
                    cpu[name] = min(cpu.get(name, 1e9), bench.answers(name, width)[1])
            row["backend CPU, µs"] = {name: round(value, 1) for name, value in cpu.items()}
            table[f"{target:g}"] = row
            print(target, row, flush=True)
    return table


def inserts(bench: Bench, n: int) -> dict[str, object]:
    """Returns CPU and WAL of one-row inserts beyond those of a table without an index."""
    found: dict[str, tuple[float, float]] = {}
    rng = np.random.default_rng(5)
    fresh = bench.rows[:n] + rng.normal(0, 0.01, (n, bench.dims)).astype(np.float32)
    with bench.connect() as connection:
        connection.execute(f"CREATE TABLE bare (LIKE queries, embedding_2 vector({bench.dims}))")
    for name in ("bare", *SYSTEMS):
        with bench.connect() as connection:
            connection.execute("CHECKPOINT")
            wal = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
            before = cpu_of(connection.info.backend_pid)
            statement = f"INSERT INTO {name} (id, embedding) VALUES (%s, %s)"
            for number, vector in enumerate(fresh):
                connection.execute(statement, (10_000_000 + number, VectorParameter(vector)))
            cpu = (cpu_of(connection.info.backend_pid) - before) / n * 1e6
            size = connection.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (wal,)
            ).fetchone()[0]
        found[name] = (cpu, float(size) / n)
    bare = found.pop("bare")
    return {
        name: {"cpu_us": round(cpu - bare[0]), "wal_bytes": round(wal - bare[1])}
        for name, (cpu, wal) in found.items()
    }


def first_queries(bench: Bench, times: int) -> dict[str, float]:
    """Returns milliseconds of the first search of a connection, the median."""
    found = {}
    for name, (_, setting, _) in SYSTEMS.items():
        taken = []
        for number in range(times):
            with bench.connect(f"-c {setting}=48") as connection:
                connection.execute("SELECT 1")
                parameter = VectorParameter(bench.queries[number])
                began = time.perf_counter()
                connection.execute(bench.statement(name, "%s"), (parameter,)).fetchall()
                taken.append((time.perf_counter() - began) * 1e3)
        found[name] = round(statistics.median(taken), 2)
    return found


def along(rows: np.ndarray) -> np.ndarray:
    """Returns the rows in an order in which their n rises along their first principal axis."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(unit[::20] - unit.mean(0), full_matrices=False)
    n = np.array([(number * 7919) % 1000 for number in range(len(rows))])
    ordered = np.empty_like(rows)
    ordered[np.argsort(n, kind="stable")] = rows[np.argsort(unit @ axes[0], kind="stable")]
    return ordered


def include(bench: Bench) -> None:
    """Makes an index with n the only one."""
    with bench.connect() as connection:
        connection.execute("DROP INDEX IF EXISTS mrl_index, by_n")
        connection.execute(
            "CREATE INDEX ON mrl USING mrl (embedding vector_cosine_ops) INCLUDE (n)"
        )


def filters(bench: Bench, width: int) -> dict[str, object]:
    """Returns rows, recall and time over the unfiltered search, for filters of n (0 to 999)."""
    found = {}
    n = np.array([(number * 7919) % 1000 for number in range(len(bench.rows))])
    whole, everything = bench.least, bench.queries
    bench.queries = everything[:200]
    for share, most in ((0.5, 500), (0.1, 100), (0.01, 10), (0.001, 1)):
        passing = n < most
        if passing.sum() < K:
            continue
        unit = bench.unit[passing].astype(np.float64)
        asked = bench.queries / np.linalg.norm(bench.queries, axis=1, keepdims=True)
        bench.least = -np.partition(-(asked @ unit.T), K - 1, axis=1)[:, K - 1]
        ratios = []
        for _ in range(3):
            _, plain = bench.answers("mrl", width)
            ids, cpu = bench.answers("mrl", width, f"WHERE n < {most}")
            ratios.append(cpu / plain)
        found[f"{share:g}"] = {
            "least rows": min(map(len, ids)),
            "recall": round(bench.recall(ids), 4),
            "over unfiltered": round(statistics.median(ratios), 2),
        }
    bench.least, bench.queries = whole, everything
    return found


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("debian", "200k"), default="debian")
    parts = ("all", "filters", "included", "correlated")
    parser.add_argument("--part", choices=parts, default="all")
    options = parser.parse_args()
    rows, queries = load(options.data, options.set, 1000)
    if options.quick:
        rows, queries = rows[:8_000], queries[:100]
    record = machine.resume(options.name)

    def keep(part: str, value: object) -> None:
        machine.keep(options.name, record, f"{options.set}: {part}", value)

    if options.part != "correlated":
        measure(rows, queries, options, keep)
    if options.part != "filters":
        with tempfile.TemporaryDirectory() as home:
            bench = Bench(home, along(rows), queries, ("mrl",))
            include(bench)
            keep("correlated filters, n included", filters(bench, AS_MEASURED))
            bench.db.close()


def measure(
    rows: np.ndarray,
    queries: np.ndarray,
    options: argparse.Namespace,
    keep: Callable[[str, object], None],
) -> None:
    """Measures all but correlated filters."""
    with tempfile.TemporaryDirectory() as home:
        systems = tuple(SYSTEMS) if options.part == "all" else ("mrl",)
        bench = Bench(home, rows, queries, systems)
        if options.part != "included":
            bench.build()
        if options.part == "all":
            keep("build", bench.builds)
            with machine.awake():
                curves = sweep(bench)
                keep("width, recall, CPU in µs", curves)
                rounds, seconds = (1, 1) if options.quick else (5, 4)
                keep("at equal recall", compare(bench, curves, rounds, seconds))
                times = 5 if options.quick else 30
                keep("first search of a connection, ms", first_queries(bench, times))
        if options.part != "included":
            keep("filters", filters(bench, AS_MEASURED))
            with bench.connect() as connection:
                connection.execute("CREATE INDEX by_n ON mrl (n)")
            keep("filters, n indexed", filters(bench, AS_MEASURED))
        if options.part == "all":
            keep("inserts", inserts(bench, 200 if options.quick else 4000))
        include(bench)
        keep("filters, n included", filters(bench, AS_MEASURED))
        bench.db.close()


if __name__ == "__main__":
    main()
