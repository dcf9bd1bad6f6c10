"""The last stage where the vectors stay in PostgreSQL, and keys as a caller has them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.engines.native.journal import Journal
from mrl_db.model.key import encode, id_dtype
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Session

_VECTOR_BYTES = 64 << 20  # that are fetched together


class Live(Protocol):
    """An index that follows its table (`LiveIndex`)."""

    info: CollectionInfo
    journal: Journal

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What whoever changes the index holds."""
        ...


def decoded(
    keys: Sequence[Sequence[Any]], shape: tuple[int, ...], key_type: str
) -> NDArray[np.object_]:
    """Returns keys that are no integers as an array of a shape, a row of keys for each query."""
    ids = np.empty(shape, dtype=object)
    for query, of_query in enumerate(keys):
        ids[query] = _ids(of_query, key_type)
    return ids


def _ids(keys: Any, key_type: str) -> list[Any]:
    """Returns keys of the index, an array of integers or a list of bytes, as a caller has them."""
    if isinstance(keys, np.ndarray):
        numbers: list[Any] = keys.tolist()
        return numbers
    return [uuid.UUID(bytes=key) if key_type == "uuid" else key.decode() for key in keys]


def vectors_of(session: Session, info: CollectionInfo, keys: Any) -> NDArray[np.float32] | None:
    """Returns the vectors (n, dims) of keys of the index; None where a row is no longer there."""
    asked = _ids(keys, info.key_type)
    found, vectors, _ = rows.get(session, info, asked, ())
    return vectors if len(found) == len(asked) else None


def rescored(
    session: Session,
    info: CollectionInfo,
    queries: NDArray[np.float32],
    candidates: Sequence[Any],
    k: int,
) -> tuple[NDArray[Any], NDArray[np.float64], list[Any]]:
    """Returns the k best of each query's candidates, by float64 distance and ties by id.

    Returns:
        Their ids and distances, as many as the query with the fewest has, and the ids of those
        candidates that are no longer there.
    """
    answers, gone = [], []
    for first, end in _groups(candidates, _VECTOR_BYTES // (4 * info.dims)):
        of_queries = [_ids(keys, info.key_type) for keys in candidates[first:end]]
        all_keys = list(dict.fromkeys(chain.from_iterable(of_queries)))
        keys, vectors, _ = rows.get(session, info, all_keys, ())
        position = {key: number for number, key in enumerate(keys)}
        gone += [key for key in all_keys if key not in position]
        for query, own in zip(queries[first:end].astype(np.float64), of_queries, strict=True):
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
    return ids, distances, gone


def searched(
    look: Callable[[], tuple[Any, Any, _kernels.StageCounts]],
    index: _kernels.Index,
    live: Live,
    session: Session,
    queries: NDArray[np.float32],
    k: int,
) -> tuple[NDArray[Any], NDArray[np.float64], _kernels.StageCounts]:
    """Returns ids, distances and counts of a search whose last stage is PostgreSQL's.

    Where rows are gone that the index has, since it may be behind the table, it looks again
    without them.

    Args:
        look: Gives candidates, their distances by codes, and counts.
        index: That is searched.
        live: What follows the table, by this index or by one that has taken its place since.
        session: To ask for vectors.
        queries: (n, dims).
        k: Answers of each.
    """
    while True:
        candidates, _, counts = look()
        ids, distances, gone = rescored(session, live.info, queries, candidates, k)
        if not gone:
            return ids, distances, counts
        _forget(index, live, session, gone)


def _forget(index: _kernels.Index, live: Live, session: Session, keys: list[Any]) -> None:
    """Leaves rows out of an index that are not in the table; what comes again, the log tells."""
    with live.lock:
        there, _, _ = rows.get(session, live.info, keys, ())
        gone = list(set(keys).difference(there))
        live.journal.note(gone)
        index.erase(encode(gone, live.info.key_type))


def _groups(candidates: Sequence[Any], most: int) -> Iterator[tuple[int, int]]:
    """Yields first and end of queries that together have at most so many candidates, or of one."""
    first = together = 0
    for query, keys in enumerate(candidates):
        if together + len(keys) > most and query > first:
            yield first, query
            first, together = query, 0
        together += len(keys)
    if first < len(candidates):
        yield first, len(candidates)
