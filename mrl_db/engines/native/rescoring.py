"""The last stage where the vectors stay in PostgreSQL, and keys as a caller has them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.key import id_dtype
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import OwnSession


def decoded(
    keys: Sequence[Sequence[Any]], shape: tuple[int, ...], key_type: str
) -> NDArray[np.object_]:
    """Returns keys that are no integers as an array of a shape, a row of keys for each query."""
    uuids = key_type == "uuid"
    ids = np.empty(shape, dtype=object)
    for query, of_query in enumerate(keys):
        ids[query] = [uuid.UUID(bytes=key) if uuids else key.decode() for key in of_query]
    return ids


def rescored(
    session: OwnSession, info: CollectionInfo, queries: NDArray[np.float32], candidates: Any, k: int
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Returns the k best of each query's candidates, by float64 distance and ties by id."""
    if not isinstance(candidates, np.ndarray):
        shape = (len(candidates), len(candidates[0]))
        candidates = decoded(candidates, shape, info.key_type)
    keys, vectors, _ = rows.get(session, info, list(dict.fromkeys(candidates.ravel().tolist())), ())
    position = {key: number for number, key in enumerate(keys)}
    answers = []
    for query, own in zip(queries.astype(np.float64), candidates.tolist(), strict=True):
        present = [key for key in own if key in position]
        exact = info.metric.distances(
            query, vectors[[position[key] for key in present]].astype(np.float64)
        )
        far = np.where(np.isnan(exact), np.inf, exact).tolist()
        answers.append(sorted(zip(far, present, strict=True))[:k])
    width = min((len(answer) for answer in answers), default=0)
    ids = np.empty((len(answers), width), dtype=id_dtype(info.key_type))
    distances = np.empty((len(answers), width))
    for query, answer in enumerate(answers):
        for rank, (distance, key) in enumerate(answer[:width]):
            ids[query, rank], distances[query, rank] = key, distance
    distances[np.isinf(distances)] = np.nan
    return ids, distances
