"""Cascades: gradients, thresholds against brute force, proofs against fresh rows, stored rows."""

import doctest
import itertools
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db import _kernels
from mrl_db.classify import Cascade, heads
from mrl_db.classify.stopping import greedy, measure, pareto, stages_of
from mrl_db.engines.native.engine import NativeEngine

DIMS, CLASSES = (2, 4, 8, 16), 6


def made(n, seed):
    """Rows whose class shows in the first coordinates, more clearly with each."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((CLASSES, 16)) * 1.1
    labels = rng.integers(0, CLASSES, n)
    return (centres[labels] + rng.standard_normal((n, 16))).astype(np.float32), np.array(
        [f"class {label}" for label in labels]
    )


@pytest.fixture(scope="module")
def fitted():
    return Cascade(DIMS).fit(*made(1500, 1), calibrate=made(3000, 2), max_loss=0.01)


def test_examples_are_as_shown():
    assert doctest.testmod(heads).failed == 0


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_gradient_of_the_nested_loss_is_its_slope(seed, weighted):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((12, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 12)
    cuts = [rows[:, :width] for width in (1, 3, 5)]
    importance = [2.0, 0.5, 1.0] if weighted else [1.0, 1.0, 1.0]
    at = 0.3 * rng.standard_normal(18)

    _, gradient = heads.nested_loss(at, cuts, labels, 3, importance, 0.1)

    direction = rng.standard_normal(18)
    step = 1e-2
    ahead, behind = (
        heads.nested_loss(at + sign * step * direction, cuts, labels, 3, importance, 0.1)[0]
        for sign in (1, -1)
    )
    assert gradient @ direction == pytest.approx((ahead - behind) / (2 * step), rel=2e-3, abs=2e-3)


def test_the_nested_loss_is_the_sum_of_plain_cross_entropies():
    rng = np.random.default_rng(4)
    rows, labels = rng.standard_normal((20, 4)).astype(np.float32), rng.integers(0, 3, 20)
    matrix = rng.standard_normal((5, 3))

    got, _ = heads.nested_loss(matrix.ravel(), [rows[:, :2], rows], labels, 3, [1.0, 3.0], 0.2)

    want = 0.0
    for width, share in ((2, 1.0), (4, 3.0)):
        logits = rows[:, :width].astype(float) @ matrix[:width] + matrix[4]
        each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]
        want += share * (each.mean() + 0.1 * np.square(matrix[:width]).sum())
    assert got == pytest.approx(want, rel=1e-5)


def test_tied_heads_are_slices_of_one_matrix():
    cascade = Cascade(DIMS, head="tied").fit(*made(600, 1), calibrate=made(600, 2))

    for head in cascade.heads[:-1]:
        np.testing.assert_array_equal(head.weight, cascade.heads[-1].weight[: head.dims])
        np.testing.assert_array_equal(head.bias, cascade.heads[-1].bias)


@pytest.mark.parametrize("head", ["linear", "tied", "class_mean", "neighbours"])
@pytest.mark.parametrize("normalise", [True, False])
def test_every_head_learns_and_more_dims_know_more(head, normalise):
    cascade = Cascade(DIMS, head=head, normalise=normalise).fit(
        *made(1500, 1), calibrate=made(1000, 2)
    )
    rows, labels = made(2000, 3)

    accuracy = [(cascade.predict(rows, dims=width).labels == labels).mean() for width in DIMS]

    assert accuracy[0] > 1.5 / CLASSES
    assert accuracy[-1] > 0.8
    assert accuracy[0] < accuracy[-1]
    assert abs(cascade.score(rows, labels) - accuracy[-1]) < 0.03


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(2, 3))
def test_the_front_holds_every_rule_that_a_price_would_choose(seed, n, stages):
    """Against all thresholds there are: for each price, no rule is better than the front's best."""
    rng = np.random.default_rng(seed)
    confidence = rng.random((n, stages)).round(1)
    wrong = rng.random((n, stages)) < 0.4
    costs = np.cumsum(rng.integers(1, 5, stages)).astype(float)

    front = pareto(confidence, wrong, costs)

    every = itertools.product(
        *[np.append(np.unique(confidence[:, stage]), np.inf) for stage in range(stages - 1)]
    )
    measured = np.array([measure(confidence, wrong, costs, thresholds) for thresholds in every])
    for price in (0.5, 3.0, 40.0):
        best = (measured[:, 0] + price * costs[-1] * measured[:, 1]).min()
        got = min(rule.cost + price * costs[-1] * rule.errors for rule in front)
        assert got >= best - 1e-9
        # Descent by coordinates may end in a valley, of so few rows by at most one row's error.
        assert got <= best + price * costs[-1] / n + 1e-9
    assert [rule.cost for rule in front] == sorted((rule.cost for rule in front), reverse=True)
    assert [rule.errors for rule in front] == sorted(rule.errors for rule in front)
    for rule in front:
        assert (rule.cost, rule.errors) == pytest.approx(
            measure(confidence, wrong, costs, rule.thresholds)
        )


def test_one_threshold_is_found_exactly():
    rng = np.random.default_rng(8)
    confidence, costs = rng.random((300, 2)), np.array([1.0, 10.0])
    wrong = np.stack([rng.random(300) > confidence[:, 0], rng.random(300) < 0.1], axis=1)
    every = np.array(
        [measure(confidence, wrong, costs, (t,)) for t in np.append(confidence[:, 0], np.inf)]
    )

    front = pareto(confidence, wrong, costs)

    for price in (1.0, 5.0, 20.0):
        best = (every[:, 0] + price * 10 * every[:, 1]).min()
        assert min(rule.cost + price * 10 * rule.errors for rule in front) <= best + 0.05


def test_a_rule_stops_at_the_first_stage_that_is_sure():
    confidence = np.array([[0.9, 0.1, 0.5], [0.5, 0.8, 0.5], [0.5, 0.7, 0.2], [0.8, 0.9, 0.5]])

    assert stages_of(confidence, (0.8, 0.8)).tolist() == [0, 1, 2, 0]
    assert stages_of(confidence, (np.inf, np.inf)).tolist() == [2, 2, 2, 2]
    assert len(greedy(confidence, confidence < 0.5)) == 2


def test_what_was_proven_is_kept_on_fresh_rows(fitted):
    rows, labels = made(6000, 9)

    answer = fitted.predict(rows)
    full = fitted.predict(rows, dims=16)

    loss = (full.labels == labels).mean() - (answer.labels == labels).mean()
    assert loss <= 0.01 + 0.01  # two standard errors of what 6,000 rows tell
    assert answer.dims.mean() < 13
    low, high = fitted.report.dims_bounds
    assert low - 0.4 < answer.dims.mean() < high + 0.4
    assert (
        fitted.report.accuracy_bounds[0]
        <= fitted.report.accuracy
        <= fitted.report.accuracy_bounds[1]
    )
    assert fitted.report.oracle_accuracy >= fitted.report.full_accuracy
    assert set(fitted.report.class_dims) == set(np.unique(labels))
    assert "at most 1 points below full dims" in str(fitted.report)


def test_confidence_is_calibrated(fitted):
    rows, labels = made(6000, 10)

    answer = fitted.predict(rows)

    right = answer.labels == labels
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        among = (answer.confidence >= low) & (answer.confidence < high)
        assert abs(right[among].mean() - answer.confidence[among].mean()) < 0.06


def test_abstaining_keeps_errors_among_the_answered_few():
    cascade = Cascade(DIMS).fit(*made(1500, 1), calibrate=made(3000, 2), max_error=0.03)
    rows, labels = made(6000, 11)

    answer = cascade.predict(rows)
    strange = cascade.predict(
        np.random.default_rng(3).standard_normal((2000, 16)).astype(np.float32) * 0.1
    )

    answered = ~answer.abstained
    assert 0.3 < answered.mean() < 1.0
    assert (answer.labels != labels)[answered].mean() <= 0.03 + 0.01
    assert (
        strange.abstained.mean() > answer.abstained.mean()
    )  # rows of no class are oftener left alone


def test_the_best_accuracy_at_a_cost():
    cheap = Cascade(DIMS).fit(*made(1500, 1), calibrate=made(2000, 2), max_cost=6)

    assert cheap.predict(made(4000, 12)[0]).dims.mean() < 7
    timed = Cascade(DIMS, costs=[10, 11, 12, 30]).fit(
        *made(1500, 1), calibrate=made(2000, 2), max_cost=13
    )
    assert timed.report.cost < 14
    with pytest.raises(mrl_db.TargetNotMetError, match="the first head alone"):
        cheap.fit_rule(*made(500, 2), max_cost=1)


def test_too_few_rows_prove_nothing_and_all_dims_are_read():
    cascade = Cascade(DIMS).fit(*made(600, 1), calibrate=made(60, 2), max_loss=0.001)

    assert set(cascade.predict(made(200, 3)[0]).dims.tolist()) == {16}
    with pytest.raises(mrl_db.TargetNotMetError, match="more calibration rows"):
        cascade.fit_rule(*made(60, 2), max_error=0.001)


def test_bytes_bring_back_the_same_cascade(fitted):
    rows, _ = made(500, 5)

    for head in ("linear", "tied", "class_mean", "neighbours"):
        cascade = (
            fitted
            if head == "linear"
            else Cascade(DIMS, head=head).fit(*made(300, 1), calibrate=made(300, 2))
        )
        back = Cascade.from_bytes(cascade.to_bytes())
        np.testing.assert_array_equal(back.predict(rows).labels, cascade.predict(rows).labels)
        np.testing.assert_array_equal(back.predict(rows).dims, cascade.predict(rows).dims)
        assert str(back.report) == str(cascade.report)
    for data in (b"", b"PK nothing", fitted.to_bytes()[:200]):
        with pytest.raises(mrl_db.ValueRangeError):
            Cascade.from_bytes(data)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: Cascade((4, 2)), mrl_db.ValueRangeError, "rising"),
        (lambda: Cascade(()), mrl_db.ValueRangeError, "empty"),
        (lambda: Cascade(DIMS, head="tree"), mrl_db.ValueRangeError, "'linear'"),
        (lambda: Cascade(DIMS, costs=[3, 2, 1, 0]), mrl_db.ValueRangeError, "rising"),
        (lambda: Cascade(DIMS).predict(np.ones((1, 16))), mrl_db.NotFittedError, "fit"),
        (
            lambda: Cascade(DIMS).fit(np.ones((5, 8)), [1] * 5, calibrate=made(30, 2)),
            mrl_db.ShapeError,
            r"\(n, 16\)",
        ),
        (
            lambda: Cascade(DIMS).fit(made(30, 1)[0], [1] * 30, calibrate=made(30, 2)),
            mrl_db.ValueRangeError,
            "at least two",
        ),
        (
            lambda: Cascade(DIMS).fit(*made(30, 1), calibrate=made(5, 2)),
            mrl_db.ShapeError,
            "at least 20",
        ),
        (
            lambda: Cascade(DIMS).fit(
                *made(30, 1), calibrate=made(30, 2), max_loss=0.1, max_cost=3
            ),
            mrl_db.ValueRangeError,
            "give one",
        ),
        (
            lambda: Cascade(DIMS).fit(
                np.full((3, 16), np.nan), ["a", "b", "c"], calibrate=made(30, 2)
            ),
            mrl_db.ValueRangeError,
            "NaN",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(call, error, told):
    with pytest.raises(error, match=told):
        call()


@pytest.mark.parametrize("key_type", ["bigint", "uuid", "text"])
def test_stored_rows_get_the_labels_that_they_get_in_process(db, fitted, key_type):
    rows, labels = made(2500, 20)
    key = {"bigint": int, "uuid": lambda i: uuid.UUID(int=i), "text": lambda i: f"row {i}"}[
        key_type
    ]
    keys = [key(i) for i in range(len(rows))]
    docs = db.create_collection(
        "docs",
        dims=16,
        nesting_dims=DIMS,
        key_type=key_type,
        metric="l2",
        columns={"part": "integer"},
    )
    docs.add(keys, rows, part=np.arange(len(rows)) % 5)
    docs.save_classifier("kinds", fitted)

    found = docs.classify("kinds")
    whole = docs.classify(fitted, dims=16)
    some = docs.classify("kinds", where={"part": 2})

    here = fitted.predict(rows)
    place = {each: number for number, each in enumerate(keys)}
    order = [place[each] for each in found.ids.tolist()]
    assert sorted(order) == list(range(len(rows)))
    np.testing.assert_array_equal(found.answer.labels, here.labels[order])
    np.testing.assert_array_equal(found.answer.dims, here.dims[order])
    assert (
        found.coordinate_bytes == 4 * here.dims.sum()
    )  # each coordinate once, and none that was not needed
    assert whole.coordinate_bytes == 4 * 16 * len(rows)
    assert found.key_bytes > whole.key_bytes
    assert len(some.ids) == 500
    assert (found.answer.labels == labels[order]).mean() > 0.8


@pytest.mark.parametrize("key_type", ["bigint", "uuid", "text"])
def test_loaded_rows_get_the_labels_that_they_get_in_the_database(db, fitted, key_type):
    rows, _ = made(40_000, 21)  # more than one block
    key = {"bigint": int, "uuid": lambda i: uuid.UUID(int=i), "text": lambda i: f"row {i}"}[
        key_type
    ]
    docs = db.create_collection(
        "docs", dims=16, nesting_dims=DIMS, key_type=key_type, columns={"part": "integer"}
    )
    docs.add([key(i) for i in range(len(rows))], rows, part=np.arange(len(rows)) % 50)
    docs.load(route="flat", cache=False)
    docs.delete(where={"part": 3})
    docs.add([key(50_000)], rows[:1], part=[7])

    here, there = docs.classify(fitted), docs.classify(fitted, engine="sql")
    some, whole = (
        docs.classify(fitted, where={"part": 7}),
        docs.classify(fitted, engine="native", dims=16),
    )

    label, dims = (
        dict(zip(there.ids.tolist(), each.tolist(), strict=True))
        for each in (there.answer.labels, there.answer.dims)
    )
    assert len(here.ids) == len(there.ids) == 40_000 - 800 + 1
    assert [label[each] for each in here.ids.tolist()] == here.answer.labels.tolist()
    assert [dims[each] for each in here.ids.tolist()] == here.answer.dims.tolist()
    assert here.coordinate_bytes == there.coordinate_bytes
    assert here.key_bytes == 0 < there.key_bytes
    assert len(some.ids) == 801
    assert [label[each] for each in some.ids.tolist()] == some.answer.labels.tolist()
    assert whole.coordinate_bytes == 4 * 16 * len(here.ids)
    docs.delete(where={})
    assert len(docs.classify(fitted).ids) == 0


def test_rows_that_stayed_in_the_database_are_classified_there(db, fitted):
    docs = db.create_collection("docs", dims=16, nesting_dims=DIMS)
    docs.add(np.arange(500), made(500, 22)[0])
    with pytest.raises(mrl_db.NotLoadedError):
        docs.classify(fitted, engine="native")
    docs.load(route="flat", rows="postgres", cache=False)

    assert docs.classify(fitted).key_bytes > 0
    with pytest.raises(mrl_db.NotLoadedError, match="stayed in PostgreSQL"):
        docs.classify(fitted, engine="native")
    wide = db.create_collection("wide", dims=32)
    wide.load(route="flat", cache=False)
    with pytest.raises(mrl_db.ShapeError, match="ends at 16 dims"):
        wide.classify(fitted)


def test_a_row_whose_place_was_taken_is_noticed():
    rows = made(300, 23)[0]
    index = _kernels.Index(_kernels.Metric.l2, 16, _kernels.KeyType.int64, True)
    keys = np.arange(300).view(np.uint8).reshape(300, 8)
    index.append(keys, rows, 1)
    live, ids = index.live(None)
    places = np.array([5, 0, 299], dtype=np.uint32)

    np.testing.assert_array_equal(ids, np.arange(300))
    np.testing.assert_array_equal(index.coordinates(live, places, 2, 6), rows[places, 2:6])
    index.erase(keys[5:6])
    np.testing.assert_array_equal(
        index.coordinates(live, places, 0, 16), rows[places]
    )  # it was there then
    index.heal()
    index.upsert(np.array([1000]).view(np.uint8).reshape(1, 8), rows[7:8])
    assert index.coordinates(live, places, 2, 6) is None
    np.testing.assert_array_equal(index.coordinates(live, places[1:], 2, 6), rows[places[1:], 2:6])
    assert index.live(None)[1].tolist() == [*range(5), 1000, *range(6, 300)]
    for wrong in ((places, 4, 4), (places, 0, 17), (np.array([300], dtype=np.uint32), 0, 4)):
        with pytest.raises(ValueError, match="of (16|300)"):
            index.coordinates(live, *wrong)


def test_a_row_that_is_replaced_again_and_again_sends_the_call_to_the_database(
    db, fitted, monkeypatch
):
    docs = db.create_collection("docs", dims=16, nesting_dims=DIMS)
    docs.add(np.arange(500), made(500, 24)[0])
    docs.load(route="flat", cache=False)
    rows_now = NativeEngine.rows_now
    monkeypatch.setattr(
        NativeEngine, "rows_now", lambda *given: (rows_now(*given)[0], lambda *_: None)
    )

    assert len(docs.classify(fitted).ids) == 500


@pytest.mark.parametrize("normalise", [False, True])
def test_heads_that_were_trained_elsewhere_make_a_cascade(fitted, normalise):
    rows, labels = made(3000, 25)
    weights = [head.weight for head in fitted.heads]
    biases = [head.bias for head in fitted.heads]
    cascade = Cascade.from_heads(weights, biases, fitted.classes, normalise=normalise)

    everything = cascade.predict(rows)
    assert (everything.dims == 16).all()  # until a rule is fitted, all rows go to the widest head
    if normalise == fitted.normalise:
        np.testing.assert_array_equal(everything.labels, fitted.predict(rows, dims=16).labels)
    cascade.fit_rule(rows, labels, max_loss=0.02)
    assert cascade.predict(rows).dims.mean() < 16
    again = Cascade.from_bytes(cascade.to_bytes())
    np.testing.assert_array_equal(again.predict(rows).labels, cascade.predict(rows).labels)


@pytest.mark.parametrize(
    ("weights", "biases", "classes", "error"),
    [
        ([np.zeros((2, 3))], [np.zeros(3)], ["a", "b"], mrl_db.ShapeError),
        ([np.zeros((2, 2))], [np.zeros(3)], ["a", "b"], mrl_db.ShapeError),
        ([np.zeros((2, 2))], [], ["a", "b"], mrl_db.ShapeError),
        ([np.zeros((2, 2))], [np.zeros(2)], ["a", "a"], mrl_db.ShapeError),
        ([np.full((2, 2), np.nan)], [np.zeros(2)], ["a", "b"], mrl_db.ValueRangeError),
        (
            [np.zeros((4, 2)), np.zeros((2, 2))],
            [np.zeros(2)] * 2,
            ["a", "b"],
            mrl_db.ValueRangeError,
        ),
    ],
)
def test_heads_that_do_not_fit_are_refused(weights, biases, classes, error):
    with pytest.raises(error):
        Cascade.from_heads(weights, biases, classes)


def test_classifiers_are_kept_with_their_collection(db, fitted):
    docs = db.create_collection("docs", dims=16, nesting_dims=DIMS)
    docs.save_classifier("kinds", fitted)
    docs.save_classifier("kinds", fitted)  # in place of the other

    assert len(docs.classify("kinds").ids) == 0
    with pytest.raises(mrl_db.NotFittedError, match="'others'"):
        docs.classify("others")
    with pytest.raises(mrl_db.ShapeError, match="ends at 16 dims"):
        db.create_collection("wide", dims=32).classify(fitted)
    db.drop("docs")
    assert len(db.create_collection("docs", dims=16).classify(fitted).answer) == 0
