"""The projection that line codes hold: PCA of a sample, mixed by a random rotation.

An orthogonal projection leaves inner products as they are but for what it cuts off; PCA cuts off
the least. The rotation inside the kept dims gives every coordinate the same share, for the codes:
int4 of equal steps wastes nothing where all coordinates are alike (the idea of RaBitQ,
arXiv:2405.12497).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.pca import leading_directions, principal_directions
from mrl_db.model.plan import PROJECTION_DIMS

SAMPLE_ROWS = 20_000
# Wider vectors get their leading directions by subspace iteration: the time of a whole
# eigendecomposition grows with the cube of the dims.
_EXACT_DIMS = 1100
_SEED = 20261122


def fit_projection(sample: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fits the projection to a sample.

    Args:
        sample: (n, dims) as the metric sees it; n may be small, even 0.

    Returns:
        projection: (dims, 240). Its columns span the sample's leading directions; where dims < 240
            its rows are orthonormal and nothing is cut off.
        mean: (dims,).
    """
    dims = sample.shape[1]
    kept = min(dims, PROJECTION_DIMS)
    mean = sample.mean(axis=0, dtype=np.float64) if len(sample) else np.zeros(dims)
    centred = (sample - mean).astype(np.float32)
    rng = np.random.default_rng(_SEED)
    if dims <= kept or len(sample) < 2:
        directions = np.eye(dims, kept)
    elif dims <= _EXACT_DIMS:
        _, vectors = principal_directions(centred.T @ centred)
        directions = vectors[:, :kept]
    else:
        directions = leading_directions(centred, kept, rng)
    rotation, _ = np.linalg.qr(rng.standard_normal((PROJECTION_DIMS, PROJECTION_DIMS)))
    return np.ascontiguousarray(directions @ rotation[:kept], dtype=np.float32), mean.astype(
        np.float32
    )
