"""Writing rows: checked at the door, encoded in C++, sent by COPY in binary, all or nothing."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from psycopg import sql
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format

from mrl_db import _kernels
from mrl_db.model.errors import DtypeError, DuplicateKeyError, ShapeError, ValueRangeError
from mrl_db.model.metric import Metric
from mrl_db.model.precision import MAX_HALFVEC_VALUE
from mrl_db.model.values import misfit, plain_value
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Connection

KEY_TYPES = {
    "smallint": _kernels.KeyType.int16,
    "integer": _kernels.KeyType.int32,
    "bigint": _kernels.KeyType.int64,
    "uuid": _kernels.KeyType.uuid,
    "text": _kernels.KeyType.text,
    "character varying": _kernels.KeyType.text,
}
VECTOR_TYPES = {"vector": _kernels.VectorType.float32, "halfvec": _kernels.VectorType.float16}
_INTEGER_DTYPES = {"smallint": np.int16, "integer": np.int32, "bigint": np.int64}
_PIECE_BYTES = (
    1 << 18
)  # a COPY message: large enough to make calls cheap, small enough to overlap with the server's work
# A COPY statement. The change log's trigger sees a statement's rows in a transition table, which PostgreSQL keeps in memory up to work_mem
# (4 MB as it comes) and in a file beyond.
_STATEMENT_BYTES = 1 << 21


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that passed the door: keys as the encoder takes them, float32 vectors, and columns of Python values."""

    keys: NDArray[np.uint8] | list[bytes]
    vectors: NDArray[np.float32]
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        """Rows."""
        return len(self.vectors)


def check_vectors(
    vectors: ArrayLike, info: CollectionInfo, what: str = "vectors"
) -> NDArray[np.float32]:
    """Returns vectors (n, dims) as float32 once nothing in them can be wrong; raises ShapeError, DtypeError or ValueRangeError.

    Takes NumPy arrays of float16, float32 or float64, and nested sequences of floats.
    """
    array = _as_floats(vectors, what)
    if array.ndim != 2:
        raise ShapeError(
            f"{what} has {array.ndim} axes (shape {array.shape}), wanted 2: (rows, {info.dims} dims)"
        )
    if array.shape[0] == 0:
        raise ShapeError(f"{what} is empty, wanted at least one row of {info.dims} dims")
    if array.shape[1] != info.dims:
        raise ShapeError(
            f'{what} has {array.shape[1]} dims, collection "{info.name}" has {info.dims}; embed with the same model'
        )
    single = _as_float32(array, what)
    halves = info.vector_type == "halfvec" or info.metric is not Metric.cosine
    row, fault = _kernels.first_bad_row(
        single, info.metric is Metric.cosine, MAX_HALFVEC_VALUE if halves else float("inf")
    )
    if fault:
        raise ValueRangeError(f"{what}, row {row}: {_FAULTS[fault]}")
    return single


def check_query(query: ArrayLike, info: CollectionInfo) -> tuple[NDArray[np.float32], bool]:
    """Returns (queries of shape (n, dims), whether one query was given as (dims,))."""
    array = _as_floats(query, "query")
    if array.ndim not in (1, 2):
        raise ShapeError(
            f"query has {array.ndim} axes (shape {array.shape}), wanted ({info.dims},) or (n, {info.dims})"
        )
    return check_vectors(np.atleast_2d(array), info, "query"), array.ndim == 1


_FAULTS = {
    1: "a NaN or an infinity; pgvector stores finite numbers only",
    2: "a zero vector, which has no direction; cosine needs one: leave the row out, or use metric l2 or inner_product",
    3: f"a value beyond {MAX_HALFVEC_VALUE:.0f}, the largest half-precision float of the low-dim column; scale the vectors down",
}


def _as_floats(values: ArrayLike, what: str) -> NDArray[Any]:
    try:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    except (ValueError, TypeError):
        raise ShapeError(
            f"{what} is ragged: its rows differ in length; wanted one width for all"
        ) from None
    if array.size == 0 and array.dtype == np.float64:
        return array
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DtypeError(
            f"{what} is {array.dtype}, wanted float32 (float16 and float64 are converted); use .astype(numpy.float32)"
        )
    return array


def _as_float32(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Returns contiguous float32 in the machine's order; a finite float64 that would become infinite is refused."""
    if array.dtype.itemsize == 8:
        beyond = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
        if beyond.any():
            row = int(np.argwhere(beyond)[0][0])
            raise ValueRangeError(
                f"{what}, row {row}: a float64 beyond 3.4e38, the largest float32; scale the vectors down"
            )
    return np.ascontiguousarray(array, dtype=np.float32)


def check_keys(
    ids: Any, key_type: str, count: int | None = None
) -> tuple[NDArray[np.uint8] | list[bytes], list[Any]]:
    """Returns the keys as (bytes for the encoder, Python values) once they have the key's type, are all different and as many as wanted."""
    if (
        isinstance(ids, (str, bytes))
        or not isinstance(ids, (Sequence, np.ndarray))
        or getattr(ids, "ndim", 1) != 1
    ):
        shape = getattr(ids, "shape", None)
        raise ShapeError(
            f"ids is {type(ids).__name__}{'' if shape is None else f' of shape {shape}'}, wanted a list or an array of one axis"
        )
    if len(ids) == 0:
        raise ShapeError("ids is empty, wanted at least one")
    if count is not None and len(ids) != count:
        raise ShapeError(f"there are {len(ids)} ids for {count} vectors, wanted one each")
    if key_type in _INTEGER_DTYPES:
        array = _integer_keys(ids, key_type)
        values: list[Any] = array.tolist()
        encoded: NDArray[np.uint8] | list[bytes] = array.view(np.uint8).reshape(
            len(array), array.itemsize
        )
    elif key_type == "uuid":
        values = list(ids)
        for place, value in enumerate(values):
            if not isinstance(value, uuid.UUID):
                raise DtypeError(
                    f"ids[{place}] is {_shown(value)}, the key is uuid; convert it with uuid.UUID(…)"
                )
        encoded = np.frombuffer(b"".join(value.bytes for value in values), dtype=np.uint8).reshape(
            len(values), 16
        )
    else:
        values = [str(value) if isinstance(value, str) else value for value in ids]
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise DtypeError(
                    f"ids[{place}] is {_shown(value)}, the key is text; convert it with str(…)"
                )
        encoded = [_text_key(value, place) for place, value in enumerate(values)]
    if len(set(values)) != len(values):
        seen: set[Any] = set()
        twice = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise DuplicateKeyError(
            f"id {twice!r} stands twice in one call; each row needs an id of its own"
        )
    return encoded, values


def plain_keys(encoded: NDArray[np.uint8] | Sequence[Any], key_type: str) -> list[Any]:
    """Returns keys as `check_keys` encoded them, or as COPY brought them, as Python values."""
    if key_type in _INTEGER_DTYPES:
        return (
            list(np.ascontiguousarray(encoded).view(_INTEGER_DTYPES[key_type])[:, 0].tolist())
            if len(encoded)
            else []
        )
    if key_type == "uuid":
        return [uuid.UUID(bytes=bytes(key)) for key in encoded]
    return [key if isinstance(key, str) else key.decode() for key in encoded]


def parse_key(text: str, key_type: str) -> Any:
    """Returns a key from its text form; raises ValueRangeError when it is none of this type."""
    try:
        if key_type in _INTEGER_DTYPES:
            return int(text)
        return uuid.UUID(text) if key_type == "uuid" else text
    except ValueError:
        raise ValueRangeError(f"{text!r} is no {key_type}, the type of the key") from None


def _integer_keys(ids: Sequence[Any] | NDArray[Any], key_type: str) -> NDArray[Any]:
    wanted = _INTEGER_DTYPES[key_type]
    for place, value in enumerate(
        () if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" else ids
    ):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise DtypeError(
                f"ids[{place}] is {_shown(value)}, the key is {key_type}; give integers"
            )
    limit = np.iinfo(wanted)
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu":
        smallest, largest = int(ids.min()), int(ids.max())
    else:
        smallest, largest = int(min(ids)), int(max(ids))
    if smallest < limit.min or largest > limit.max:
        raise ValueRangeError(
            f"ids reach from {smallest} to {largest}, {key_type} holds {limit.min} to {limit.max}"
        )
    return np.ascontiguousarray(ids, dtype=wanted)


def _text_key(value: str, place: int) -> bytes:
    if "\0" in value:
        raise ValueRangeError(
            f"ids[{place}] contains a NUL character, which PostgreSQL cannot hold"
        )
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueRangeError(f"ids[{place}] is no valid Unicode") from None


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"


def check_columns(
    columns: Mapping[str, Any], info: CollectionInfo, count: int
) -> dict[str, Sequence[Any]]:
    """Returns the metadata columns as sequences of Python values, one for each row, in the order given."""
    checked: dict[str, Sequence[Any]] = {}
    for name, values in columns.items():
        column = info.columns.get(name)
        if column is None:
            known = ", ".join(info.columns) or "none"
            raise ValueRangeError(
                f'collection "{info.name}" has no column {name!r}; there are: {known}'
            )
        if column.generated:
            raise ValueRangeError(f"column {name!r} is computed by the server; leave it out")
        if (
            isinstance(values, (str, bytes))
            or not hasattr(values, "__len__")
            or isinstance(values, Mapping)
        ):
            raise ShapeError(
                f"column {name!r} is a {type(values).__name__}, wanted a list or an array of {count} values"
            )
        if len(values) != count:
            raise ShapeError(
                f"column {name!r} has {len(values)} values for {count} rows, wanted one each"
            )
        checked[name] = (
            values.tolist()
            if hasattr(values, "tolist")
            else [plain_value(value) for value in values]
        )
        for place, value in enumerate(checked[name]):
            wanted = None if value is None else misfit(value, column.type)
            if wanted is not None:
                raise DtypeError(
                    f"column {name!r} is {column.type}, row {place} has {_shown(value)}; wanted {wanted}"
                )
    return checked


def check_batch(
    ids: Any, vectors: ArrayLike, columns: Mapping[str, Any], info: CollectionInfo
) -> Batch:
    """Returns the rows once they passed every check that needs no database."""
    single = check_vectors(vectors, info)
    encoded, _ = check_keys(ids, info.key_type, len(single))
    return Batch(encoded, single, check_columns(columns, info, len(single)))


def write(
    connection: Connection,
    info: CollectionInfo,
    batches: Iterable[Batch],
    *,
    upsert: bool,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Sends the batches by COPY, in the connection's transaction; returns the number of rows.

    upsert: through a temporary table, and rows whose key is there already get the new vector and the columns given.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        return 0
    names = tuple(first.columns)
    columns = [statements.identifier(name) for name in (info.key, info.vector, *names)]
    column_list = sql.SQL(", ").join(columns)
    target: sql.Composable = info.relation
    staging = statements.identifier("pg_temp", "mrl_db_staging")
    if upsert:
        connection.execute(
            statements.query("staging_create").format(
                staging=statements.identifier("mrl_db_staging"),
                columns=column_list,
                target=info.relation,
            ),
            (),
        )
        target = staging
    count = 0
    statement = statements.without_parameters(
        statements.query("copy_in").format(target=target, columns=column_list), connection
    )
    pieces = _pieces(connection, info, itertools.chain([first], iterator))
    piece = next(pieces, None)
    while piece is not None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(_kernels.copy_header())
            sent = 0
            while piece is not None and sent < _STATEMENT_BYTES:
                rows, stream = piece
                copy.write(stream)
                sent += len(stream)
                count += rows
                if progress is not None:
                    progress(count)
                piece = next(pieces, None)
            copy.write(_kernels.copy_trailer())
    if upsert:
        update = statements.fragments("columns")["update"]
        updates = [update.format(column=column) for column in columns[1:]]
        connection.execute(
            statements.query("staging_merge").format(
                target=info.relation,
                columns=column_list,
                staging=staging,
                key=columns[0],
                updates=sql.SQL(", ").join(updates),
            ),
            (),
        )
    return count


def _pieces(
    connection: Connection, info: CollectionInfo, batches: Iterable[Batch]
) -> Iterator[tuple[int, bytes]]:
    """Yields (rows, bytes) pieces of a COPY stream; batches must have the same columns."""
    names: tuple[str, ...] | None = None
    for batch in batches:
        names = tuple(batch.columns) if names is None else names
        if tuple(batch.columns) != names:
            raise ShapeError(
                f"a batch has the columns {tuple(batch.columns)}, the first one had {names}; wanted the same in all"
            )
        yield from _encoded(connection, info, batch)


def _encoded(
    connection: Connection, info: CollectionInfo, batch: Batch
) -> Iterator[tuple[int, bytes]]:
    """Yields (rows, bytes) pieces of a COPY stream."""
    step = max(1, _PIECE_BYTES // (4 * info.dims + 64))
    names = tuple(batch.columns)
    dump = _column_dumper(connection, info, names)
    for begin in range(0, len(batch), step):
        end = min(begin + step, len(batch))
        extra = (
            [
                field
                for row in range(begin, end)
                for field in dump(row, [batch.columns[name][row] for name in names])
            ]
            if names
            else []
        )
        piece = _kernels.encode_rows(
            KEY_TYPES[info.key_type],
            batch.keys[begin:end],
            VECTOR_TYPES[info.vector_type],
            batch.vectors[begin:end],
            extra,
            len(names),
        )
        yield end - begin, piece


def _column_dumper(
    connection: Connection, info: CollectionInfo, names: Sequence[str]
) -> Callable[[int, list[Any]], Sequence[Any]]:
    """Returns a function from one row's column values to their binary fields, by psycopg's dumpers for the columns' types."""
    transformer = Transformer(connection)
    transformer.set_dumper_types([info.columns[name].oid for name in names], Format.BINARY)
    formats = [PyFormat.BINARY] * len(names)

    def dump(row: int, values: list[Any]) -> Sequence[Any]:
        try:
            return [
                None if field is None else bytes(field)
                for field in transformer.dump_sequence(values, formats)
            ]
        except (psycopg.Error, TypeError, ValueError, AttributeError, OverflowError) as error:
            shown = ", ".join(
                f"{name}={value!r:.60}" for name, value in zip(names, values, strict=True)
            )
            types = ", ".join(f"{name} is {info.columns[name].type}" for name in names)
            raise DtypeError(
                f"row {row}: a value does not fit its column ({shown}); {types} ({type(error).__name__})"
            ) from None

    return dump
