"""A collection for tests of parts, and rows that are equally near."""

import uuid

import numpy as np

import mrl_db

DIMS, N = 16, 300
KEYS = {
    "bigint": lambda n: 7 * n - 900,
    "uuid": lambda n: uuid.uuid5(uuid.NAMESPACE_OID, str(n)),
    "text": lambda n: f"ключ {n}" if n % 2 else f"Key-{n}",
}
EXACT = mrl_db.Plan("flat", 1, (mrl_db.Stage(DIMS, mrl_db.Precision.float32, 10),))


def create(dsn, key_type="bigint", **options):
    with mrl_db.connect(dsn) as db:
        db.create_collection(
            "docs", dims=DIMS, key_type=key_type, columns={"year": "integer"}, **options
        )


def keys(key_type, numbers):
    made = [KEYS[key_type](int(n)) for n in numbers]
    return np.array(made) if isinstance(made[0], int) else made


def tied(rng, n):
    """Vectors of few values, so that many are equally near."""
    return rng.integers(-1, 2, (n, DIMS)).astype(np.float32) + np.eye(DIMS, dtype=np.float32)[0] * 3


def assert_same(hits, want):
    assert hits.ids.tolist() == want.ids.tolist()
    np.testing.assert_allclose(hits.distances, want.distances, atol=2e-6)
