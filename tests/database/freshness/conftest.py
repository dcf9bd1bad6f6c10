"""Collections that are followed while others write."""

import followed
import pytest


@pytest.fixture
def vectors(rng):
    return followed.made(rng)


@pytest.fixture
def docs(db, vectors):
    return followed.loaded(db, vectors)
