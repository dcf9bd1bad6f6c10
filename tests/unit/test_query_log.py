"""The log of queries: what it keeps, for each k, by many threads at once."""

import threading

import numpy as np

from mrl_db.hits import Hits
from mrl_db.recall.query_log import QueryLog

DIMS = 4


def some(n, first=0):
    """Queries that bear their number, with as many distances for k = 2, the last of them theirs."""
    numbers = np.arange(first, first + n)
    queries = np.repeat(numbers[:, np.newaxis], DIMS, axis=1).astype(np.float32)
    return queries, np.stack([np.zeros(n), numbers.astype(float)], axis=1)


def test_each_k_has_its_own_log():
    log = QueryLog()
    log.note(*some(20), k=2)
    log.note(some(3)[0], np.full((3, 5), 7.0), k=5)
    log.note(*some(1, first=20), k=2)

    assert log.distances(2).tolist() == list(range(21))
    assert log.queries(2)[:, 0].tolist() == list(range(21))
    assert log.distances(5).tolist() == [7.0] * 3
    assert len(log) == 24
    assert log.queries(3).shape == (0, 0)
    assert log.distances(3).shape == (0,)


def test_the_oldest_queries_and_the_k_of_long_ago_are_forgotten():
    log = QueryLog(keep=10)
    log.note(*some(25), k=2)
    for k in (3, 4, 5):
        log.note(some(1)[0], np.zeros((1, k)), k)
    log.note(*some(1, first=25), k=2)
    log.note(some(1)[0], np.zeros((1, 6)), 6)

    assert sorted(log.distances(2)) == list(range(16, 26))
    assert len(log.distances(3)) == 0
    assert [len(log.distances(k)) for k in (4, 5, 6)] == [1, 1, 1]


def test_a_log_that_is_to_keep_nothing_keeps_nothing():
    log = QueryLog(keep=0)
    log.note(*some(20), k=2)
    for query in some(64)[0]:
        log.pass_by(query, Hits(np.zeros(2), np.zeros(2), None), 2)

    assert len(log) == 0
    assert log.queries(2).shape == (0, 0)


def test_queries_with_fewer_answers_than_k_are_not_kept():
    log = QueryLog()
    log.note(*some(5), k=3)

    assert len(log) == 0


def test_the_caller_may_write_over_its_query_afterwards():
    log, (queries, distances) = QueryLog(), some(4)
    log.note(queries, distances, k=2)
    queries[:] = -1

    assert log.queries(2)[:, 0].tolist() == [0, 1, 2, 3]


def test_many_threads_write_while_others_read():
    """A query and its distance stay together, and no query is lost, whoever writes when."""
    log, threads, each = QueryLog(keep=500), 8, 400
    wrong = []

    def write(number):
        for begin in range(0, each, 4):
            log.note(*some(4, first=each * number + begin), k=2)

    def read():
        for _ in range(200):
            queries, distances = log.queries(2), log.distances(2)
            if len(queries) > 500 or len(distances) > 500:
                wrong.append((len(queries), len(distances)))

    running = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    running += [threading.Thread(target=read) for _ in range(2)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()

    assert wrong == []
    assert len(log) == 500
    assert np.array_equal(log.queries(2)[:, 0], log.distances(2))


def test_one_in_sixteen_whatever_threads_pass_by():
    log = QueryLog()
    hits = Hits(np.zeros(2), np.array([0.0, 1.0]), None)
    query = np.zeros(DIMS, dtype=np.float32)

    def pass_by():
        for _ in range(800):
            log.pass_by(query, hits, 2)

    running = [threading.Thread(target=pass_by) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()

    assert len(log) == 4 * 800 // 16
