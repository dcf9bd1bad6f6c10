"""Recall: the share of the true answers that a search returned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.errors import ShapeError
from mrl_db.hits import Hits


def recall_at_k(hits: Hits, exact: Hits, *, tolerance: float = 1e-6) -> NDArray[np.float64]:
    """Returns the recall of each query, float64 (n,): the share of its k answers that are as near as the k-th true one.

    hits, exact: of the same queries and k; exact from `search(exact=True)`. An answer counts when it is among the exact ids, or when its
    distance is not above the exact k-th by more than the tolerance: a tie is as right as the row that it ties with.
    """
    if hits.ids.shape[:-1] != exact.ids.shape[:-1]:
        raise ShapeError(f"hits have shape {hits.ids.shape} and exact ones {exact.ids.shape}, wanted the same queries")
    if exact.ids.shape[-1] == 0:
        return np.ones(max(1, int(np.prod(exact.ids.shape[:-1]))))
    found = np.atleast_2d(hits.ids)
    distances = np.atleast_2d(hits.distances)
    true_ids = np.atleast_2d(exact.ids)
    kth = np.atleast_2d(exact.distances)[:, -1:]
    near_enough = distances <= kth + tolerance
    among = np.array([_member(row, true) for row, true in zip(found, true_ids, strict=True)]).reshape(found.shape)
    right: NDArray[np.float64] = np.minimum((near_enough | among).sum(axis=1), true_ids.shape[1]) / true_ids.shape[1]
    return right


def _member(row: NDArray[Any], true: NDArray[Any]) -> list[bool]:
    wanted = set(true.tolist())
    return [key in wanted for key in row.tolist()]
