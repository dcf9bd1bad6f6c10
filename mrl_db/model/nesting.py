"""Nesting dims: the prefix widths at which a model's vectors may be cut, and how a prefix is taken.

Models differ in the rule: which widths they were trained for, whether the full vector is
layer-normalised before the cut, and whether what comes out of their API has unit length (`RULES`,
each with its source). A cut is always brought to unit length here, unless told otherwise: each
prefix is a representation of its own (arXiv:2205.13147, section 3), and distances of prefixes of
different widths are on different scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.door_dims import checked_dims
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.metric import Metric


def prefix(vectors: NDArray[np.floating[Any]], dims: int, metric: Metric) -> NDArray[np.float32]:
    """Returns the first dims of each vector, (dims,) or (n, dims).

    They are at unit length where the metric is cosine; a zero prefix stays zero. This is the Python
    twin of the low-dim column (`mrl.prefix` in SQL); a test holds the two together.
    """
    if not 1 <= dims <= vectors.shape[-1]:
        raise ShapeError(f"a prefix of {dims} dims of vectors of {vectors.shape[-1]}")
    cut = vectors[..., :dims]
    if not metric.normalised_prefix:
        return np.ascontiguousarray(cut, dtype=np.float32)
    norm = np.sqrt(np.sum(np.square(cut, dtype=np.float64), axis=-1, keepdims=True))
    unit: NDArray[np.float64] = np.divide(cut, norm, out=np.zeros(cut.shape), where=norm > 0)
    return unit.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a model's vectors may be cut.

    Attributes:
        dims: Of the full vector.
        listed: The widths that its makers name, rising, the full dims last.
        any_from: Every width from this one on is legal; None: only the listed ones.
        layer_norm: The full vector is layer-normalised before the cut (mean 0, variance 1 over its
            dims, no learned scale).
        unit: Whether the full vector comes at unit length.
        source: Where this stands.
    """

    dims: int
    listed: tuple[int, ...]
    any_from: int | None
    layer_norm: bool
    unit: bool
    source: str

    def allows(self, dims: int) -> bool:
        """Whether its vectors may be cut to this width."""
        return dims in self.listed or (
            self.any_from is not None and self.any_from <= dims <= self.dims
        )


_OPENAI = "OpenAI, embeddings guide: the API's dimensions= equals cutting and normalising"
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "text-embedding-3-small": Rule(1536, (512, 1536), 1, False, True, _OPENAI),
        "text-embedding-3-large": Rule(3072, (256, 1024, 3072), 1, False, True, _OPENAI),
        "gemini-embedding-001": Rule(
            3072,
            (768, 1536, 3072),
            128,
            False,
            True,
            "Google, Gemini API embeddings guide: only 3072 comes normalised",
        ),
        "embeddinggemma-300m": Rule(
            768, (128, 256, 512, 768), None, False, True, "EmbeddingGemma, arXiv:2509.20354"
        ),
        "nomic-embed-text-v1.5": Rule(
            768,
            (64, 128, 256, 512, 768),
            None,
            True,
            False,
            "model card: layer_norm over 768, then cut, then normalise",
        ),
        "nomic-embed-text-v2-moe": Rule(768, (256, 768), None, False, False, "model card"),
        "mxbai-embed-large-v1": Rule(
            1024, (64, 128, 256, 512, 1024), None, False, False, "model card"
        ),
        "snowflake-arctic-embed-m-v1.5": Rule(768, (256, 768), None, False, True, "model card"),
        "snowflake-arctic-embed-m-v2.0": Rule(768, (256, 768), None, False, True, "model card"),
        "snowflake-arctic-embed-l-v2.0": Rule(1024, (256, 1024), None, False, True, "model card"),
        "modernbert-embed-base": Rule(768, (256, 768), None, False, True, "model card"),
        "jina-embeddings-v3": Rule(
            1024,
            (32, 64, 128, 256, 512, 768, 1024),
            None,
            False,
            True,
            "model card: normalised after the cut, other widths are refused",
        ),
        "jina-embeddings-v4": Rule(
            2048, (128, 256, 512, 1024, 2048), None, False, True, "model card, single-vector output"
        ),
        "amazon-titan-embed-text-v2": Rule(
            1024, (256, 512, 1024), None, False, True, "AWS Bedrock guide, Titan Text Embeddings V2"
        ),
        "voyage-3-large": Rule(
            2048, (256, 512, 1024, 2048), None, False, True, "Voyage AI, flexible dimensions guide"
        ),
        "voyage-3.5": Rule(
            2048, (256, 512, 1024, 2048), None, False, True, "Voyage AI, flexible dimensions guide"
        ),
        "cohere-embed-v4": Rule(
            1536, (256, 512, 1024, 1536), None, False, True, "Cohere, Embed API, output_dimension"
        ),
        "qwen3-embedding-0.6b": Rule(
            1024, (1024,), 32, False, True, "model card: custom dimensions from 32 on"
        ),
        "qwen3-embedding-4b": Rule(
            2560, (2560,), 32, False, True, "model card: custom dimensions from 32 on"
        ),
        "qwen3-embedding-8b": Rule(
            4096, (4096,), 32, False, True, "model card: custom dimensions from 32 on"
        ),
    }
)


def rule_of(model: str) -> Rule:
    """Returns the rule of a model, by its name without its maker's.

    Raises:
        ValueRangeError: The model is not known here.
    """
    found = RULES.get(model.rsplit("/", 1)[-1].lower()) if isinstance(model, str) else None
    if found is None:
        raise ValueRangeError(
            f"no rule for model {model!r:.60} is known; there are: {', '.join(RULES)}. Without "
            "model= vectors are cut anywhere"
        )
    return found


def layer_norm(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns vectors with mean 0 and variance 1 over their dims, as PyTorch's layer_norm does."""
    exact = vectors.astype(np.float64)
    centred = exact - exact.mean(axis=-1, keepdims=True)
    spread = np.square(centred).mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt(spread + 1e-5), dtype=np.float64)


def dims_of(
    model: str, dims: int | None, nesting_dims: Sequence[int] | None, shortlist_dims: int | None
) -> tuple[int, tuple[int, ...]]:
    """Returns (dims, nesting dims) of a collection for a model's full vectors.

    Args:
        model: A name in `RULES`.
        dims: As they were given, or None.
        nesting_dims: Likewise; None: those that its makers name.
        shortlist_dims: Likewise.

    Raises:
        ValueRangeError: The model is not known, or is not made for such dims.
    """
    rule = rule_of(model)
    if dims is not None and dims != rule.dims:
        raise ValueRangeError(
            f"dims is {dims}, {model} makes {rule.dims}; full vectors are stored, and their "
            "prefixes made here"
        )
    widths = rule.listed if nesting_dims is None else tuple(nesting_dims)
    for width in (*widths, *([] if shortlist_dims is None else [shortlist_dims])):
        if not rule.allows(width):
            raise ValueRangeError(_not_allowed(model, rule, width))
    return rule.dims, widths


def _not_allowed(model: str, rule: Rule, width: int) -> str:
    anywhere = "" if rule.any_from is None else f", and any from {rule.any_from} on"
    return (
        f"{model} is not made to be cut to {width} dims, but to "
        f"{', '.join(map(str, rule.listed))}{anywhere}"
    )


def truncate(
    vectors: NDArray[np.floating[Any]],
    dims: int,
    *,
    model: str | None = None,
    normalise: bool = True,
) -> NDArray[np.float32]:
    """Returns the first dims of vectors, (dims,) or (n, dims) float32, as the model's makers do it.

    Args:
        vectors: Full ones, (full,) or (n, full).
        dims: To cut to.
        model: A name in `RULES`; None cuts and normalises.
        normalise: Brings each to unit length; False leaves the lengths of the cut, for inner
            products that are meant so.

    Raises:
        ValueRangeError: The model is not known, or not trained for these dims, or the vectors are
            not its full ones.

    >>> truncate(np.array([3.0, 4.0, 12.0]), 2).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    array = np.asarray(vectors)
    if array.ndim not in (1, 2) or array.dtype.kind != "f" or not array.shape[-1]:
        raise ShapeError(
            f"vectors are {array.dtype} of shape {array.shape}, wanted floats (dims,) or (n, dims)"
        )
    width = checked_dims(dims)
    if model is not None:
        rule = rule_of(model)
        if array.shape[-1] != rule.dims:
            raise ValueRangeError(
                f"vectors have {array.shape[-1]} dims, {model} makes {rule.dims}; cut the full ones"
            )
        if not rule.allows(width):
            raise ValueRangeError(_not_allowed(model, rule, width))
        if rule.layer_norm:
            array = layer_norm(array)
    if width > array.shape[-1]:
        raise ShapeError(f"a prefix of {width} dims of vectors of {array.shape[-1]}")
    return prefix(array, width, Metric.cosine if normalise else Metric.inner_product).astype(
        np.float32
    )
