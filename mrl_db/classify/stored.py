"""Rows of a collection, classified where they are, and classifiers kept with a collection.

Each pass of a cascade reads only the coordinates that the rows left over need next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from mrl_db.classify.answers import Answer, joined
from mrl_db.classify.cascade import Cascade
from mrl_db.door import checked_name
from mrl_db.engines.native.engine import Coordinates, NativeEngine
from mrl_db.model.errors import DtypeError, NotFittedError, ShapeError
from mrl_db.model.key import decode, id_array
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.copy_out import block_rows, copy_rows
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Connection, Session

_KEYS_AT_ONCE = 10_000  # that are sent to it
_BLOCK_ROWS = 16_384  # that are classified at once in this process
_ATTEMPTS = 3  # in this process, before the database is asked instead


@dataclass(frozen=True, slots=True)
class Classified:
    """Rows and their answer.

    Attributes:
        ids: (n,), the keys, in no order.
        answer: row by row.
        coordinate_bytes: of the coordinates that were read.
        key_bytes: of the keys that came from the server; 0 in this process.
    """

    ids: NDArray[Any]
    answer: Answer
    coordinate_bytes: int
    key_bytes: int


def classify(
    session: Session, request: Request, cascade: Cascade, dims: int | None = None
) -> Classified:
    """Returns the answer for rows in the database, as one snapshot has them.

    Only the coordinates that were read of rows not yet decided are held here.

    Args:
        session: of the database.
        request: the filter; rows without a vector have no answer.
        cascade: fitted, for vectors of the collection's dims.
        dims: asks this one head only.
    """
    check_cascade(cascade, request.info)
    with session.snapshot(request.info.relation) as connection:
        rows = _StoredRows(connection, request, cascade.dims[0] if dims is None else dims)
        answer = cascade.predict_stages(len(rows.keys), rows.read, dims=dims)
    ids = id_array(rows.keys, request.info.key_type)
    return Classified(ids, answer, rows.coordinate_bytes, rows.key_bytes)


class _StoredRows:
    """The rows of one snapshot: all keys and first coordinates, later ones when asked for."""

    def __init__(self, connection: Connection, request: Request, width: int) -> None:
        self._connection, self._request = connection, request
        self.coordinate_bytes = self.key_bytes = 0
        self.keys: list[Any] = []
        blocks = [np.empty((0, width), dtype=np.float32)]
        for keys, vectors in self._blocks(0, width, None):
            self.keys += keys
            blocks.append(vectors)
        self._first = np.concatenate(blocks)

    def read(self, rows: NDArray[np.int64], begin: int, end: int) -> NDArray[np.float32]:
        """Returns coordinates begin to end of rows, (rows, end - begin): `answers.Read`."""
        first, self._first = self._first, np.empty((0, 0), dtype=np.float32)
        if begin == 0:
            return first  # of all rows; held no longer here, as the cascade keeps what it needs
        coordinates = np.empty((len(rows), end - begin), dtype=np.float32)
        keys = [self.keys[row] for row in rows.tolist()]
        positions = {key: position for position, key in enumerate(keys)}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            for block, vectors in self._blocks(begin, end, some):
                coordinates[[positions[key] for key in block]] = vectors
        return coordinates

    def _blocks(
        self, begin: int, end: int, keys: list[Any] | None
    ) -> Iterator[tuple[list[Any], NDArray[np.float32]]]:
        block, part = block_rows(end - begin), (begin, end)
        for encoded, vectors in copy_rows(self._connection, self._request, block, keys, part):
            plain = decode(encoded, self._request.info.key_type)
            self.coordinate_bytes += vectors.nbytes
            self.key_bytes += sum(len(key) if isinstance(key, str) else 8 for key in plain)
            yield plain, vectors


def classify_loaded(
    native: NativeEngine, request: Request, cascade: Cascade, dims: int | None
) -> Classified | None:
    """Returns the answer for rows in this process, as they are at one moment.

    None when rows were replaced meanwhile, in each of some attempts. The arguments are those of
    `classify`.
    """
    for _ in range(_ATTEMPTS):
        ids, coordinates = native.rows_now(request)
        rows = _LoadedRows(coordinates)
        answers = []
        try:
            for rows.start in range(0, max(1, len(ids)), _BLOCK_ROWS):
                count = min(_BLOCK_ROWS, len(ids) - rows.start)
                answers.append(cascade.predict_stages(count, rows.read, dims=dims))
        except _ReplacedError:
            continue
        return Classified(ids, joined(answers), rows.coordinate_bytes, 0)
    return None


class _LoadedRows:
    """The rows of this process from `start` on, as they are at one moment."""

    def __init__(self, coordinates: Coordinates) -> None:
        self._coordinates = coordinates
        self.start = self.coordinate_bytes = 0

    def read(self, rows: NDArray[np.int64], begin: int, end: int) -> NDArray[np.float32]:
        """Returns coordinates begin to end of rows, (rows, end - begin): `answers.Read`."""
        vectors = self._coordinates((rows + self.start).astype(np.uint32), begin, end)
        if vectors is None:
            raise _ReplacedError
        self.coordinate_bytes += vectors.nbytes
        return vectors


class _ReplacedError(Exception):
    """A row that was to be read is another one by now."""


def check_cascade(cascade: Cascade, info: CollectionInfo) -> None:
    """Raises DtypeError for what is no cascade, ShapeError for one of vectors of other dims."""
    _check_kind(cascade)
    if cascade.dims[-1] != info.dims:
        raise ShapeError(
            f'the cascade ends at {cascade.dims[-1]} dims, collection "{info.name}" has {info.dims}'
        )


def _check_kind(cascade: object) -> None:
    if not isinstance(cascade, Cascade):
        raise DtypeError(
            f"the classifier is {cascade!r:.60} ({type(cascade).__name__}), wanted a Cascade, or "
            "the name of one that is stored"
        )


def save(session: Session, collection: str, name: str, cascade: Cascade) -> None:
    """Stores a fitted cascade under a name, in place of one that is there."""
    checked_name(name, "the classifier's name")
    _check_kind(cascade)
    about = {} if cascade.report is None else asdict(cascade.report)
    with session.transaction() as connection:
        values = (collection, name, list(cascade.dims), Jsonb(about), cascade.to_bytes())
        connection.execute(statements.query("classifier_save"), values)


def load(session: Session, collection: str, name: str) -> Cascade:
    """Returns a stored cascade; raises NotFittedError when there is none of this name."""
    checked_name(name, "the classifier's name")
    with session.connection() as connection:
        row = connection.execute(statements.query("classifier_load"), (collection, name)).fetchone()
    if row is None:
        raise NotFittedError(
            f'collection "{collection}" has no classifier {name!r}; save_classifier() stores one'
        )
    return Cascade.from_bytes(bytes(row[0]))
