"""An adaptor that makes existing embeddings nested: a rotation, then a small residual network, trained so that prefixes keep neighbours.

Idea: Matryoshka-Adaptor (Yoon et al. 2024, arXiv:2407.20243): a residual MLP trained on embeddings alone, with losses that keep, at every
nesting width, the similarities between pairs and between each vector and its nearest, and that keep the full vector near the original; with
judgements also a ranking loss. Here the network starts as the rotation alone (its last layer is zero), so it begins where PCA ends.

Trained by PyTorch; applied by NumPy: what is stored is a handful of matrices.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db.learn.losses import need_torch
from mrl_db.learn.rotation import Rotation
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.nesting import check_nesting_dims

_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Adaptor:
    """rotated = vectors @ rotation; adapted = rotated + gelu(rotated @ inner + inner_bias) @ outer + outer_bias, at unit length.

    nesting_dims: that it was trained for.
    """

    nesting_dims: tuple[int, ...]
    rotation: NDArray[np.float32]
    inner: NDArray[np.float32]
    inner_bias: NDArray[np.float32]
    outer: NDArray[np.float32]
    outer_bias: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Dims of the vectors that it takes, and makes."""
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
        """Returns an adaptor trained on vectors (n, dims).

        queries, judgements: vectors of queries, and pairs (query, row) that belong together: prefixes then rank these rows above the others
        of a batch, too. labels (n,): rows of one class belong together. hidden: width of the network. neighbours: of each row, whose
        similarities are kept beside those of random pairs. reconstruction, supervision: weights of these losses. Raises
        MissingDependencyError without PyTorch.
        """
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or len(array) < 2 * neighbours:
            raise ShapeError(
                f"vectors have shape {array.shape}, wanted (n, dims) with n of at least {2 * neighbours}"
            )
        widths = check_nesting_dims(nesting_dims, array.shape[1])
        if (queries is None) != (judgements is None):
            raise ValueRangeError("queries= and judgements= come together")
        torch = need_torch()
        array = _unit(array)
        start = Rotation.fit(array).matrix
        given = _Given(array @ start, queries, judgements, labels, start)
        return Adaptor(
            widths,
            start,
            *_train(
                torch,
                given,
                widths,
                hidden,
                steps,
                batch,
                learning_rate,
                neighbours,
                reconstruction,
                supervision,
                seed,
            ),
        )

    def apply(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Returns vectors (dims,) or (n, dims), adapted, at unit length; in blocks, so that memory stays small."""
        array = np.asarray(vectors)
        if array.shape[-1:] != (self.dims,) or array.ndim not in (1, 2):
            raise ShapeError(
                f"vectors have shape {array.shape}, the adaptor takes (n, {self.dims})"
            )
        rows = np.atleast_2d(array)
        out = np.empty(rows.shape, dtype=np.float32)
        for begin in range(0, len(rows), _BLOCK):
            rotated: NDArray[np.float32] = (
                _unit(rows[begin : begin + _BLOCK].astype(np.float32)) @ self.rotation
            )
            middle = gelu(np.asarray(rotated @ self.inner + self.inner_bias, dtype=np.float32))
            out[begin : begin + _BLOCK] = _unit(
                np.asarray(rotated + middle @ self.outer + self.outer_bias, dtype=np.float32)
            )
        return out if array.ndim == 2 else out[0]

    def to_bytes(self) -> bytes:
        """Returns it as an .npz file; nothing in it is code."""
        held = io.BytesIO()
        arrays = {
            name: getattr(self, name)
            for name in ("rotation", "inner", "inner_bias", "outer", "outer_bias")
        }
        np.savez_compressed(held, nesting_dims=np.array(self.nesting_dims), **arrays)
        return held.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Adaptor:
        """Returns the adaptor that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = [
                file[name] for name in ("rotation", "inner", "inner_bias", "outer", "outer_bias")
            ]
            return Adaptor(tuple(file["nesting_dims"].tolist()), *arrays)


def gelu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """x * Phi(x) by the tanh formula (Hendrycks and Gimpel, arXiv:1606.08415), as PyTorch's approximate="tanh"."""
    inner = np.float32(0.7978845608028654) * (values + np.float32(0.044715) * values**3)
    return np.asarray(np.float32(0.5) * values * (1 + np.tanh(inner)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Given:
    """What is trained on: rows as they are rotated, and what is known of them."""

    rows: NDArray[np.float32]
    queries: ArrayLike | None
    judgements: Sequence[tuple[int, int]] | None
    labels: ArrayLike | None
    rotation: NDArray[np.float32]


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0))


def _train(
    torch: Any,
    given: _Given,
    widths: tuple[int, ...],
    hidden: int,
    steps: int,
    batch: int,
    learning_rate: float,
    neighbours: int,
    reconstruction: float,
    supervision: float,
    seed: int,
) -> tuple[NDArray[np.float32], ...]:
    """Returns (inner, inner_bias, outer, outer_bias)."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.from_numpy(given.rows)
    dims = rows.shape[1]
    inner = (torch.randn(dims, hidden, generator=random) * (2.0 / dims) ** 0.5).requires_grad_()
    parts = [
        inner,
        torch.zeros(hidden, requires_grad=True),
        torch.zeros(hidden, dims, requires_grad=True),
        torch.zeros(dims, requires_grad=True),
    ]
    optimiser = torch.optim.AdamW(parts, lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=steps, pct_start=0.1
    )
    nearest = _neighbours(given.rows, neighbours)
    relevant = None
    if given.judgements is not None and given.queries is not None:
        asked = torch.from_numpy(
            _unit(np.ascontiguousarray(given.queries, dtype=np.float32)) @ given.rotation
        )
        relevant = (asked, torch.tensor(np.asarray(given.judgements), dtype=torch.long))
    classes = (
        None
        if given.labels is None
        else torch.from_numpy(np.unique(np.asarray(given.labels), return_inverse=True)[1])
    )

    def adapted(vectors: Any) -> Any:
        middle = torch.nn.functional.gelu(vectors @ parts[0] + parts[1], approximate="tanh")
        return torch.nn.functional.normalize(vectors + middle @ parts[2] + parts[3], dim=-1)

    def cuts(vectors: Any) -> list[Any]:
        return [torch.nn.functional.normalize(vectors[:, :width], dim=-1) for width in widths]

    for _ in range(steps):
        some = torch.randint(len(rows), (batch // 8,), generator=random)
        # A batch of rows with neighbours of theirs: near pairs are what retrieval is about, and random ones hold hardly any.
        near = nearest[some][:, torch.randperm(nearest.shape[1], generator=random)[:7]].reshape(-1)
        chosen = torch.unique(torch.cat([some, near]))
        before = rows[chosen]
        after = adapted(before)
        similar = before @ before.T
        # A pair counts by how near it is; the softmax of each row's similarities is what its neighbours are.
        wanted = torch.softmax((similar - 2.0 * torch.eye(len(chosen))) / 0.05, dim=1)
        loss = reconstruction * (1.0 - (after * before).sum(dim=1)).mean()
        for cut in cuts(after):
            own = cut @ cut.T
            loss = loss + torch.nn.functional.mse_loss(own, similar)
            logs = torch.log_softmax((own - 2.0 * torch.eye(len(chosen))) / 0.05, dim=1)
            loss = loss - (wanted * logs).sum(dim=1).mean() / len(widths)
            if classes is not None:
                same = (classes[chosen][:, None] == classes[chosen][None]).float() - torch.eye(
                    len(chosen)
                )
                with_mates = same.sum(dim=1) > 0
                share = same / same.sum(dim=1, keepdim=True).clamp(min=1)
                loss = loss - supervision * (share * logs).sum(dim=1)[with_mates].sum() / max(
                    1, int(with_mates.sum())
                ) / len(widths)
        if relevant is not None:
            pairs = relevant[1][
                torch.randint(
                    len(relevant[1]), (min(batch // 4, len(relevant[1])),), generator=random
                )
            ]
            for asked_cut, row_cut in zip(
                cuts(adapted(relevant[0][pairs[:, 0]])),
                cuts(adapted(rows[pairs[:, 1]])),
                strict=True,
            ):
                scores = asked_cut @ row_cut.T / 0.05
                # A row that belongs to another query of the batch by the same pair list is no wrong answer.
                alike = (pairs[:, 1][:, None] == pairs[:, 1][None]) & ~torch.eye(
                    len(pairs), dtype=torch.bool
                )
                scores = scores.masked_fill(alike, float("-inf"))
                target = torch.arange(len(pairs))
                loss = loss + supervision * torch.nn.functional.cross_entropy(scores, target) / len(
                    widths
                )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return tuple(part.detach().numpy().copy() for part in parts)


def _neighbours(rows: NDArray[np.float32], k: int) -> Any:
    """The k nearest of each row by inner product, in blocks, (n, k)."""
    torch = need_torch()
    all_rows = torch.from_numpy(rows)
    found = []
    for begin in range(0, len(rows), 1024):
        scores = all_rows[begin : begin + 1024] @ all_rows.T
        scores[torch.arange(len(scores)), torch.arange(begin, begin + len(scores))] = -2.0
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found)
