"""The losses of Matryoshka representation learning, and its heads, for PyTorch (arXiv:2205.13147, section 3).

    L = sum over nesting dims m of c_m * base(F(x)[:m], target)

with all c_m = 1 in the paper. The base loss is any: cross-entropy of a head's logits, or a contrastive loss on the prefixes themselves,
each of which is then brought to unit length on its own ("if the full representation is normalised, normalise each nested prefix").

The classes are made when they are asked for, as PyTorch is an extra: `MatryoshkaLoss(...)` is a torch.nn.Module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mrl_db.model.errors import MissingDependencyError, ValueRangeError
from mrl_db.model.nesting import check_nesting_dims

if TYPE_CHECKING:
    import torch


def need_torch() -> Any:
    """Returns the module torch, or raises MissingDependencyError with the way out."""
    try:
        import torch
    except ImportError:
        raise MissingDependencyError(
            "training needs PyTorch; pip install torch, in the build for your machine"
        ) from None
    return torch


def _weights(dims: tuple[int, ...], weights: Sequence[float] | None) -> tuple[float, ...]:
    chosen = (
        tuple(1.0 for _ in dims) if weights is None else tuple(float(weight) for weight in weights)
    )
    if len(chosen) != len(dims) or any(not weight >= 0 for weight in chosen) or not sum(chosen) > 0:
        raise ValueRangeError(
            f"weights is {weights!r}, wanted {len(dims)} numbers of at least 0, one for each of dims {dims}, not all 0"
        )
    return chosen


def MatryoshkaLoss(  # noqa: N802  # a class to its users
    dims: Sequence[int],
    base: Callable[..., torch.Tensor],
    *,
    weights: Sequence[float] | None = None,
    reduction: str = "sum",
    normalise: bool = False,
    dims_per_step: int | None = None,
    seed: int = 0,
) -> Any:
    """Returns a module: called with (embeddings, *rest) it returns the nested loss, a scalar.

    dims: rising, the last the full dims. base: called for each width with (prefix (n, m), *rest); or, where the embeddings are a sequence
    or several tensors are given as a tuple (anchors, positives), with each of them cut. Logits of nested heads (`NestedLinear`), a list in
    the order of dims, are taken as they are. weights: c_m. reduction: "sum", or "mean" over the widths by weight. normalise: each prefix to
    unit length. dims_per_step: so many of the widths, drawn anew at each call with the full ones always among them, scaled so that the
    expected loss is that of all (a cheaper step for many widths).
    """
    widths = check_nesting_dims(dims, int(dims[-1]) if len(dims) else 0)
    importance = _weights(widths, weights)
    if reduction not in ("sum", "mean"):
        raise ValueRangeError(f"reduction is {reduction!r}, wanted 'sum' or 'mean'")
    if dims_per_step is not None and not 1 <= dims_per_step <= len(widths):
        raise ValueRangeError(f"dims_per_step is {dims_per_step}, wanted 1 to {len(widths)}")
    torch = need_torch()

    class _MatryoshkaLoss(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dims, self.weights = widths, importance
            self._random = torch.Generator().manual_seed(seed)

        def _cut(self, given: Any, place: int) -> Any:
            if isinstance(given, tuple):
                return tuple(self._cut(each, place) for each in given)
            if isinstance(given, list):
                return given[place]
            if given.shape[-1] != widths[-1]:
                raise ValueRangeError(
                    f"embeddings have {given.shape[-1]} dims, the loss was made for {widths[-1]}"
                )
            prefix = given[..., : widths[place]]
            return torch.nn.functional.normalize(prefix, dim=-1) if normalise else prefix

        def forward(self, embeddings: Any, *rest: Any) -> Any:
            places, scale = list(range(len(widths))), 1.0
            if dims_per_step is not None and dims_per_step < len(widths):
                drawn = torch.randperm(len(widths) - 1, generator=self._random)[
                    : dims_per_step - 1
                ].tolist()
                scale = (len(widths) - 1) / max(1, dims_per_step - 1)
                places = [*sorted(drawn), len(widths) - 1]
            total: Any = 0.0
            for place in places:
                cut = self._cut(embeddings, place)
                loss = base(*cut, *rest) if isinstance(cut, tuple) else base(cut, *rest)
                total = (
                    total + importance[place] * (1.0 if place == len(widths) - 1 else scale) * loss
                )
            return total if reduction == "sum" else total / sum(importance)

    return _MatryoshkaLoss()


def NestedLinear(
    dims: Sequence[int], classes: int, *, tied: bool = False, bias: bool = True
) -> Any:  # noqa: N802  # a class to its users
    """Returns a module of linear heads: (n, full) to a list of logits (n, classes), one for each of dims.

    tied: MRL-E, one matrix of which each width takes the first columns: W(m) = W[:, :m]; else a head of its own for each width (MRL).
    """
    widths = check_nesting_dims(dims, int(dims[-1]) if len(dims) else 0)
    if classes < 2:
        raise ValueRangeError(f"classes is {classes}, wanted at least 2")
    torch = need_torch()

    class _NestedLinear(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dims, self.tied = widths, tied
            self.heads = torch.nn.ModuleList(
                torch.nn.Linear(width, classes, bias=bias)
                for width in ((widths[-1],) if tied else widths)
            )

        def forward(self, embeddings: Any) -> list[Any]:
            if tied:
                head = self.heads[0]
                return [
                    torch.nn.functional.linear(
                        embeddings[..., :width], head.weight[:, :width], head.bias
                    )
                    for width in widths
                ]
            return [
                head(embeddings[..., :width])
                for width, head in zip(widths, self.heads, strict=True)
            ]

    return _NestedLinear()


def FixedFeature(dims: int, classes: int, *, bias: bool = True) -> Any:  # noqa: N802  # a class to its users
    """Returns the baseline's head: linear over the first dims of a representation that is trained for this width alone (the paper's FF)."""
    torch = need_torch()

    class _FixedFeature(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.dims = dims
            self.head = torch.nn.Linear(dims, classes, bias=bias)

        def forward(self, embeddings: Any) -> Any:
            return self.head(embeddings[..., :dims])

    return _FixedFeature()
