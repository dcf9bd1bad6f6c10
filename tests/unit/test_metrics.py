"""Recall, average precision, nDCG, 1-NN accuracy, and the bounds of a mean: against plain twins,
and against what they claim.
"""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrl_db import ShapeError, ValueRangeError
from mrl_db.evaluate import metrics
from mrl_db.recall import bounds
from mrl_db.recall.bounds import mean_exceeds, mean_lower_bound, mean_upper_bound
from mrl_db.recall.measurement import Recalls, summarise

labels = st.integers(0, 3)


@pytest.mark.parametrize("module", [bounds, metrics])
def test_examples_are_as_shown(module):
    assert doctest.testmod(module).failed == 0


@given(
    st.lists(st.tuples(labels, st.lists(labels, min_size=5, max_size=9)), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_average_precision_is_the_mean_of_precisions_at_hits(queries, k):
    wanted, found = [want for want, _ in queries], [row[:5] for _, row in queries]
    relevant = [sum(label == want for label in row) for want, row in queries]

    got = metrics.average_precision(found, wanted, k, relevant=relevant)

    for want, row, count, score in zip(wanted, found, relevant, got, strict=True):
        total = sum(
            sum(label == want for label in row[: i + 1]) / (i + 1)
            for i in range(k)
            if row[i] == want
        )
        assert score == pytest.approx(total / min(k, count) if count else 0.0)


@given(
    st.permutations(range(8)),
    st.dictionaries(st.integers(0, 9), st.sampled_from([0.5, 1.0, 2.0]), min_size=1),
    st.integers(1, 8),
)
def test_ndcg_is_gain_over_the_best_gain(order, gains, k):
    got = metrics.ndcg([order], [gains], k)[0]

    dcg = sum(gains.get(key, 0.0) / math.log2(rank + 2) for rank, key in enumerate(order[:k]))
    best = sum(
        gain / math.log2(rank + 2)
        for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:k])
    )
    assert got == pytest.approx(dcg / best)
    assert metrics.ndcg([sorted(gains, key=gains.get, reverse=True)], [gains], k)[
        0
    ] == pytest.approx(1.0)


def test_recall_counts_ties_and_identities():
    true_ids, true = np.array([[1, 2, 3]]), np.array([[0.1, 0.2, 0.2]])

    assert (
        metrics.recall_of(np.array([[1, 2, 9]]), np.array([[0.1, 0.2, 0.2]]), true_ids, true)[0]
        == 1.0
    )
    assert metrics.recall_of(np.array([[1, 2, 9]]), np.array([[0.1, 0.2, 0.3]]), true_ids, true)[
        0
    ] == pytest.approx(2 / 3)
    assert metrics.recall_of(np.array([[1, 2]]), np.array([[0.1, 0.2]]), true_ids, true)[
        0
    ] == pytest.approx(2 / 3)
    assert (
        metrics.recall_of(np.array([[1, 2, 3]]), np.array([[0.1, 0.2, math.nan]]), true_ids, true)[
            0
        ]
        == 1.0
    )


def test_summary_tells_the_worst_as_well():
    recalls = np.array([1.0] * 94 + [0.5] * 5 + [0.1])

    summary = summarise(Recalls(recalls, recalls))

    assert (summary.mean, summary.p05, summary.minimum) == (pytest.approx(0.966), 0.5, 0.1)
    assert summary.low < summary.mean < summary.high


def test_a_weight_of_misses_moves_the_lower_bound_alone():
    measured = np.array([1.0] * 480 + [0.9] * 20)
    plain = summarise(Recalls(measured, measured))

    weighted = summarise(Recalls(measured, measured - 3.0 * (1.0 - measured), 4.0))

    assert weighted.low < plain.low
    same = ("queries", "mean", "p05", "minimum", "high")
    assert [getattr(weighted, name) for name in same] == [getattr(plain, name) for name in same]
    assert "count 4 times in the lower bound" in str(weighted)
    assert "count" not in str(plain)


def test_what_has_no_value_is_refused():
    with pytest.raises(ValueRangeError, match="no judgement above 0"):
        metrics.ndcg([["a"]], [{"a": 0.0}])
    with pytest.raises(ShapeError, match="at least k = 3"):
        metrics.average_precision([[1, 1]], [1], 3)
    with pytest.raises(ShapeError, match="at least one"):
        summarise(Recalls.ones(0))
    with pytest.raises(ShapeError, match="wanted"):
        metrics.nearest_neighbour_accuracy([[1], [2]], [1])
    assert metrics.nearest_neighbour_accuracy([[1, 0], [2, 1]], [1, 1]) == 0.5


@pytest.mark.parametrize("mean", [0.9, 0.98, 0.995])
@pytest.mark.parametrize("n", [60, 700])
def test_bounds_of_a_mean_hold_as_often_as_they_say(mean, n):
    """Skewed recalls, mostly 1: a bound that took them for normal would fail here more than one
    time in ten.
    """
    rng = np.random.default_rng(3)
    trials, above, below = 200, 0, 0
    for _ in range(trials):
        recalls = rng.binomial(10, rng.beta(4 * mean, 4 * (1 - mean), n)) / 10
        above += mean_lower_bound(recalls, 0.05) > mean
        below += mean_upper_bound(recalls, 0.05) < mean

    limit = 0.05 * trials + 3 * math.sqrt(0.05 * 0.95 * trials)  # three standard errors
    assert above <= limit
    assert below <= limit


def test_looking_after_every_query_is_allowed():
    rng = np.random.default_rng(4)
    wrongly = 0
    for _ in range(200):
        values = (rng.random(400) < 0.95).astype(
            float
        )  # the mean is the target, which is therefore not exceeded
        wrongly += any(mean_exceeds(values[:n], 0.95, 0.05, 400) for n in range(20, 401, 20))

    assert wrongly <= 0.05 * 200 + 3 * math.sqrt(0.05 * 0.95 * 200)


def test_enough_queries_prove_what_is_so():
    rng = np.random.default_rng(5)
    recalls = rng.binomial(10, 0.995, 2000) / 10

    assert mean_exceeds(recalls, 0.99, 0.05)
    assert not mean_exceeds(recalls, 0.9949, 0.05)
    assert mean_lower_bound(recalls, 0.05) > 0.992
    assert mean_lower_bound(np.ones(1000), 0.05) > 0.995
    assert mean_lower_bound(np.empty(0), 0.05) == 0.0
