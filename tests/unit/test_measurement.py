"""How the recall of a plan is measured, by an engine whose answers are laid down here."""

import numpy as np
import pytest

from mrl_db.hits import Hits
from mrl_db.model.plan import Plan, Stage
from mrl_db.model.precision import Precision
from mrl_db.recall.measurement import microseconds, recalls_of, summarise
from mrl_db.recall.sample import PrefixRanks, Sample

K, N = 4, 6
LOW = Stage(8, Precision.float16, 20)
FULL = Stage(32, Precision.float32, K)
WALK, SCAN = Plan("hnsw", 40, (LOW, FULL)), Plan("seqscan", 1, (LOW, FULL))
THREE = Plan("hnsw", 40, (LOW, Stage(16, Precision.float16, 12), FULL))


class Engine:
    """Finds the first `right[route]` answers of each query."""

    threads = 3

    def __init__(self, right, weight=1.0):
        self.right, self.weight = right, weight
        self.calls = []

    def search(self, request, queries, plan, *, threads, hidden):
        self.calls.append((request, plan, threads, hidden))
        finds = np.arange(K) < self.right[plan.route]
        ids = np.tile(np.where(finds, np.arange(K), -1), (len(queries), 1))
        return Hits(ids, np.where(ids < 0, 9.0, 0.5), None)

    def misses_for_rows(self, plan):
        return self.weight if plan.walks else 1.0

    def seconds_of_one(self, request, query, plan):  # noqa: ARG002
        self.calls.append(plan)
        return 1e-6 * plan.effort


def a_sample(keys=None, ranks=None, dims=8):
    prefix = None if ranks is None else PrefixRanks(dims, np.array(ranks))
    return Sample(
        "given" if keys is None else "rows",
        np.zeros((N, 32), dtype=np.float32),
        np.tile(np.arange(K), (N, 1)),
        np.full((N, K), 0.5),
        keys,
        prefix,
    )


KEYS = tuple(range(100, 100 + N))


def test_given_queries_are_searched_for_as_they_are():
    engine = Engine({"hnsw": 3}, weight=4.0)

    recalls = recalls_of(engine, "request", WALK, a_sample())

    assert engine.calls == [("request", WALK, 3, None)]
    assert recalls.measured.tolist() == recalls.weighted.tolist() == [0.75] * N
    assert (recalls.weight, recalls.least) == (1.0, 0.0)


def test_rows_are_hidden_and_an_engine_that_hides_them_well_is_taken_at_its_word():
    engine = Engine({"graph": 2})

    recalls = recalls_of(engine, None, Plan("graph", 40, (LOW, FULL)), a_sample(KEYS))

    assert engine.calls[0][3] == KEYS
    assert recalls.weighted.tolist() == [0.5] * N


def test_only_what_the_walk_missed_counts_more_than_once():
    """The shortlist would have held three of four answers; the walk brought two."""
    ranks = [[0, 3, 19, 20]] * N
    engine = Engine({"hnsw": 2}, weight=4.0)

    recalls = recalls_of(engine, None, WALK, a_sample(KEYS, ranks))

    assert recalls.measured.tolist() == [0.5] * N
    assert recalls.weighted.tolist() == pytest.approx([0.75 - 4 * 0.25] * N)
    assert recalls.least == -3.0
    assert summarise(recalls).mean == 0.5
    assert summarise(recalls).low == 0.0


@pytest.mark.parametrize(
    ("plan", "sample"),
    [
        (WALK, a_sample(KEYS)),
        (WALK, a_sample(KEYS, [[0] * K] * N, dims=4)),
        (THREE, a_sample(KEYS)),
    ],
)
def test_what_prefix_ranks_cannot_tell_is_searched_for_without_the_walk(plan, sample):
    engine = Engine({"hnsw": 2, "seqscan": 3}, weight=3.0)

    recalls = recalls_of(engine, None, plan, sample)

    assert [call[1].route for call in engine.calls] == ["hnsw", "seqscan"]
    assert engine.calls[1][1].stages == plan.stages
    assert recalls.weighted.tolist() == pytest.approx([0.75 - 3 * 0.25] * N)


def test_a_scan_whose_prefix_ranks_are_there_is_not_run():
    ranks = [[0, 3, 19, 20]] * N
    engine = Engine({})

    recalls = recalls_of(engine, None, SCAN, a_sample(KEYS, ranks))

    assert engine.calls == []
    assert recalls.measured.tolist() == [0.75] * N
    assert recalls.weight == 1.0


def test_parts_of_a_sample_keep_their_ranks_and_keys():
    ranks = np.arange(N * K).reshape(N, K)
    sample = a_sample(KEYS, ranks).part(2, 5)

    assert len(sample) == 3
    assert sample.keys == KEYS[2:5]
    assert sample.prefix.ranks.tolist() == ranks[2:5].tolist()


def test_times_are_taken_in_turns():
    engine, other = Engine({}), Plan("hnsw", 80, WALK.stages)

    times = microseconds(engine, None, [WALK, other], np.zeros((2, 32), dtype=np.float32), 3)

    assert engine.calls == [WALK, WALK, other, other] * 3
    assert times[0].tolist() == pytest.approx(np.full((3, 2), 40.0))
    assert times[1].tolist() == pytest.approx(np.full((3, 2), 80.0))
