"""Law 4 across processes: another client's row is found by the next search, a deleted one not."""

import os
import subprocess
import sys
import threading

import numpy as np

DIMS = 16
PAIRS = int(os.environ.get("MRL_DB_PAIRS", "400"))
WRITERS = 4

WRITER = """
import sys, numpy as np, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
vectors = np.load(sys.argv[2])
for line in sys.stdin:
    what, key = line.split()
    if what == "add":
        text = "[" + ",".join(map(str, vectors[int(key)].tolist())) + "]"
        insert = "INSERT INTO docs (id, embedding) VALUES (%s, %s::vector)"
        connection.execute(insert, (int(key), text))
    else:
        connection.execute("DELETE FROM docs WHERE id = %s", (int(key),))
    print("committed", flush=True)
"""


def test_pairs_of_a_write_elsewhere_and_a_search_here(db, dsn, tmp_path, rng):
    """Each writer is another process; each row is searched for the moment that it has committed."""
    vectors = rng.standard_normal((PAIRS, DIMS)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    docs = db.create_collection("docs", dims=DIMS)
    docs.load(cache=False)
    missed, stale, found = [], [], []

    def pairs(number):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, dsn, str(tmp_path / "vectors.npy")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def tell(what, key):
            writer.stdin.write(f"{what} {key}\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "committed\n"

        for key in range(number, PAIRS, WRITERS):
            tell("add", key)
            ids = docs.search(vectors[key], k=1, engine="native").ids
            (found if ids.tolist() == [key] else missed).append(key)
            if key % 2:
                tell("delete", key)
                if key in docs.search(vectors[key], k=5, engine="native").ids.tolist():
                    stale.append(key)
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()

    threads = [threading.Thread(target=pairs, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == stale == []
    assert len(found) == PAIRS
    assert docs.count() == PAIRS - PAIRS // 2
