"""Classifying the rows of a collection where they are: each pass reads only the coordinates that the rows left over need next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from mrl_db.classify.cascade import Answer, Cascade
from mrl_db.model.errors import NotFittedError, ShapeError
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo, check_name
from mrl_db.postgres.copy_out import copy_rows
from mrl_db.postgres.ingest import plain_keys
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session

_BLOCK_BYTES = 4 << 20
_KEYS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Classified:
    """ids (n,) and their answer, row by row; bytes of coordinates that were read, and of keys that came from the server."""

    ids: NDArray[Any]
    answer: Answer
    coordinate_bytes: int
    key_bytes: int


def classify(
    session: Session, request: Request, cascade: Cascade, dims: int | None = None
) -> Classified:
    """Returns the answer for all rows with a vector that pass the filter, as one snapshot of the database has them, in no order.

    dims: asks this one head only. What is held here at once are the coordinates that were read of rows that are not decided yet.
    """
    info = request.info
    check_cascade(cascade, info)
    read = named = 0
    keys: list[Any] = []
    with session.transaction() as connection:
        connection.execute(statements.query("repeatable_read"))
        width = cascade.dims[0] if dims is None else dims
        first: list[NDArray[np.float32]] = []
        for found, vectors in _slices(connection, request, 0, width, None):
            keys += found
            first.append(vectors)
        held = np.concatenate(first) if first else np.empty((0, width), dtype=np.float32)
        read += held.nbytes
        named += _key_bytes(keys)

        def coordinates(rows: NDArray[np.int64], begin: int, end: int) -> NDArray[np.float32]:
            nonlocal read, named, held
            if begin == 0:
                return held
            held = np.empty((0, 0), dtype=np.float32)  # the cascade keeps what it has got
            out = np.empty((len(rows), end - begin), dtype=np.float32)
            wanted = [keys[row] for row in rows.tolist()]
            place = {key: number for number, key in enumerate(wanted)}
            for at in range(0, len(wanted), _KEYS_AT_ONCE):
                for found, vectors in _slices(
                    connection, request, begin, end, wanted[at : at + _KEYS_AT_ONCE]
                ):
                    out[[place[key] for key in found]] = vectors
                    read += vectors.nbytes
                    named += _key_bytes(found)
            return out

        answer = cascade.predict_stages(len(keys), coordinates, dims=dims)
    ids = np.empty(
        len(keys),
        dtype=np.int64 if info.key_type in ("bigint", "integer", "smallint") else np.object_,
    )
    ids[:] = keys
    return Classified(ids, answer, read, named)


def check_cascade(cascade: Cascade, info: CollectionInfo) -> None:
    """Raises ShapeError when the cascade is for vectors of other dims."""
    if cascade.dims[-1] != info.dims:
        raise ShapeError(
            f'the cascade ends at {cascade.dims[-1]} dims, collection "{info.name}" has {info.dims}'
        )


def _slices(
    connection: Connection, request: Request, begin: int, end: int, keys: list[Any] | None
) -> Iterator[tuple[list[Any], NDArray[np.float32]]]:
    """Yields (keys, coordinates begin to end) in blocks."""
    block = max(1, _BLOCK_BYTES // (4 * (end - begin)))
    for encoded, vectors in copy_rows(connection, request, block, keys, part=(begin, end)):
        yield plain_keys(encoded, request.info.key_type), vectors


def _key_bytes(keys: list[Any]) -> int:
    return sum(len(key) if isinstance(key, str) else 8 for key in keys)


def save(session: Session, collection: str, name: str, cascade: Cascade) -> None:
    """Stores a fitted cascade under a name, in place of one that is there."""
    check_name(name, "the classifier's name")
    about = {} if cascade.report is None else asdict(cascade.report)
    with session.transaction() as connection:
        values = (collection, name, list(cascade.dims), Jsonb(about), cascade.to_bytes())
        connection.execute(statements.query("classifier_save"), values)


def load(session: Session, collection: str, name: str) -> Cascade:
    """Returns a stored cascade; raises NotFittedError when there is none of this name."""
    with session.connection() as connection:
        row = connection.execute(statements.query("classifier_load"), (collection, name)).fetchone()
    if row is None:
        raise NotFittedError(
            f'collection "{collection}" has no classifier {name!r}; save_classifier() stores one'
        )
    return Cascade.from_bytes(bytes(row[0]))
