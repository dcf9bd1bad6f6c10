"""What the comparison with other libraries calls the native engine by: parts that it builds itself, and that change."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    import peers

    yield peers
    for name in set(sys.modules) - before:
        if not name.startswith(("mrl_db", "numpy")):
            del sys.modules[name]


def test_our_own_side_answers_one_query_and_a_batch(peers, rng):
    rows = rng.standard_normal((600, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ours = peers.Ours(build="fast")
    ours.build(rows)
    ours.set(ours.points[-1], 10, 1)

    many = ours.many(rows[:20])
    one = np.array([ours.one(row) for row in rows[:20]])

    true = np.argsort(-rows[:20] @ rows.T, axis=1)[:, :10]
    assert (one == many).all()
    assert (np.sort(many) == np.sort(true)).mean() > 0.99
