"""Where many rows come from: arrays, iterables of batches, Arrow tables, Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import DtypeError, MissingDependencyError, ShapeError, ValueRangeError
from mrl_db.model.key import KeyName

if TYPE_CHECKING:
    import pyarrow as pa

RawBatch = tuple[Any, Any, Mapping[str, Any]]
"""(ids, vectors, {column: values}), not yet checked."""

Source = Any
"""A path, an Arrow table or reader, an array of ids, or an iterable of batches."""

_ROWS_OF_A_BATCH = 8192


def open_source(
    source: Source,
    vectors: Any,
    columns: Mapping[str, Any],
    *,
    id: str,
    vector: str,
    declared: Mapping[str, str],
) -> tuple[int | None, Iterator[RawBatch]]:
    """Opens what `Collection.ingest` was given.

    Args:
        source: a path, an Arrow table or reader, an array of ids, or an iterable of batches.
        vectors: with an array of ids, its vectors; else None.
        columns: with an array of ids, {column: values}.
        id: the column of Arrow data that holds the key.
        vector: the column of Arrow data that holds the vectors.
        declared: the metadata columns of the collection; others in Arrow data are left out.

    Returns:
        The number of rows, None where unknown, and the batches.
    """
    if vectors is not None:
        return len(vectors), _slices(source, vectors, columns)
    if columns:
        raise ShapeError(
            f"columns {', '.join(columns)} were given without vectors; "
            "batches and files bring their own columns"
        )
    if isinstance(source, (str, os.PathLike)):
        return _parquet(source, id, vector, declared)
    if hasattr(source, "to_batches") or hasattr(
        source, "read_next_batch"
    ):  # a table; a record-batch reader
        batches = (
            source.to_batches(max_chunksize=_ROWS_OF_A_BATCH)
            if hasattr(source, "to_batches")
            else source
        )
        return getattr(source, "num_rows", None), (
            _arrow(batch, id, vector, declared) for batch in batches if batch.num_rows
        )
    if isinstance(source, np.ndarray):
        raise ShapeError("ids were given without vectors; wanted ingest(ids, vectors, …)")
    if not isinstance(source, Iterable):
        raise DtypeError(
            f"source is a {type(source).__name__}, wanted a path, an Arrow table, "
            "ids with vectors, or an iterable of batches"
        )
    return None, (_batch(batch, id, vector, declared) for batch in source)


def _slices(ids: Any, vectors: Any, columns: Mapping[str, Any]) -> Iterator[RawBatch]:
    """Cuts arrays into batches; what does not fit goes through whole, for the door to refuse."""
    lengths = {
        len(ids),
        len(vectors),
        *(len(values) for values in columns.values() if hasattr(values, "__len__")),
    }
    step = _ROWS_OF_A_BATCH if len(lengths) == 1 else max(lengths)
    for begin in range(0, max(1, len(vectors)), max(1, step)):
        end = begin + step
        yield (
            ids[begin:end],
            vectors[begin:end],
            {name: values[begin:end] for name, values in columns.items()},
        )


def _batch(batch: Any, id: str, vector: str, declared: Mapping[str, str]) -> RawBatch:
    if hasattr(batch, "num_rows"):
        return _arrow(batch, id, vector, declared)
    if isinstance(batch, tuple) and len(batch) == 2:
        return batch[0], batch[1], {}
    if isinstance(batch, tuple) and len(batch) == 3 and isinstance(batch[2], Mapping):
        return batch[0], batch[1], batch[2]
    raise ShapeError(
        f"a batch is a {type(batch).__name__}, wanted (ids, vectors) or "
        "(ids, vectors, {column: values}) or an Arrow batch"
    )


def _parquet(
    path: str | os.PathLike[str], id: str, vector: str, declared: Mapping[str, str]
) -> tuple[int, Iterator[RawBatch]]:
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
    _check_names(names, id, vector)
    columns = [name for name in names if name in (id, vector) or name in declared]
    batches = file.iter_batches(batch_size=_ROWS_OF_A_BATCH, columns=columns)
    return file.metadata.num_rows, (_arrow(batch, id, vector, declared) for batch in batches)


def parquet_schema(
    path: str | os.PathLike[str], id: str, vector: str
) -> tuple[KeyName, int, dict[str, str]]:
    """Returns (key type, dims, {column: SQL type}) of a collection that fits a Parquet file."""
    import pyarrow as pa

    _, batches = _parquet(path, id, vector, {})
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


def _check_names(names: list[str], id: str, vector: str) -> None:
    for what, name in (("id", id), ("vector", vector)):
        if name not in names:
            raise ValueRangeError(
                f"the data has no column {name!r} for the {what}; "
                f"it has {', '.join(names)}; name it with {what}="
            )


def _arrow(batch: pa.RecordBatch, id: str, vector: str, declared: Mapping[str, str]) -> RawBatch:
    """Takes one Arrow batch apart; vectors come without a copy where they lie in one piece."""
    names = batch.schema.names
    _check_names(names, id, vector)
    ids, embedded = batch.column(names.index(id)), batch.column(names.index(vector))
    for name, array in ((id, ids), (vector, embedded)):
        if array.null_count:
            raise ValueRangeError(
                f"column {name!r} has {array.null_count} NULLs in one batch; filter them out before"
            )
    further = {
        name: batch.column(position).to_pylist()
        for position, name in enumerate(names)
        if name in declared and name not in (id, vector)
    }
    return _arrow_ids(ids), _arrow_vectors(embedded), further


def _arrow_ids(ids: pa.Array) -> Any:
    import pyarrow as pa

    return ids.to_numpy(zero_copy_only=False) if pa.types.is_integer(ids.type) else ids.to_pylist()


def _arrow_vectors(vectors: pa.Array) -> NDArray[Any]:
    import pyarrow as pa

    kind = vectors.type
    if not (
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    ):
        raise DtypeError(f"the vector column is {kind}, wanted a list of floats in each row")
    values = vectors.flatten()
    if values.null_count:
        raise ValueRangeError(
            f"the vector column has {values.null_count} NULLs inside vectors of one batch"
        )
    if not pa.types.is_floating(values.type):
        raise DtypeError(f"the vector column holds {values.type}, wanted floats")
    if not pa.types.is_fixed_size_list(kind):
        widths = vectors.value_lengths().unique().to_pylist()
        if len(widths) != 1:
            shown = ", ".join(map(str, sorted(widths)[:5]))
            raise ShapeError(f"the vector column has rows of {shown} values, wanted one width")
    flat: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return flat.reshape(len(vectors), -1)
