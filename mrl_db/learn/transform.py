"""What a collection does to every vector and query: a rotation, an adaptor, a normalisation."""

from __future__ import annotations

from mrl_db.learn.adaptor import Adaptor
from mrl_db.learn.layer_norm import LayerNorm
from mrl_db.learn.rotation import Rotation
from mrl_db.model.arrays import arrays_of_file
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.metric import Metric

Transform = Rotation | Adaptor | LayerNorm


def check_transform(transform: Transform, dims: int, metric: Metric) -> Transform:
    """Returns a transform that suits a collection.

    Raises:
        ValueRangeError: it is no transform, is for other dims, or is an Adaptor, whose vectors
            have length 1, while the metric is not cosine.
    """
    if not isinstance(transform, (Rotation, Adaptor, LayerNorm)):
        raise ValueRangeError(
            f"adaptor is a {type(transform).__name__}, wanted a Rotation or an Adaptor"
        )
    if transform.dims != dims:
        raise ValueRangeError(
            f"the adaptor is for {transform.dims} dims, the collection has {dims}"
        )
    if isinstance(transform, Adaptor) and metric is not Metric.cosine:
        raise ValueRangeError(
            "an Adaptor makes vectors of length 1, so metric is to be 'cosine', "
            f"not {metric.value!r}; a Rotation suits all"
        )
    return transform


def transform_from_bytes(data: bytes) -> Transform:
    """Returns what `to_bytes` of any wrote; raises ValueRangeError when it is none."""
    names = arrays_of_file(data, "rotation, adaptor or normalisation")
    if "layer_norm" in names:
        return LayerNorm.from_bytes(data)
    return (Rotation if "matrix" in names else Adaptor).from_bytes(data)
