"""The loss of Matryoshka representation learning, and its heads (arXiv:2205.13147, section 3).

    L = sum over nesting dims m of c_m * base(F(x)[:m], target)

with all c_m = 1 in the paper. The base loss is any: cross-entropy of a head's logits, or a
contrastive loss on the prefixes themselves, each of which is then brought to unit length on its
own ("if the full representation is normalised, normalise each nested prefix").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from mrl_db.door_dims import checked_nesting_dims
from mrl_db.learn.pytorch import torch
from mrl_db.model.errors import ValueRangeError


class MatryoshkaLoss(torch.nn.Module):  # type: ignore[misc]
    """The weighted sum of a base loss over prefixes: called with (embeddings, *rest), a scalar.

    Embeddings are a tensor (n, full dims), which is cut; a tuple of tensors, such as (anchors,
    positives), each of which is cut; or a list of logits in the order of dims (`NestedLinear`), of
    which each is taken as it is.
    """

    def __init__(
        self,
        dims: Sequence[int],
        base: Callable[..., torch.Tensor],
        *,
        weights: Sequence[float] | None = None,
        reduction: Literal["sum", "mean"] = "sum",
        normalise: bool = False,
        dims_per_step: int | None = None,
        seed: int = 0,
    ) -> None:
        """Makes the loss.

        Args:
            dims: rising widths, the last one the full dims.
            base: called for each width with (prefix (n, m), *rest); with a tuple, (*prefixes,
                *rest).
            weights: c_m, one for each width; 1 by default.
            reduction: "sum", or "mean" over the widths by weight.
            normalise: bring each prefix to unit length.
            dims_per_step: how many of the widths each call draws, always with the full dims among
                them; the loss is scaled so that its mean is that of all widths. A cheaper step
                where widths are many.
            seed: of these draws.

        Raises:
            ValueRangeError: an argument is out of its range; the message says which.
        """
        super().__init__()
        self.dims = checked_nesting_dims(dims, int(dims[-1]) if len(dims) else 0)
        self.weights = _checked_weights(self.dims, weights)
        if reduction not in ("sum", "mean"):
            raise ValueRangeError(f"reduction is {reduction!r}, wanted 'sum' or 'mean'")
        if dims_per_step is not None and not 1 <= dims_per_step <= len(self.dims):
            raise ValueRangeError(f"dims_per_step is {dims_per_step}, wanted 1 to {len(self.dims)}")
        self.base, self.reduction, self.normalise = base, reduction, normalise
        self.dims_per_step = len(self.dims) if dims_per_step is None else dims_per_step
        self._random = np.random.default_rng(seed)  # can be pickled, as PyTorch's cannot everywhere

    def forward(self, embeddings: Any, *rest: Any) -> Any:
        """Returns the loss, a scalar; raises ValueRangeError for embeddings of other dims."""
        last = len(self.dims) - 1
        drawn, scale = list(range(last)), 1.0
        if self.dims_per_step <= last:
            drawn = sorted(self._random.permutation(last)[: self.dims_per_step - 1].tolist())
            scale = last / max(1, self.dims_per_step - 1)
        total: Any = 0.0
        for position in drawn:
            total = total + scale * self.weights[position] * self._at(position, embeddings, rest)
        total = total + self.weights[last] * self._at(last, embeddings, rest)
        return total if self.reduction == "sum" else total / sum(self.weights)

    def _at(self, position: int, embeddings: Any, rest: tuple[Any, ...]) -> Any:
        cut = self._cut(embeddings, position)
        return self.base(*cut, *rest) if isinstance(cut, tuple) else self.base(cut, *rest)

    def _cut(self, embeddings: Any, position: int) -> Any:
        if isinstance(embeddings, tuple):
            return tuple(self._cut(tensor, position) for tensor in embeddings)
        if isinstance(embeddings, list):
            return embeddings[position]
        if embeddings.shape[-1] != self.dims[-1]:
            raise ValueRangeError(
                f"embeddings have {embeddings.shape[-1]} dims, "
                f"the loss was made for {self.dims[-1]}"
            )
        prefix = embeddings[..., : self.dims[position]]
        return torch.nn.functional.normalize(prefix, dim=-1) if self.normalise else prefix


class NestedLinear(torch.nn.Module):  # type: ignore[misc]
    """Linear heads: (n, full dims) to a list of logits (n, classes), one for each of dims."""

    def __init__(
        self, dims: Sequence[int], classes: int, *, tied: bool = False, bias: bool = True
    ) -> None:
        """Makes the heads.

        Args:
            dims: rising widths, the last one the full dims.
            classes: at least 2.
            tied: MRL-E, one matrix of which each width takes the first columns, W(m) = W[:, :m];
                else MRL, a head of its own for each width.
            bias: whether the heads have one.

        Raises:
            ValueRangeError: dims do not rise, or there are fewer than two classes.
        """
        super().__init__()
        self.dims, self.tied = checked_nesting_dims(dims, int(dims[-1]) if len(dims) else 0), tied
        if classes < 2:
            raise ValueRangeError(f"classes is {classes}, wanted at least 2")
        widths = self.dims[-1:] if tied else self.dims
        self.heads = torch.nn.ModuleList(torch.nn.Linear(m, classes, bias=bias) for m in widths)

    def forward(self, embeddings: Any) -> list[Any]:
        """Returns the logits of each width, the narrowest first."""
        if self.tied:
            weight, bias = self.heads[0].weight, self.heads[0].bias
            linear = torch.nn.functional.linear
            return [linear(embeddings[..., :m], weight[:, :m], bias) for m in self.dims]
        heads = zip(self.dims, self.heads, strict=True)
        return [head(embeddings[..., :m]) for m, head in heads]


class FixedFeature(torch.nn.Module):  # type: ignore[misc]
    """The paper's baseline FF: a linear head over the first dims, trained for this width alone."""

    def __init__(self, dims: int, classes: int, *, bias: bool = True) -> None:
        """Makes the head: dims and classes are its widths in and out."""
        super().__init__()
        self.dims = dims
        self.head = torch.nn.Linear(dims, classes, bias=bias)

    def forward(self, embeddings: Any) -> Any:
        """Returns logits (n, classes) of embeddings (n, dims or more)."""
        return self.head(embeddings[..., : self.dims])


def _checked_weights(dims: tuple[int, ...], weights: Sequence[float] | None) -> tuple[float, ...]:
    checked = (1.0,) * len(dims) if weights is None else tuple(float(weight) for weight in weights)
    if len(checked) != len(dims) or not all(weight >= 0 for weight in checked) or not sum(checked):
        raise ValueRangeError(
            f"weights is {weights!r}, wanted {len(dims)} numbers of at least 0, "
            f"one for each of dims {dims}, not all 0"
        )
    return checked
