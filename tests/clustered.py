"""A collection of rows in clusters, with an HNSW index."""

import numpy as np

DIMS, N = 64, 4000


def made(fresh):
    """Returns rows in clusters whose spectrum falls, and queries like them that are none of them."""
    rng = np.random.default_rng(7)
    spectrum = (1.0 / np.sqrt(1 + np.arange(DIMS))).astype(np.float32)
    centres = rng.standard_normal((300, DIMS)).astype(np.float32) * spectrum
    noise = rng.standard_normal((N + fresh, DIMS)).astype(np.float32) * spectrum
    vectors = centres[rng.integers(0, 300, N + fresh)] + 0.7 * noise
    return vectors[:N], vectors[N:]


def indexed(db, rows):
    """Returns the collection."""
    docs = db.create_collection(
        "docs", dims=DIMS, nesting_dims=(16, 64), columns={"year": "integer"}
    )
    docs.add(np.arange(N), rows, year=np.arange(N) % 10)
    docs.create_index(kind="hnsw")
    return docs
