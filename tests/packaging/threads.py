"""Searches one index from four threads of a Python without the GIL: answers as from one thread."""

from __future__ import annotations

import sys
import sysconfig
import threading

import numpy as np
from answers import PLANS, build, data

from mrl_db import _kernels

THREADS = 4
ROUNDS = 20


def main() -> None:
    assert sysconfig.get_config_var("Py_GIL_DISABLED") or "free-threading" in sys.version
    assert not sys._is_gil_enabled(), "importing mrl_db enabled the GIL"
    vectors, queries = data(3000)
    index = build(vectors)
    plans = [_kernels.NativePlan(*plan) for plan in PLANS]
    alone = [index.search_many(queries, plan, None, 1, False)[:2] for plan in plans]
    start = threading.Barrier(THREADS)
    searches = []

    def search() -> None:
        start.wait()
        for _ in range(ROUNDS):
            for plan, (keys, distances) in zip(plans, alone, strict=True):
                many = index.search_many(queries, plan, None, 1, False)
                assert np.array_equal(many[0], keys)
                assert np.array_equal(many[1], distances)
                one = index.search_one(queries[7], plan)
                assert one is not None
                assert np.array_equal(one[0], np.asarray(keys)[7])
        searches.append(ROUNDS * len(plans))

    workers = [threading.Thread(target=search) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(searches) == THREADS, "a thread failed"
    assert not sys._is_gil_enabled()
    print(f"{sum(searches)} batches from {THREADS} threads, the GIL off: the same answers")


if __name__ == "__main__":
    main()
