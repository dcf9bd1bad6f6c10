"""What a collection may do to vectors on their way in, and to queries: a rotation or an adaptor."""

from __future__ import annotations

import io

import numpy as np

from mrl_db.learn.adaptor import Adaptor
from mrl_db.learn.rotation import Rotation
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.metric import Metric

Change = Rotation | Adaptor


def check_change(change: Change, dims: int, metric: Metric) -> Change:
    """Returns what is to be a collection's adaptor when it can be: of its dims, and, as adapted vectors have length 1, under cosine."""
    if not isinstance(change, (Rotation, Adaptor)):
        raise ValueRangeError(
            f"adaptor is a {type(change).__name__}, wanted a Rotation or an Adaptor"
        )
    if change.dims != dims:
        raise ValueRangeError(f"the adaptor is for {change.dims} dims, the collection has {dims}")
    if isinstance(change, Adaptor) and metric is not Metric.cosine:
        raise ValueRangeError(
            f"an Adaptor makes vectors of length 1, so metric is to be 'cosine', not {metric.value!r}; a Rotation suits all"
        )
    return change


def change_from_bytes(data: bytes) -> Change:
    """Returns what `to_bytes` of either wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        rotation = "matrix" in file.files
    return Rotation.from_bytes(data) if rotation else Adaptor.from_bytes(data)
