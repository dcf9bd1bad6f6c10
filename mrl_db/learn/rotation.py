"""A rotation that puts what varies most first, so that embeddings of a model without nested dims may be cut (PCA, NumPy only).

An orthogonal rotation leaves inner products, lengths and distances of whole vectors as they are; only what a prefix keeps changes. Under
cosine it is fitted on vectors at unit length and about the origin, not the mean: prefixes are compared by direction from the origin.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.model.errors import ShapeError, ValueRangeError


@dataclass(frozen=True, slots=True)
class Rotation:
    """matrix: (dims, dims) orthogonal float32; rotated = vectors @ matrix. energy: of each rotated dim, its share of the squared length."""

    matrix: NDArray[np.float32]
    energy: NDArray[np.float64]

    @property
    def dims(self) -> int:
        """Dims of the vectors that it takes, and makes."""
        return len(self.matrix)

    @staticmethod
    def fit(vectors: ArrayLike) -> Rotation:
        """Returns the rotation to the principal directions of vectors (n, dims), the strongest first; raises ShapeError."""
        array = np.asarray(vectors)
        if array.ndim != 2 or len(array) < 2 or array.dtype.kind != "f":
            raise ShapeError(
                f"vectors are {array.dtype} of shape {array.shape}, wanted floats (n, dims) with n of at least 2"
            )
        exact = array.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ValueRangeError("vectors hold NaN or infinity")
        values, directions = np.linalg.eigh(exact.T @ exact)
        order = np.argsort(values)[::-1]
        directions = directions[:, order]
        # Each direction's largest coordinate is positive, so that equal data give equal rotations.
        signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(len(values))])
        energy = np.maximum(values[order], 0.0)
        return Rotation(
            np.ascontiguousarray(directions * signs, dtype=np.float32),
            energy / max(float(energy.sum()), 1e-300),
        )

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Returns vectors (dims,) or (n, dims), rotated."""
        array = np.asarray(vectors)
        if array.shape[-1:] != (self.dims,) or array.ndim not in (1, 2):
            raise ShapeError(
                f"vectors have shape {array.shape}, the rotation takes (n, {self.dims})"
            )
        return np.asarray(array @ self.matrix, dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Returns it as an .npz file."""
        held = io.BytesIO()
        np.savez_compressed(held, kind=np.array("rotation"), matrix=self.matrix, energy=self.energy)
        return held.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Rotation:
        """Returns the rotation that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return Rotation(file["matrix"], file["energy"])
