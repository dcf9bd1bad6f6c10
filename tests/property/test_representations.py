"""What prefixes and precisions are worth, against a plain twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrl_db
from mrl_db import Precision
from mrl_db.evaluate.representations import as_stored, by_dims, energy, nearest
from mrl_db.model.metric import Metric


def twin(rows, query, metric, k, own=None):
    with np.errstate(invalid="ignore", divide="ignore"):
        exact, asked = rows.astype(np.float64), query.astype(np.float64)
        distances = {
            Metric.l2: lambda: np.linalg.norm(exact - asked, axis=1),
            Metric.inner_product: lambda: -exact @ asked,
            Metric.cosine: lambda: (
                1 - exact @ asked / (np.linalg.norm(exact, axis=1) * np.linalg.norm(asked))
            ),
        }[metric]()
    order = [row for row in np.lexsort((np.arange(len(rows)), distances)) if row != own]
    return order[:k]


@given(
    metric=st.sampled_from(list(Metric)),
    n=st.integers(3, 30),
    dims=st.integers(2, 12),
    seed=st.integers(0, 2**32 - 1),
    left_out=st.booleans(),
)
def test_recall_at_fewer_dims_is_that_of_cut_vectors(metric, n, dims, seed, left_out):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dims)).astype(np.float32)
    asked = rows[:3] if left_out else rng.standard_normal((3, dims)).astype(np.float32)
    width = int(rng.integers(1, dims + 1))
    k = min(2, n - 1)
    own = range(3) if left_out else None

    got = by_dims(rows, asked, [width], metric=metric, k=k, shortlist=k, own_rows=own)[0]

    shares = []
    for query in range(3):
        true = twin(rows, asked[query], metric, k, query if left_out else None)
        found = twin(rows[:, :width], asked[query, :width], metric, k, query if left_out else None)
        shares.append(len(set(true) & set(found)) / k)
    if (
        width > 1 or metric is not Metric.cosine
    ):  # one coordinate under cosine is all ties, decided by rounding
        assert got.recall == pytest.approx(np.mean(shares))
    assert got.bytes_per_row == 4 * width


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([Precision.float16, Precision.int8, Precision.int4, Precision.bit]),
)
def test_what_is_stored_is_near_what_was_given(seed, precision):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((20, 16)).astype(np.float32)
    rows[3] = 0

    stored = as_stored(rows, precision)

    if precision is Precision.bit:
        centred, kept = rows - rows.mean(axis=0), stored - rows.mean(axis=0)
        np.testing.assert_allclose(
            (centred * kept).sum(axis=1), (centred**2).sum(axis=1), rtol=1e-4
        )  # right for the row itself
    else:
        step = {Precision.float16: 2**-10, Precision.int8: 1 / 254, Precision.int4: 1 / 14}[
            precision
        ]
        assert np.all(
            np.abs(stored - rows) <= step * np.abs(rows).max(axis=1, keepdims=True) * 1.001
        )
        assert np.all(stored[3] == 0)


def test_labels_and_judgements_are_scored_at_every_width():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(5), 40)
    rows = (np.eye(5, 12)[labels] + 0.25 * rng.standard_normal((200, 12))).astype(np.float32)
    judgements = [
        dict.fromkeys(np.flatnonzero(labels == label).tolist(), 1.0) for label in labels[:20]
    ]

    found = by_dims(
        rows,
        rows[:20],
        (2, 5, 12),
        precisions=("float32", "bit"),
        labels=labels,
        query_labels=labels[:20],
        ids=range(200),
        judgements=judgements,
        own_rows=range(20),
    )

    assert [(q.dims, q.precision.value) for q in found] == [
        (d, p) for d in (2, 5, 12) for p in ("float32", "bit")
    ]
    assert found[2].accuracy > 0.9  # the first five dims hold the classes
    assert found[2].mean_average_precision > 0.8
    assert found[2].ndcg > 0.8
    assert found[4].recall == 1.0


def test_energy_rises_to_one_and_no_faster_than_the_best_directions():
    rows = np.random.default_rng(1).standard_normal((300, 10)).astype(np.float32) * np.linspace(
        1, 3, 10, dtype=np.float32
    )

    plain, best = energy(rows)

    assert plain[-1] == pytest.approx(1.0)
    assert best[-1] == pytest.approx(1.0)
    assert np.all(np.diff(plain) >= 0)
    assert np.all(best >= plain - 1e-9)


def test_what_does_not_fit_is_refused():
    rows = np.ones((4, 3), dtype=np.float32)

    with pytest.raises(mrl_db.ShapeError, match="wanted"):
        by_dims(rows, np.ones((2, 5), dtype=np.float32), [2])
    with pytest.raises(mrl_db.ValueRangeError, match="dims is 4"):
        by_dims(rows, rows, [4])
    with pytest.raises(mrl_db.ValueRangeError, match="come together"):
        by_dims(rows, rows, [2], labels=[1, 2, 3, 4])
    with pytest.raises(mrl_db.ValueRangeError, match="give these"):
        by_dims(rows, rows, [2], judgements=[{}] * 4)
    assert nearest(rows, rows[:1], Metric.l2, 2).tolist() == [[0, 1]]
