"""Searches from four threads of a Python without the GIL: of one index, and of one collection.

    python tests/packaging/threads.py [HOME]

The index answers each thread as it answered one alone. With the folder of an embedded server, the
threads share an open collection that is loaded in the process, too: each writes, searches and
deletes rows of its own beside the others, and must find what it wrote, and what it deleted no more.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Callable

import numpy as np
from answers import DIMS, PLANS, K, build, data

import mrl_db
from mrl_db import _kernels

THREADS = 4
ROUNDS = 20
ROWS = 3000


def together(work: Callable[[int], int]) -> int:
    """Runs the work in all threads at once; returns the sum of what they return."""
    start = threading.Barrier(THREADS)
    done = []

    def run(number: int) -> None:
        start.wait()
        done.append(work(number))

    workers = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(done) == THREADS, "a thread failed"
    assert not sys._is_gil_enabled()
    return sum(done)


def search_an_index() -> int:
    """Returns how many batches were searched."""
    vectors, queries = data(ROWS)
    index = build(vectors)
    plans = [_kernels.NativePlan(*plan) for plan in PLANS]
    alone = [index.search_many(queries, plan, None, 1)[:2] for plan in plans]

    def search(_: int) -> int:
        for _ in range(ROUNDS):
            for plan, (keys, distances) in zip(plans, alone, strict=True):
                many = index.search_many(queries, plan, None, 1)
                assert np.array_equal(many[0], keys)
                assert np.array_equal(many[1], distances)
                one = index.search_one(queries[7], plan)
                assert one is not None
                assert np.array_equal(one[0], np.asarray(keys)[7])
        return ROUNDS * len(plans)

    return together(search)


def share_a_collection(home: str) -> int:
    """Returns how many rows were written, found, deleted and found no more."""
    vectors, queries = data(ROWS)
    with mrl_db.connect(home=home) as db:
        docs = db.create_collection("threads", dims=DIMS)
        docs.add(np.arange(ROWS), vectors)
        docs.load()
        alone = docs.search(queries, k=K, exact=True)

        def share(number: int) -> int:
            for turn in range(ROUNDS):
                mine = number * ROUNDS + turn
                key = ROWS + mine
                docs.upsert([key], queries[mine : mine + 1])
                assert docs.search(queries[mine], k=1).ids[0] == key
                assert docs.search(queries[mine : mine + 3], k=1).ids[0, 0] == key
                docs.delete([key])
                assert key not in docs.search(queries[mine], k=K).ids
            return ROUNDS

        shared = together(share)
        after = docs.search(queries, k=K, exact=True)
        assert np.array_equal(after.ids, alone.ids)
        assert np.array_equal(after.distances, alone.distances)
        db.drop("threads")
    return shared


def main() -> None:
    assert sysconfig.get_config_var("Py_GIL_DISABLED")
    assert not sys._is_gil_enabled(), "importing mrl_db enabled the GIL"
    batches = search_an_index()
    print(f"{batches} batches from {THREADS} threads, the GIL off: the same answers", flush=True)
    for home in sys.argv[1:]:
        rows = share_a_collection(home)
        print(f"{rows} rows of {THREADS} threads, the GIL off: found, and found no more")


if __name__ == "__main__":
    main()
