"""How an adaptor is trained: losses on cosines, at every width, in batches that hold near pairs.

A batch is some random rows and some neighbours of each: near pairs are what retrieval is about,
and random rows hold hardly any. Losses, all on cosines: the full vector stays near the original;
at each width the cosines of the batch stay (mean square), and so does what each row's neighbours
are (cross-entropy of softmaxes). With labels, rows of a class are drawn together; with judgements,
a query's row is ranked above the others of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.learn.pytorch import torch

_TEMPERATURE = 0.05  # of cosines in a softmax, as contrastive losses have it
_SELF = 2.0  # taken from a row's cosine with itself, which is 1: below all others
_NEIGHBOURS_DRAWN = 7  # with each random row of a batch, which is thus an eighth of it
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Examples:
    """What is trained on.

    Attributes:
        rows: (n, dims) float32, rotated, at unit length.
        queries: (m, dims), likewise, or None.
        judgements: (pairs, 2) int64, of query and row, or None.
        labels: (n,) int64, classes of the rows, or None.
    """

    rows: NDArray[np.float32]
    queries: NDArray[np.float32] | None
    judgements: NDArray[np.int64] | None
    labels: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of `Adaptor.fit`, which explains them."""

    widths: tuple[int, ...]
    hidden: int
    steps: int
    batch: int
    learning_rate: float
    neighbours: int
    reconstruction: float
    supervision: float
    seed: int


def train(examples: Examples, settings: Settings) -> tuple[NDArray[np.float32], ...]:
    """Returns the matrices (inner, inner_bias, outer, outer_bias) of a trained adaptor."""
    random = torch.Generator().manual_seed(settings.seed)
    network = _Network(examples.rows.shape[1], settings.hidden, random)
    optimiser = torch.optim.AdamW(network.matrices, lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    rows = torch.from_numpy(examples.rows)
    labels = None if examples.labels is None else torch.from_numpy(examples.labels)
    nearest = _nearest(rows, settings.neighbours)
    for _ in range(settings.steps):
        chosen = _batch(nearest, settings.batch, random)
        classes = None if labels is None else labels[chosen]
        loss = _similarity_loss(network, rows[chosen], classes, settings)
        if examples.queries is not None and examples.judgements is not None:
            queries, judgements = map(torch.from_numpy, (examples.queries, examples.judgements))
            size = min(settings.batch // 4, len(judgements))
            pairs = judgements[torch.randint(len(judgements), (size,), generator=random)]
            ranking = _ranking_loss(network, queries, rows, pairs, settings.widths)
            loss = loss + settings.supervision * ranking
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return tuple(matrix.detach().numpy().copy() for matrix in network.matrices)


class _Network:
    """The residual network; as its outer matrix starts at zero, it starts as the identity."""

    def __init__(self, dims: int, hidden: int, random: Any) -> None:
        inner = torch.randn(dims, hidden, generator=random) * (2.0 / dims) ** 0.5
        self.matrices = [
            inner.requires_grad_(),
            torch.zeros(hidden, requires_grad=True),
            torch.zeros(hidden, dims, requires_grad=True),
            torch.zeros(dims, requires_grad=True),
        ]

    def __call__(self, vectors: Any) -> Any:
        inner, inner_bias, outer, outer_bias = self.matrices
        middle = torch.nn.functional.gelu(vectors @ inner + inner_bias, approximate="tanh")
        return torch.nn.functional.normalize(vectors + middle @ outer + outer_bias, dim=-1)


def _batch(nearest: Any, size: int, random: Any) -> Any:
    """Returns the numbers of about `size` rows: some random ones with neighbours of theirs."""
    some = torch.randint(len(nearest), (size // (1 + _NEIGHBOURS_DRAWN),), generator=random)
    drawn = torch.randperm(nearest.shape[1], generator=random)[:_NEIGHBOURS_DRAWN]
    return torch.unique(torch.cat([some, nearest[some][:, drawn].reshape(-1)]))


def _similarity_loss(network: _Network, before: Any, classes: Any, settings: Settings) -> Any:
    after = network(before)
    own = torch.eye(len(before))
    cosines = before @ before.T
    # A pair counts by how near it is: the softmax of a row's cosines says which are its neighbours.
    shares = torch.softmax((cosines - _SELF * own) / _TEMPERATURE, dim=1)
    mates = None if classes is None else (classes[:, None] == classes[None]).float() - own
    loss = settings.reconstruction * (1.0 - (after * before).sum(dim=1)).mean()
    for prefix in _prefixes(after, settings.widths):
        cut = prefix @ prefix.T
        logs = torch.log_softmax((cut - _SELF * own) / _TEMPERATURE, dim=1)
        neighbourhood = -(shares * logs).sum(dim=1).mean()
        if mates is not None:
            has_mates = mates.sum(dim=1) > 0
            each = (mates / mates.sum(dim=1, keepdim=True).clamp(min=1) * logs).sum(dim=1)
            among = -each[has_mates].sum() / max(1, int(has_mates.sum()))
            neighbourhood = neighbourhood + settings.supervision * among
        loss = loss + torch.nn.functional.mse_loss(cut, cosines)
        loss = loss + neighbourhood / len(settings.widths)
    return loss


def _ranking_loss(
    network: _Network, queries: Any, rows: Any, pairs: Any, widths: tuple[int, ...]
) -> Any:
    # The same row in another pair of the batch is no wrong answer.
    target = torch.arange(len(pairs))
    same_row = pairs[:, 1][:, None] == pairs[:, 1][None]
    left_out = same_row & ~torch.eye(len(pairs), dtype=torch.bool)
    both = (
        _prefixes(network(vectors), widths) for vectors in (queries[pairs[:, 0]], rows[pairs[:, 1]])
    )
    loss: Any = 0.0
    for query, row in zip(*both, strict=True):
        scores = (query @ row.T / _TEMPERATURE).masked_fill(left_out, float("-inf"))
        loss = loss + torch.nn.functional.cross_entropy(scores, target) / len(widths)
    return loss


def _prefixes(vectors: Any, widths: tuple[int, ...]) -> list[Any]:
    return [torch.nn.functional.normalize(vectors[:, :width], dim=-1) for width in widths]


def _nearest(rows: Any, k: int) -> Any:
    """Returns the k nearest of each row by inner product, (n, k), computed in blocks."""
    nearest = []
    for begin in range(0, len(rows), _BLOCK):
        scores = rows[begin : begin + _BLOCK] @ rows.T
        block = torch.arange(len(scores))
        scores[block, block + begin] = -_SELF
        nearest.append(scores.topk(k, dim=1).indices)
    return torch.cat(nearest)
