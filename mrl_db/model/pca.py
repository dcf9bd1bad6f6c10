"""Principal directions: one eigendecomposition for rotations, projections and figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_directions(
    gram: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the eigenvectors of a matrix of second moments, the strongest first.

    Args:
        gram: (dims, dims), rows.T @ rows; of rows about their mean for a PCA in the strict sense.

    Returns:
        The squared length along each direction (dims,), falling; and the directions, columns of
        (dims, dims).

    >>> energy, directions = principal_directions(np.diag([1.0, 9.0]))
    >>> energy.tolist(), np.abs(directions).tolist()
    ([9.0, 1.0], [[0.0, 1.0], [1.0, 0.0]])
    """
    energy, directions = np.linalg.eigh(gram.astype(np.float64))
    return np.maximum(energy[::-1], 0.0), directions[:, ::-1]


def leading_directions(
    rows: NDArray[np.float32], kept: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Returns the `kept` strongest directions of rows, about, (dims, kept): for many dims.

    Block power iteration (Halko, Martinsson, Tropp, arXiv:0909.4061, algorithm 4.4): three rounds,
    an eighth more columns than kept.
    """
    basis = rng.standard_normal((rows.shape[1], kept + kept // 8)).astype(np.float32)
    for _ in range(3):
        basis, _ = np.linalg.qr(rows.T @ (rows @ basis))
    projected = rows @ basis
    _, mixing = principal_directions(projected.T @ projected)
    return np.asarray(basis @ mixing[:, :kept], dtype=np.float64)
