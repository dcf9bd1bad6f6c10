"""Where many rows come from: arrays, iterables of batches or dicts, frames, Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mrl_db.faces import frames
from mrl_db.faces.frames import BATCH_ROWS, Fields, RawBatch
from mrl_db.model.errors import DtypeError, MissingDependencyError, ShapeError, ValueRangeError
from mrl_db.model.key import KeyName

if TYPE_CHECKING:
    import pyarrow as pa

Source = Any
"""A path, a frame or Arrow data, an array of ids, or an iterable of dicts or batches."""


def open_source(
    source: Source, vectors: Any, columns: Mapping[str, Any], fields: Fields
) -> tuple[int | None, Iterator[RawBatch]]:
    """Opens what `Collection.ingest` was given.

    Args:
        source: A path, a frame or Arrow data, an array of ids, or an iterable of dicts or batches.
        vectors: With an array of ids, its vectors; else None.
        columns: With an array of ids, {column: values}.
        fields: What is taken of frames.

    Returns:
        The number of rows, None where unknown, and the batches.
    """
    if vectors is not None:
        return _length(vectors), _slices(source, vectors, columns)
    if columns:
        raise ShapeError(
            f"columns {', '.join(columns)} were given without vectors; "
            "batches and files bring their own columns"
        )
    if isinstance(source, (str, os.PathLike)):
        return _parquet(source, fields)
    if frames.is_frame(source):
        return frames.length(source), frames.batches(source, fields)
    if isinstance(source, np.ndarray):
        raise ShapeError("ids were given without vectors; wanted ingest(ids, vectors, …)")
    if not isinstance(source, Iterable):
        raise DtypeError(
            f"source is a {type(source).__name__}, wanted a path, a frame, Arrow data, "
            "ids with vectors, or an iterable of dicts or batches"
        )
    items = iter(source)
    head = list(islice(items, 1))
    if head and isinstance(head[0], Mapping):
        total = len(source) if isinstance(source, Sized) else None
        return total, _of_dicts(chain(head, items), fields)
    return None, chain.from_iterable(_batches(item, fields) for item in chain(head, items))


def _of_dicts(rows: Iterator[Mapping[str, Any]], fields: Fields) -> Iterator[RawBatch]:
    while part := list(islice(rows, BATCH_ROWS)):
        yield frames.dicts(part, fields)


def _slices(ids: Any, vectors: Any, columns: Mapping[str, Any]) -> Iterator[RawBatch]:
    """Cuts arrays into batches; what does not fit goes through whole, for the door to refuse."""
    lengths = [_length(values) for values in (ids, vectors, *columns.values())]
    count = lengths[0]
    if not count or any(length != count for length in lengths):
        yield ids, vectors, columns
        return
    for begin in range(0, count, BATCH_ROWS):
        end = begin + BATCH_ROWS
        yield (
            ids[begin:end],
            vectors[begin:end],
            {name: values[begin:end] for name, values in columns.items()},
        )


def _length(values: Any) -> int | None:
    """Returns how many values there are; None for what cannot be cut by positions."""
    if isinstance(values, (str, bytes, Mapping)):
        return None
    try:
        values[:0]
        return len(values)
    except (TypeError, IndexError):  # a generator, a set, an array without an axis
        return None


def _batches(item: Any, fields: Fields) -> Iterator[RawBatch]:
    """Yields what one item of an iterable holds: a frame, a list of dicts, or a tuple."""
    if frames.is_frame(item):
        yield from frames.batches(item, fields)
    elif frames.is_rows(item):
        yield frames.dicts(item, fields)
    elif isinstance(item, list) and not item:
        return
    elif isinstance(item, tuple) and len(item) == 2:
        yield item[0], item[1], {}
    elif isinstance(item, tuple) and len(item) == 3 and isinstance(item[2], Mapping):
        yield item[0], item[1], item[2]
    else:
        raise ShapeError(
            f"a batch is a {type(item).__name__}, wanted (ids, vectors), "
            "(ids, vectors, {column: values}), a frame or a list of dicts"
        )


def _parquet(path: str | os.PathLike[str], fields: Fields) -> tuple[int, Iterator[RawBatch]]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependencyError(
            "Parquet files need pyarrow; pip install 'mrl_db[arrow]'"
        ) from None
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise ValueRangeError(f"no file {os.fspath(path)!r}") from None
    except (ValueError, OSError) as error:
        raise ValueRangeError(
            f"{os.fspath(path)!r} is not a Parquet file that can be read: {error}"
        ) from None
    names = file.schema_arrow.names
    if not fields.columns:  # a collection is made of all of them
        frames.check_once(names)
    fields = frames.check_names(names, fields)
    kept = (fields.id, fields.vector, *fields.columns)
    batches = file.iter_batches(
        batch_size=BATCH_ROWS, columns=[name for name in names if name in kept]
    )
    return file.metadata.num_rows, (frames.arrow(batch, fields) for batch in batches)


def parquet_schema(
    path: str | os.PathLike[str], id: str, vector: str
) -> tuple[KeyName, int, dict[str, str]]:
    """Returns (key type, dims, {column: SQL type}) of a collection that fits a Parquet file."""
    import pyarrow as pa

    _, batches = _parquet(path, Fields(id, vector, "text", {}))
    first = next(batches, None)
    if first is None:
        raise ValueRangeError(f"{os.fspath(path)!r} holds no rows")
    import pyarrow.parquet as pq

    columns = {}
    for field in pq.read_schema(path):
        if field.name not in (id, vector):
            columns[field.name] = _sql_type(field.type)
    key = pq.read_schema(path).field(id).type
    key_type: KeyName = "bigint" if pa.types.is_integer(key) else "text"
    return key_type, np.asarray(first[1]).shape[1], columns


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    for matches, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_date, "date"),
        (pa.types.is_string, "text"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_decimal, "numeric"),
    ):
        if matches(kind):
            return name
    if pa.types.is_timestamp(kind):
        return "timestamp without time zone" if kind.tz is None else "timestamp with time zone"
    raise DtypeError(
        f"no SQL type for Arrow's {kind}; "
        "create the collection first, with the columns that you want"
    )
