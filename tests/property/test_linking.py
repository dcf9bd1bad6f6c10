"""Rows that come after the build: the graph is as good as one that is built of all of them."""

import numpy as np
import pytest

import mrl_db
from mrl_db import _kernels, graph_plan, kernels
from mrl_db.engines.native.plans import native_plan
from mrl_db.engines.native.projection import fit_projection

K = 10
COSINE, INNER_PRODUCT, L2 = (
    _kernels.Metric.__members__[name] for name in ("cosine", "inner_product", "l2")
)


def keys(first, end):
    return np.arange(first, end, dtype=np.int64).view(np.uint8).reshape(-1, 8)


def grown(rows, built, metric=COSINE, together=64):
    """Returns an index of rows, all but the first `built` of which came later, so many at a time."""
    index = _kernels.Index(metric, rows.shape[1], _kernels.KeyType.int64, True)
    index.append(keys(0, built), rows[:built], 1)
    index.set_projection(*fit_projection(index.sample(built)))
    index.build("default", 1, None)
    for begin in range(built, len(rows), together):
        end = min(len(rows), begin + together)
        index.upsert(keys(begin, end), rows[begin:end])
        assert index.link_waiting(together, 1) == end - begin
    return index


def recall(index, rows, queries, metric, effort, first=0):
    """Returns the share of the nearest that a walk finds; copies of one that is among them count.

    The rows have the keys from `first`.
    """
    products = queries @ rows.T
    if metric == COSINE:
        products /= np.linalg.norm(rows, axis=1)
    if metric == L2:
        products -= (rows**2).sum(axis=1) / 2
    least = np.sort(products, axis=1)[:, -K]
    plan = native_plan(graph_plan(dims=rows.shape[1], k=K, effort=effort))
    found = index.search_many(queries, plan, None, 1)[0].reshape(len(queries), -1)
    reached = np.take_along_axis(products, found - first, axis=1) >= least[:, np.newaxis] - 1e-5
    return reached.mean()


def clusters(rng, n, dims, spread):
    centres = rng.standard_normal((30, dims))
    spectrum = 1 / np.sqrt(1 + np.arange(dims))
    chosen = centres[rng.integers(0, len(centres), n)]
    made = (chosen + spread * rng.standard_normal((n, dims))) * spectrum
    return np.ascontiguousarray(made, dtype=np.float32)


@pytest.mark.parametrize("metric", [COSINE, INNER_PRODUCT, L2], ids=lambda metric: metric.name)
@pytest.mark.parametrize("spread", [1.0, 0.1], ids=["loose", "near"])
def test_a_graph_that_grew_is_as_good_as_one_that_was_built(metric, spread):
    rng = np.random.default_rng(8)
    made = clusters(rng, 2_700, 96, spread)
    rows, queries = made[:-200], made[-200:]

    lived, fresh = (grown(rows, built, metric) for built in (1_700, len(rows)))

    for effort in (24, 80):
        wanted = recall(fresh, rows, queries, metric, effort)
        assert recall(lived, rows, queries, metric, effort) >= wanted - 0.01


def reached(links, first):
    """Returns which slots links lead to from the first ones, by however many steps."""
    are = np.arange(len(links)) < first
    ahead = np.flatnonzero(are)
    while len(ahead):
        to = np.unique(links[ahead])
        ahead = to[to < len(links)]
        ahead = ahead[~are[ahead]]
        are[ahead] = True
    return are


@pytest.mark.parametrize("metric", [COSINE, INNER_PRODUCT, L2], ids=lambda metric: metric.name)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3, 3.0])
def test_near_copies_that_come_later_are_reached(metric, noise):
    """Far from all that was built of, and hardly to be told apart."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((2_600, 32)).astype(np.float32)
        rows[2_000:] = 8 * rng.standard_normal(32) + noise * rows[2_000:]

        index = grown(rows, 2_000, metric, together=256)

        assert reached(index.links(), 2_000).all()


def test_near_copies_that_come_later_are_found():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((2_600, 32)).astype(np.float32)
        rows[2_000:] = 8 * rng.standard_normal(32) + 0.02 * rows[2_000:]

        index = grown(rows, 2_000)

        plan = native_plan(graph_plan(dims=32, k=K))
        found = index.search_many(rows[2_000:], plan, None, 1)[0].reshape(600, -1)
        assert (found == np.arange(2_000, 2_600)[:, np.newaxis]).any(axis=1).mean() > 0.85


@pytest.mark.parametrize("built", [2_000, 2_600], ids=["later", "built"])
@pytest.mark.parametrize(
    ("noise", "least"), [(0.02, 0.85), (0.3, 0.95), (3.0, 1)], ids=lambda value: f"{value:g}"
)
def test_near_copies_that_are_left_when_others_are_gone_are_found(built, noise, least):
    """Of a crowd two thirds go, and the index heals."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((2_600, 32)).astype(np.float32)
        rows[2_000:] = 8 * rng.standard_normal(32) + noise * rows[2_000:]
        left = 2_000 + rng.permutation(600)[:200]
        index = grown(rows, built)
        for gone in np.setdiff1d(np.arange(2_000, 2_600), left):
            index.erase(keys(gone, gone + 1))

        index.heal()

        assert reached(index.links(), 2_000)[left].all()
        plan = native_plan(graph_plan(dims=32, k=K))
        found = index.search_many(rows[left], plan, None, 1)[0].reshape(len(left), -1)
        assert (found == left[:, np.newaxis]).any(axis=1).mean() >= least


def test_copies_that_come_one_after_another_are_found():
    """A walk that asks for any of them finds others; the rows between them are not cut off."""
    rng = np.random.default_rng(9)
    rows = clusters(rng, 1_500, 48, 1.0)
    rows[1_000:] = np.where(rng.random((500, 1)) < 0.5, rows[rng.integers(0, 5, 500)], rows[1_000:])

    index = grown(rows, 1_000)

    assert recall(index, rows, rows[1_000:], COSINE, 80) >= 0.99


def test_the_same_rows_give_the_same_graph_on_every_instruction_set():
    rows = clusters(np.random.default_rng(10), 600, 72, 1.0)
    graphs = {}

    for name in mrl_db.available_simd():
        with kernels.using_simd(name):
            graphs[name] = grown(rows, 400).links().tobytes()

    assert len(set(graphs.values())) == 1


@pytest.mark.parametrize("gone", [1, 5, 64, 65, 66, 200], ids=lambda gone: f"gone{gone}")
@pytest.mark.parametrize("together", [1, 2, 30], ids=lambda together: f"by{together}")
def test_each_row_is_found_that_comes_when_all_others_are_gone(gone, together):
    rows = np.random.default_rng(11).standard_normal((gone + 40, 16)).astype(np.float32)
    index = grown(rows[:gone], 0, together=1)
    for row in range(gone):
        index.erase(keys(row, row + 1))
    for begin in range(gone, len(rows), together):
        end = min(len(rows), begin + together)
        index.upsert(keys(begin, end), rows[begin:end])
        while index.is_behind:
            index.link_waiting(together, 1)

    assert recall(index, rows[gone:], rows[gone:], COSINE, 80, first=gone) == 1


@pytest.mark.parametrize("together", [1, 256], ids=lambda together: f"by{together}")
def test_rows_that_take_the_place_of_others_around_them_are_found(together):
    """All of a cluster goes, and as many come."""
    rng = np.random.default_rng(12)
    size, end = 100, 10_100
    rows = rng.standard_normal((end, 64))
    centre = 4 * rng.standard_normal(64)
    rows[:size], rows[-size:] = centre + rng.standard_normal((2, size, 64)) / 2
    rows = rows.astype(np.float32)
    index = grown(rows[:-size], end - size)
    index.erase(keys(0, size))
    for begin in range(end - size, end, together):
        piece = slice(begin, min(end, begin + together))
        index.upsert(keys(piece.start, piece.stop), rows[piece])
        index.link_waiting(together, 1)

    assert recall(index, rows[size:], rows[-size:], COSINE, 80, first=size) == 1
