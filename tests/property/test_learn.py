"""Nested losses and heads against hand-made values, and adaptors that make prefixes better."""

import copy
import doctest
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db import learn
from mrl_db.evaluate.representations import by_dims
from mrl_db.learn import Adaptor, Rotation
from mrl_db.learn.adaptor import gelu
from mrl_db.model import pca

torch = pytest.importorskip("torch")
FixedFeature, MatryoshkaLoss = learn.FixedFeature, learn.MatryoshkaLoss
NestedLinear = learn.NestedLinear
DIMS, CLASSES = (1, 3, 4), 3
seeds = st.integers(0, 2**31 - 1)


def numpy_loss(embeddings, weights, biases, labels, importance):
    """The sum over widths of c_m times the mean cross-entropy, in float64."""
    total = 0.0
    for width, weight, bias, share in zip(DIMS, weights, biases, importance, strict=True):
        logits = embeddings[:, :width] @ weight.T + bias
        total += share * float(
            (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]).mean()
        )
    return total


@settings(max_examples=20)
@given(seeds, st.booleans())
def test_the_loss_of_nested_heads_is_its_numpy_twin(seed, tied):
    torch.manual_seed(seed)
    heads = NestedLinear(DIMS, CLASSES, tied=tied)
    loss = MatryoshkaLoss(DIMS, torch.nn.functional.cross_entropy, weights=(2.0, 1.0, 0.5))
    embeddings, labels = torch.randn(6, 4), torch.randint(CLASSES, (6,))

    got = loss(heads(embeddings), labels)

    layers = [heads.heads[0]] * 3 if tied else list(heads.heads)
    weights = [
        layer.weight.detach().double().numpy()[:, :width]
        for layer, width in zip(layers, DIMS, strict=True)
    ]
    biases = [layer.bias.detach().double().numpy() for layer in layers]
    want = numpy_loss(embeddings.double().numpy(), weights, biases, labels.numpy(), (2.0, 1.0, 0.5))
    assert float(got.detach()) == pytest.approx(want, rel=1e-5)


def test_tied_heads_are_slices_of_one_weight():
    heads = NestedLinear(DIMS, CLASSES, tied=True)
    embeddings = torch.randn(5, 4)

    for width, logits in zip(DIMS, heads(embeddings), strict=True):
        weight = heads.heads[0].weight[:, :width]
        torch.testing.assert_close(logits, embeddings[:, :width] @ weight.T + heads.heads[0].bias)
    assert sum(parameter.numel() for parameter in heads.parameters()) == 4 * CLASSES + CLASSES
    assert (
        sum(parameter.numel() for parameter in NestedLinear(DIMS, CLASSES).parameters())
        == (1 + 3 + 4) * CLASSES + 3 * CLASSES
    )


def test_gradients_reach_each_coordinate_from_every_width_that_holds_it():
    """With base = sum, the slope by coordinate i is the sum of c_m over the widths above i."""
    loss = MatryoshkaLoss(DIMS, lambda prefix: prefix.sum(), weights=(5.0, 2.0, 1.0))
    embeddings = torch.zeros(2, 4, requires_grad=True)

    loss(embeddings).backward()

    assert embeddings.grad.tolist() == [[8.0, 3.0, 3.0, 1.0]] * 2
    mean = MatryoshkaLoss(
        DIMS, lambda prefix: prefix.sum(), weights=(5.0, 2.0, 1.0), reduction="mean"
    )
    assert float(mean(torch.ones(1, 4))) == pytest.approx((5 * 1 + 2 * 3 + 1 * 4) / 8)


def test_a_contrastive_loss_sees_each_prefix_at_unit_length():
    seen = []

    def contrastive(anchors, positives, temperature):
        seen.append((anchors, positives))
        return torch.nn.functional.cross_entropy(
            anchors @ positives.T / temperature, torch.arange(len(anchors))
        )

    loss = MatryoshkaLoss(DIMS, contrastive, normalise=True)
    anchors, positives = torch.randn(4, 4), torch.randn(4, 4)

    got = loss((anchors, positives), 0.1)

    assert [a.shape[1] for a, _ in seen] == [1, 3, 4]
    for a, p in seen:
        torch.testing.assert_close(a.norm(dim=1), torch.ones(4))
        torch.testing.assert_close(p.norm(dim=1), torch.ones(4))
    want = 0.0
    for width in DIMS:
        a, p = (
            v.double().numpy()[:, :width]
            / np.linalg.norm(v.double().numpy()[:, :width], axis=1, keepdims=True)
            for v in (anchors, positives)
        )
        logits = a @ p.T / 0.1
        want += float((np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)).mean())
    assert float(got) == pytest.approx(want, rel=1e-4)


def test_drawn_widths_give_the_whole_loss_on_average():
    whole = MatryoshkaLoss((1, 2, 3, 4), lambda prefix: prefix.sum())
    drawn = MatryoshkaLoss((1, 2, 3, 4), lambda prefix: prefix.sum(), dims_per_step=2, seed=3)
    embeddings = torch.ones(1, 4)

    values = [float(drawn(embeddings)) for _ in range(600)]

    assert len(set(values)) == 3
    assert np.mean(values) == pytest.approx(float(whole(embeddings)), rel=0.05)


def test_fixed_features_look_at_their_dims_only():
    head = FixedFeature(2, CLASSES)
    embeddings = torch.randn(3, 4)
    other = embeddings.clone()
    other[:, 2:] = 7.0

    torch.testing.assert_close(head(embeddings), head(other))


def test_losses_and_heads_are_classes_that_can_be_pickled():
    cross_entropy = torch.nn.functional.cross_entropy
    made = {
        MatryoshkaLoss: MatryoshkaLoss(DIMS, cross_entropy, normalise=False, dims_per_step=2),
        NestedLinear: NestedLinear(DIMS, CLASSES, tied=True),
        FixedFeature: FixedFeature(3, CLASSES),
    }
    embeddings, labels = torch.randn(6, 4), torch.randint(CLASSES, (6,))

    for kind, module in made.items():
        file = io.BytesIO()
        torch.save(module, file)
        file.seek(0)
        for twin in (
            pickle.loads(pickle.dumps(module)),
            copy.deepcopy(module),
            torch.load(file, weights_only=False),
        ):
            assert type(twin) is kind
            assert isinstance(twin, torch.nn.Module)
            assert isinstance(repr(twin), str)
            if kind is MatryoshkaLoss:
                logits = [head.detach() for head in made[NestedLinear](embeddings)]
                expected = copy.deepcopy(module)
                for _ in range(5):  # the draws go on where they were
                    assert float(twin(logits, labels)) == float(expected(logits, labels))
            else:
                got, want = twin(embeddings), module(embeddings)
                for mine, theirs in zip(got, want, strict=True):
                    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_every_public_name_is_there_and_no_other():
    import mrl_db.learn

    for name in mrl_db.learn.__all__:
        assert getattr(mrl_db.learn, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mrl_db.learn.nothing


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: MatryoshkaLoss((4, 2), sum), "rising"),
        (lambda: MatryoshkaLoss(DIMS, sum, weights=(1, 2)), "3 numbers"),
        (lambda: MatryoshkaLoss(DIMS, sum, weights=(0, 0, 0)), "not all 0"),
        (lambda: MatryoshkaLoss(DIMS, sum, reduction="max"), "'sum' or 'mean'"),
        (lambda: MatryoshkaLoss(DIMS, sum, dims_per_step=4), "1 to 3"),
        (lambda: MatryoshkaLoss(DIMS, torch.sum)(torch.ones(2, 5)), "5 dims"),
        (lambda: NestedLinear(DIMS, 1), "at least 2"),
        (
            lambda: Adaptor.fit(
                np.ones((50, 4), dtype=np.float32), (2, 4), queries=np.ones((2, 4))
            ),
            "come together",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(call, told):
    with pytest.raises(mrl_db.ValueRangeError, match=told):
        call()


def test_without_pytorch_all_but_training_works():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import mrl_db, numpy as np\n"
        "from mrl_db.learn import Rotation, Adaptor\n"
        "Rotation.fit(np.eye(3)).apply(np.eye(3))\n"
        "try: from mrl_db.learn import MatryoshkaLoss\n"
        "except mrl_db.MissingDependencyError as error: print('loss:', error)\n"
        "try: Adaptor.fit(np.eye(64), (2, 64))\n"
        "except mrl_db.MissingDependencyError as error: print('fit:', error)\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert said.stdout.count("pip install torch") == 2


def test_examples_are_as_shown():
    assert doctest.testmod(pca).failed == 0


def test_leading_directions_are_those_of_the_whole_decomposition():
    """Energies that fall by half: three rounds of iteration leave no visible difference."""
    rng = np.random.default_rng(5)
    rows = (rng.standard_normal((400, 60)) * 0.5 ** np.arange(60)).astype(np.float32)

    _, directions = pca.principal_directions(rows.T @ rows)
    leading = pca.leading_directions(rows, 4, rng)

    np.testing.assert_allclose(leading.T @ leading, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(np.abs(leading.T @ directions[:, :4]), np.eye(4), atol=1e-3)


@settings(max_examples=20)
@given(seeds, st.integers(2, 12))
def test_a_rotation_keeps_distances_and_puts_the_most_first(seed, dims):
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((50, dims)) * np.linspace(1, 3, dims)).astype(np.float32)

    rotation = Rotation.fit(vectors)
    rotated = rotation.apply(vectors)

    np.testing.assert_allclose(rotated @ rotated.T, vectors @ vectors.T, rtol=1e-3, atol=1e-3)
    assert np.all(np.diff(rotation.energy) <= 1e-9)
    assert rotation.energy.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(Rotation.from_bytes(rotation.to_bytes()).matrix, rotation.matrix)
    np.testing.assert_allclose(rotation.apply(vectors[0]), rotated[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(mrl_db.ShapeError, match="rotation takes"):
        rotation.apply(np.ones((2, dims + 1)))


def test_gelu_is_that_of_pytorch():
    values = np.linspace(-6, 6, 101, dtype=np.float32)

    want = torch.nn.functional.gelu(torch.from_numpy(values), approximate="tanh").numpy()

    np.testing.assert_allclose(gelu(values), want, atol=1e-6)


def test_an_adaptor_makes_prefixes_better_and_comes_back_from_bytes():
    """Vectors on a curved sheet: what varies most is not where the neighbours lie."""
    rng = np.random.default_rng(11)
    hidden = rng.standard_normal((700, 6))
    lift = rng.standard_normal((6, 32))
    vectors = (np.tanh(hidden @ lift) + 0.05 * rng.standard_normal((700, 32))).astype(np.float32)
    asked, pairs = (
        vectors[:100] + 0.3 * rng.standard_normal((100, 32)).astype(np.float32),
        [(i, i) for i in range(100)],
    )
    torch.manual_seed(0)

    adaptor = Adaptor.fit(
        vectors,
        (4, 8, 32),
        queries=asked,
        judgements=pairs,
        hidden=48,
        steps=60,
        batch=128,
        neighbours=8,
    )
    adapted = adaptor.apply(vectors)

    np.testing.assert_allclose(np.linalg.norm(adapted, axis=1), 1.0, rtol=1e-4)
    plain = [q.recall for q in by_dims(vectors, vectors[:150], (4, 8), own_rows=range(150))]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    true = by_dims(unit, unit[:150], (32,), own_rows=range(150))
    assert true[0].recall == 1.0
    own = [
        np.mean(
            [
                len(set(a) & set(b)) / 10
                for a, b in zip(_nearest(adapted[:, :w]), _nearest(unit), strict=True)
            ]
        )
        for w in (4, 8)
    ]
    assert own[0] > plain[0] + 0.05
    assert own[1] > plain[1]
    back = Adaptor.from_bytes(adaptor.to_bytes())
    np.testing.assert_array_equal(back.apply(vectors), adapted)
    assert back.nesting_dims == (4, 8, 32)
    np.testing.assert_allclose(adaptor.apply(vectors[3]), adapted[3], rtol=1e-4, atol=1e-5)
    with pytest.raises(mrl_db.ShapeError, match="adaptor takes"):
        adaptor.apply(np.ones((2, 5)))


def _nearest(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = unit[:150] @ unit.T
    similar[np.arange(150), np.arange(150)] = -2
    return np.argsort(-similar, axis=1)[:, :10].tolist()


def test_labels_are_supervision_too():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 400)
    vectors = (rng.standard_normal((400, 16)) + 2.0 * np.eye(4, 16)[labels][:, ::-1]).astype(
        np.float32
    )

    adaptor = Adaptor.fit(
        vectors, (2, 16), labels=labels, hidden=32, steps=60, batch=128, neighbours=8
    )

    before, after = (
        by_dims(
            rows, rows[:200], (2,), labels=labels, query_labels=labels[:200], own_rows=range(200)
        )[0].accuracy
        for rows in (vectors, adaptor.apply(vectors))
    )
    assert after > before + 0.05
