"""An adaptor makes existing embeddings nested: a rotation, then a small residual network.

Idea: Matryoshka-Adaptor (Yoon et al. 2024, arXiv:2407.20243): a residual MLP trained on embeddings
alone, with losses that keep, at every nesting width, the similarities between pairs and between
each vector and its nearest, and that keep the full vector near the original; with judgements also
a ranking loss. Here the network starts as the rotation alone (its last layer is zero), so it
begins where PCA ends.

Trained by PyTorch (`mrl_db.learn.training`); applied by NumPy: what is stored is a handful of
matrices.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.door_dims import checked_nesting_dims
from mrl_db.learn.rotation import Rotation
from mrl_db.model.arrays import arrays_of_file
from mrl_db.model.errors import ShapeError, ValueRangeError

_BLOCK = 16_384  # rows that are adapted at once, so that memory stays small
_MATRICES = ("rotation", "inner", "inner_bias", "outer", "outer_bias")


@dataclass(frozen=True, slots=True)
class Adaptor:
    """A residual network over a rotation, whose vectors have length 1.

        rotated = vectors @ rotation
        adapted = unit(rotated + gelu(rotated @ inner + inner_bias) @ outer + outer_bias)

    Attributes:
        nesting_dims: the widths that it was trained for.
        rotation: (dims, dims) float32.
        inner: (dims, hidden) float32; inner_bias (hidden,).
        outer: (hidden, dims) float32; outer_bias (dims,).
    """

    nesting_dims: tuple[int, ...]
    rotation: NDArray[np.float32]
    inner: NDArray[np.float32]
    inner_bias: NDArray[np.float32]
    outer: NDArray[np.float32]
    outer_bias: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Dims of the vectors that it takes, and returns."""
        return len(self.rotation)

    @staticmethod
    def fit(
        vectors: ArrayLike,
        nesting_dims: Sequence[int],
        *,
        queries: ArrayLike | None = None,
        judgements: Sequence[tuple[int, int]] | None = None,
        labels: ArrayLike | None = None,
        hidden: int = 256,
        steps: int = 600,
        batch: int = 512,
        learning_rate: float = 1e-3,
        neighbours: int = 16,
        reconstruction: float = 1.0,
        supervision: float = 1.0,
        seed: int = 0,
    ) -> Adaptor:
        """Returns an adaptor trained on vectors.

        Args:
            vectors: (n, dims) floats, n at least twice `neighbours`.
            nesting_dims: rising widths, the last one dims.
            queries: (m, dims) floats; comes with judgements.
            judgements: pairs (query, row) that belong together: prefixes then rank these rows
                above the others of a batch, too.
            labels: (n,), rows of one class belong together.
            hidden: width of the network.
            steps: of training.
            batch: rows of a step, about.
            learning_rate: the highest, of one cycle.
            neighbours: nearest rows of each row, whose similarities are kept beside those of
                random pairs.
            reconstruction: weight of the loss that keeps the full vector near the original.
            supervision: weight of the losses by judgements and by labels.
            seed: of all that is drawn.

        Raises:
            ShapeError: vectors of another shape, or too few.
            ValueRangeError: dims that do not rise, or queries without judgements.
            MissingDependencyError: PyTorch is not installed.
        """
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or len(array) < 2 * neighbours:
            raise ShapeError(
                f"vectors have shape {array.shape}, "
                f"wanted (n, dims) with n of at least {2 * neighbours}"
            )
        widths = checked_nesting_dims(nesting_dims, array.shape[1])
        if (queries is None) != (judgements is None):
            raise ValueRangeError("queries= and judgements= come together")
        from mrl_db.learn.training import Examples, Settings, train

        array = unit(array)
        rotation = Rotation.fit(array).matrix
        examples = Examples(
            array @ rotation,
            None if queries is None else unit(np.asarray(queries, dtype=np.float32)) @ rotation,
            None if judgements is None else np.asarray(judgements, dtype=np.int64),
            None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1],
        )
        settings = Settings(
            widths=widths,
            hidden=hidden,
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            neighbours=neighbours,
            reconstruction=reconstruction,
            supervision=supervision,
            seed=seed,
        )
        return Adaptor(widths, rotation, *train(examples, settings))

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Returns vectors (dims,) or (n, dims), adapted, at unit length; raises ShapeError."""
        array = np.asarray(vectors)
        if array.shape[-1:] != (self.dims,) or array.ndim not in (1, 2):
            raise ShapeError(
                f"vectors have shape {array.shape}, the adaptor takes (n, {self.dims})"
            )
        rows = np.atleast_2d(array)
        adapted = np.empty(rows.shape, dtype=np.float32)
        for begin in range(0, len(rows), _BLOCK):
            block = unit(rows[begin : begin + _BLOCK].astype(np.float32))
            rotated = np.asarray(block @ self.rotation, dtype=np.float32)
            middle = gelu(np.asarray(rotated @ self.inner + self.inner_bias, dtype=np.float32))
            adapted[begin : begin + _BLOCK] = unit(
                np.asarray(rotated + middle @ self.outer + self.outer_bias, dtype=np.float32)
            )
        return adapted if array.ndim == 2 else adapted[0]

    def to_bytes(self) -> bytes:
        """Returns it as an .npz file; nothing in it is code."""
        file = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _MATRICES}
        np.savez_compressed(file, nesting_dims=np.array(self.nesting_dims), **arrays)
        return file.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Adaptor:
        """Returns the adaptor that `to_bytes` wrote; raises ValueRangeError when it is none."""
        file = arrays_of_file(data, "adaptor", "nesting_dims", *_MATRICES)
        return Adaptor(tuple(file["nesting_dims"].tolist()), *(file[name] for name in _MATRICES))


def gelu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns x * Phi(x) by the tanh formula (Hendrycks and Gimpel, arXiv:1606.08415)."""
    inner = np.float32(0.7978845608028654) * (values + np.float32(0.044715) * values**3)
    return np.asarray(np.float32(0.5) * values * (1 + np.tanh(inner)), dtype=np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns rows at unit length; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))
