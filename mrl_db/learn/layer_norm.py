"""Layer normalisation, which some models want before their vectors are cut."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.model.arrays import arrays_of_file
from mrl_db.model.errors import ShapeError
from mrl_db.model.nesting import layer_norm


class LayerNorm:
    """Changes vectors to mean 0 and variance 1 over their dims, as `RULES` has it of some models.

    Args:
        dims: Of the full vectors.
    """

    def __init__(self, dims: int) -> None:
        self.dims = dims

    def __repr__(self) -> str:
        return f"LayerNorm(dims={self.dims})"

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Returns vectors (dims,) or (n, dims), normalised; raises ShapeError for other dims."""
        array = np.asarray(vectors)
        if array.shape[-1:] != (self.dims,) or array.ndim not in (1, 2):
            raise ShapeError(f"vectors have shape {array.shape}, wanted (n, {self.dims})")
        return layer_norm(array).astype(np.float32)

    def to_bytes(self) -> bytes:
        """Returns it as an .npz file."""
        file = io.BytesIO()
        np.savez_compressed(file, kind=np.array("layer_norm"), layer_norm=np.array(self.dims))
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> LayerNorm:
        """Returns what `to_bytes` wrote; raises ValueRangeError when it is none."""
        return LayerNorm(int(arrays_of_file(data, "normalisation", "layer_norm")["layer_norm"]))
