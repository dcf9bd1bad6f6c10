"""A rotation that puts what varies most first (PCA), so that any embeddings may be cut.

An orthogonal rotation leaves inner products, lengths and distances of whole vectors as they are;
only what a prefix keeps changes. It is fitted about the origin, not the mean: prefixes are
compared by direction from there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.model.arrays import arrays_of_file
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.pca import principal_directions


@dataclass(frozen=True, slots=True)
class Rotation:
    """An orthogonal change of coordinates: rotated = vectors @ matrix.

    Attributes:
        matrix: (dims, dims) float32, orthogonal.
        energy: (dims,), the share of the squared length that each rotated dim holds, falling.
    """

    matrix: NDArray[np.float32]
    energy: NDArray[np.float64]

    @property
    def dims(self) -> int:
        """Dims of the vectors that it takes, and returns."""
        return len(self.matrix)

    @staticmethod
    def fit(vectors: ArrayLike) -> Rotation:
        """Returns the rotation to the principal directions of a sample, the strongest first.

        Args:
            vectors: (n, dims) floats, n at least 2; at unit length where the metric is cosine.

        Raises:
            ShapeError: another shape, or no floats.
            ValueRangeError: NaN or infinity.
        """
        array = np.asarray(vectors)
        if array.ndim != 2 or len(array) < 2 or array.dtype.kind != "f":
            raise ShapeError(
                f"vectors are {array.dtype} of shape {array.shape}, "
                "wanted floats (n, dims) with n of at least 2"
            )
        exact = array.astype(np.float64)
        if not np.isfinite(exact).all():
            raise ValueRangeError("vectors hold NaN or infinity")
        energy, directions = principal_directions(exact.T @ exact)
        # Each direction's largest coordinate is positive, so that equal data give equal rotations.
        largest = np.abs(directions).argmax(axis=0)
        signs = np.sign(directions[largest, np.arange(len(energy))])
        return Rotation(
            np.ascontiguousarray(directions * signs, dtype=np.float32),
            energy / max(float(energy.sum()), 1e-300),
        )

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Returns vectors (dims,) or (n, dims), rotated; raises ShapeError for other dims."""
        array = np.asarray(vectors)
        if array.shape[-1:] != (self.dims,) or array.ndim not in (1, 2):
            raise ShapeError(
                f"vectors have shape {array.shape}, the rotation takes (n, {self.dims})"
            )
        return np.asarray(array @ self.matrix, dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Returns it as an .npz file."""
        file = io.BytesIO()
        np.savez_compressed(file, kind=np.array("rotation"), matrix=self.matrix, energy=self.energy)
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Rotation:
        """Returns the rotation that `to_bytes` wrote; raises ValueRangeError when it is none."""
        file = arrays_of_file(data, "rotation", "matrix", "energy")
        return Rotation(file["matrix"], file["energy"])
