"""What the change log costs a client that writes single rows through psql, where a reader follows.

pip install '.[embedded]' && python benchmarks/bench_log.py --name log

Two tables alike, one of them loaded in this process, so that its writes are logged. psql runs blocks of one-row statements on each in turn,
prepared and not, and the server's clock is read between blocks; a figure is the time of a block on the logged table over that of the block
on the other beside it: as a server is set by default, which flushes every commit, and with synchronous_commit = off, which leaves the work
of the processor alone. At the end the reader's answers are compared with the table.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import machine
import numpy as np

import mrl_db

ROWS = 20_000
STATEMENTS = {
    "INSERT": (
        "INSERT INTO {table} (id, embedding) VALUES ({key}, {vector})",
        "bigint, vector",
        "{key}, {vector}",
    ),
    "UPDATE of the vector": (
        "UPDATE {table} SET embedding = {vector} WHERE id = {key}",
        "bigint, vector",
        "{key}, {vector}",
    ),
    "UPDATE of a number": (
        "UPDATE {table} SET year = {number} WHERE id = {key}",
        "bigint, integer",
        "{key}, {number}",
    ),
    "DELETE": ("DELETE FROM {table} WHERE id = {key}", "bigint", "{key}"),
}


def script(what: str, dims: int, blocks: int, block: int, *, prepared: bool, flushed: bool) -> str:
    """Returns psql's input: blocks of statements on the two tables in turn, the clock around each."""
    statement, types, values = STATEMENTS[what]
    names = {"key": "$1", "vector": "$2", "number": "$2"}
    clock = "SELECT extract(epoch FROM clock_timestamp());"
    lines = [f"SET synchronous_commit = {'on' if flushed else 'off'};"]
    lines += [
        f"PREPARE write_{table} ({types}) AS {statement.format(table=table, **names)};"
        for table in ("logged", "plain")
        if prepared
    ]
    rng = np.random.default_rng(1)
    for number in range(blocks):
        order = ("logged", "plain") if number % 2 else ("plain", "logged")
        for table in order:
            lines.append(clock)
            for row in range(number * block, (number + 1) * block):
                given = {
                    "key": row + (ROWS if what == "INSERT" else 0),
                    "vector": f"'{rng.integers(-99, 99, dims).tolist()}'",
                    "number": row,
                }
                lines.append(
                    f"EXECUTE write_{table} ({values.format(**given)});"
                    if prepared
                    else statement.format(table=table, **given) + ";"
                )
            lines.append(clock)
    return "\n".join(lines)


def ratios(dsn: str, program: str, text: str, blocks: int) -> tuple[list[float], float]:
    """Returns the quartiles of logged over plain, by block, and the median seconds of a plain block."""
    output = subprocess.run(
        [program, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seconds = np.diff(np.array(output.split(), dtype=float).reshape(2 * blocks, 2))[:, 0]
    pairs = seconds.reshape(blocks, 2)
    pairs[1::2] = pairs[1::2, ::-1]  # (plain, logged) in all
    quartiles = np.percentile(pairs[1:, 1] / pairs[1:, 0], (25, 50, 75))
    return [round(float(q), 3) for q in quartiles], float(np.median(pairs[1:, 0]))


def cost(
    db: mrl_db.Database, program: str, dims: int, blocks: int, block: int, *, flushed: bool
) -> dict[str, Any]:
    """Returns for every kind of statement the ratios, and microseconds without the log."""
    result: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, 8), np.float32) @ rng.standard_normal(
        (8, dims), np.float32
    )
    for what, prepared in itertools.product(STATEMENTS, (False, True)):
        logged, plain = (
            db.create_collection(name, dims=dims, metric="l2", columns={"year": "integer"})
            for name in ("logged", "plain")
        )
        for table in (logged, plain):
            table.add(np.arange(ROWS), vectors, year=[0] * ROWS)
        logged.load(cache=False)
        text = script(what, dims, blocks, block, prepared=prepared, flushed=flushed)
        quartiles, seconds = ratios(db.dsn, program, text, blocks)
        name = f"{what}{', prepared' if prepared else ''}"
        result[name] = {"ratio": quartiles, "plain_us": round(seconds / block * 1e6, 1)}
        assert logged.log_health()[:2] == (blocks * block, 1)
        near = logged.search(vectors[:20], k=9, plan=None, engine="native")
        exact = plain.search(vectors[:20], k=9, exact=True)
        assert np.mean(near.ids == exact.ids) > 0.95
        assert logged.loaded is not None
        assert logged.loaded.rows == plain.count()
        for each in (logged, plain):
            db.drop(each.name)
    return result


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--dims", type=int, nargs="*", default=[8, 384])
    parser.add_argument("--psql", default="psql")
    options = parser.parse_args()
    blocks, block = (4, 50) if options.quick else (40, 200)
    record = machine.resume(options.name, "psycopg")
    with (
        tempfile.TemporaryDirectory() as folder,
        mrl_db.connect(home=Path(folder) / "home") as db,
    ):
        for dims, flushed in itertools.product(options.dims, (True, False)):
            n, size = (blocks, block // 4) if flushed else (blocks, block)
            part = f"{dims} dims, {'flushed' if flushed else 'synchronous_commit = off'}"
            figures = cost(db, options.psql, dims, n, size, flushed=flushed)
            machine.keep(options.name, record, part, figures)


if __name__ == "__main__":
    main()
