"""Vectors, words, and both at once, inside PostgreSQL: what they find, and how long they take.

python benchmarks/bench_hybrid.py --data FOLDER --name hybrid

SciFact (Wadden et al. 2020, as in BEIR): 5,183 abstracts, 300 claims of the test part, each with
the abstracts that speak of it; all-MiniLM-L6-v2. nDCG@10 comes first. Then the same searches by one
client, query by query, each time in another order, with the median of the ratios to the search by
vectors alone. Full text search as PostgreSQL's manual has it (any of the words, ts_rank) stands
beside; it takes so long that what comes after it finds nothing in the caches, so it goes last.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np
import psycopg

import mrl_db
from mrl_db.evaluate.metrics import ndcg

K, ROUNDS = 10, 3
MANUAL = """
    SELECT d.id FROM docs AS d, (
        SELECT replace(plainto_tsquery('english', %s)::text, '&', '|')::tsquery
    ) AS q (words)
    WHERE d.content_words @@ q.words
    ORDER BY ts_rank(d.content_words, q.words, 1) DESC, d.id
    LIMIT %s
"""


def lines(path: Path) -> list[dict[str, str]]:
    """The objects of a file of JSON lines."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def judged(path: Path) -> dict[str, dict[int, float]]:
    """For each query the gains of documents."""
    gains: dict[str, dict[int, float]] = {}
    for line in path.read_text().splitlines():
        query, document, gain = line.split()
        if document.isdigit():
            gains.setdefault(query, {})[int(document)] = float(gain)
    return gains


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    data = options.data / "scifact-minilm"
    docs, claims = lines(data / "docs.jsonl.gz"), lines(data / "queries.jsonl.gz")
    of_claim = judged(data / "qrels.test.tsv")
    tested = [number for number, claim in enumerate(claims) if claim["split"] == "test"]
    texts = [claims[number]["text"] for number in tested]
    queries = np.load(data / "queries.f16.npy").astype(np.float32)[tested]
    gains = [of_claim[claims[number]["id"]] for number in tested]
    record = machine.resume(options.name, "psycopg")
    with tempfile.TemporaryDirectory() as home, mrl_db.connect(home=Path(home) / "home") as db:
        collection = db.create_collection("docs", dims=queries.shape[1], text="content")
        collection.ingest(
            [int(doc["id"]) for doc in docs],
            np.load(data / "docs.f16.npy").astype(np.float32),
            content=[doc["text"] for doc in docs],
        )
        collection.create_index()
        with psycopg.connect(db.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE docs")
            search = collection.search
            ways: dict[str, Callable[[int], list[int]]] = {
                "vectors": lambda n: search(queries[n], k=K).ids.tolist(),
                "words": lambda n: search(text=texts[n], k=K).ids.tolist(),
                "both, reciprocal ranks": lambda n: search(
                    queries[n], text=texts[n], k=K
                ).ids.tolist(),
                "both, weights .5 .5": lambda n: search(
                    queries[n], text=texts[n], k=K, fusion=(0.5, 0.5)
                ).ids.tolist(),
                "ts_rank of any word": lambda n: [
                    row[0] for row in connection.execute(MANUAL, (texts[n], K)).fetchall()
                ],
            }
            rounds = 1 if options.quick else ROUNDS
            machine.keep(options.name, record, "scifact", measure(ways, gains, rounds))


def measure(
    ways: dict[str, Callable[[int], list[int]]], gains: list[dict[int, float]], rounds: int
) -> dict[str, dict[str, float]]:
    """nDCG@10 of each way, then milliseconds and the median ratio to the first way."""
    report = {}
    for name, ask in ways.items():
        quality = ndcg([ask(number) for number in range(len(gains))], gains, K).mean()
        report[name] = {"ndcg": round(float(quality), 4)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    orders = np.random.default_rng(0)
    for names in (list(ways)[:-1], list(ways)[-1:]):
        for number in range(rounds * len(gains)):
            for name in orders.permutation(names):
                began = time.perf_counter()
                ways[name](number % len(gains))
                seconds[name].append(time.perf_counter() - began)
    base = np.array(next(iter(seconds.values())))
    for name, taken in seconds.items():
        report[name]["milliseconds"] = round(float(np.median(taken) * 1e3), 2)
        report[name]["ratio"] = round(float(np.median(np.array(taken) / base)), 2)
    return report


if __name__ == "__main__":
    main()
