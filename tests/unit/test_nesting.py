"""Truncation rules of models, and whether vectors are nested at all."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrl_db
from mrl_db.evaluate.nestedness import nestedness
from mrl_db.model import nesting
from mrl_db.model.nesting import RULES, rule_of, truncate


def test_examples_are_as_shown():
    assert doctest.testmod(nesting).failed == 0


@pytest.mark.parametrize("model", sorted(RULES))
def test_every_model_is_cut_where_its_makers_say_and_nowhere_else(model):
    rule = RULES[model]
    vectors = np.random.default_rng(1).standard_normal((3, rule.dims))

    for width in rule.listed:
        cut = truncate(vectors, width, model=model)
        assert cut.shape == (3, width)
        assert cut.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1.0, rtol=1e-5)
    assert rule.listed[-1] == rule.dims
    assert list(rule.listed) == sorted(set(rule.listed))
    assert rule.source
    illegal = next((width for width in range(1, rule.dims) if not rule.allows(width)), None)
    if illegal is not None:
        with pytest.raises(mrl_db.ValueRangeError, match=f"not made to be cut to {illegal} dims"):
            truncate(vectors, illegal, model=model)
    with pytest.raises(mrl_db.ValueRangeError, match="cut the full ones"):
        truncate(vectors[:, :-1], rule.listed[0], model=model)


@given(st.integers(1, 767), st.integers(0, 2**32 - 1))
def test_layer_norm_comes_before_the_cut(shift, seed):
    """Adding the same to all coordinates of a vector, or scaling it, changes nothing for a model
    that is layer-normalised.
    """
    vectors = np.random.default_rng(seed).standard_normal((2, 768)) * 10

    plain = truncate(vectors, 128, model="nomic-ai/nomic-embed-text-v1.5")
    moved = truncate(3 * vectors + shift, 128, model="nomic-embed-text-v1.5")

    np.testing.assert_allclose(plain, moved, atol=1e-4)
    by_hand = (vectors - vectors.mean(axis=1, keepdims=True))[:, :128]
    np.testing.assert_allclose(
        plain, by_hand / np.linalg.norm(by_hand, axis=1, keepdims=True), atol=1e-4
    )


def test_lengths_stay_where_they_are_wanted():
    vector = np.array([3.0, 4.0, 12.0])

    np.testing.assert_allclose(truncate(vector, 2, normalise=False), [3.0, 4.0])
    np.testing.assert_allclose(truncate(vector, 2), [0.6, 0.8])
    assert truncate(np.zeros(3), 2).tolist() == [0.0, 0.0]


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(mrl_db.ValueRangeError, match="no rule for model 'word2vec'"):
        rule_of("word2vec")
    with pytest.raises(mrl_db.ShapeError, match="prefix of 9 dims"):
        truncate(np.ones(3), 9)
    with pytest.raises(mrl_db.ShapeError, match="wanted floats"):
        truncate(np.ones((2, 3), dtype=np.int64), 2)


def test_vectors_tell_whether_they_are_nested(tmp_path):
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((100, 64))
    plain = (centres[rng.integers(0, 100, 2000)] + 0.5 * rng.standard_normal((2000, 64))).astype(
        np.float32
    )
    nested = plain * np.where(np.arange(64) < 16, 3.0, 1.0).astype(np.float32)

    told, other = nestedness(nested), nestedness(plain)

    assert told.nested
    assert not other.nested
    assert told.steps == (16,)
    assert other.steps == ()
    assert "not nested" in str(other)
    assert "steps down behind 16" in str(told)
    told.plot(tmp_path / "nested.png")
    assert (tmp_path / "nested.png").stat().st_size > 10_000
    with pytest.raises(mrl_db.ShapeError, match="at least 100"):
        nestedness(plain[:50])
