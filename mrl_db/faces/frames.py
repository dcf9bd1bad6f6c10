"""Rows out of frames: anything that exports Arrow, pandas' frames, lists of dicts.

A frame is recognised by what it can do: `__arrow_c_stream__` or `__arrow_c_array__` (polars,
DuckDB, ADBC, pyarrow), or pandas' `isna`. Columns that the collection does not have are left out.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.arrays import Parted, column_values, fitted, unmarked
from mrl_db.model.errors import DtypeError, MissingDependencyError, ShapeError, ValueRangeError
from mrl_db.model.values import JSON_TYPES

if TYPE_CHECKING:
    import pyarrow as pa

RawBatch = tuple[Any, Any, Mapping[str, Any]]
"""(ids, vectors, {column: values}), not yet checked."""

BATCH_ROWS = 8192
# What Arrow raises of a value, or its own errors derive from; KeyError: of a time zone.
_UNREADABLE = (ValueError, OverflowError, NotImplementedError, KeyError)


_NO_ROWS: RawBatch = ([], [], {})


@dataclass(frozen=True, slots=True)
class Fields:
    """What a collection takes of a frame.

    Attributes:
        id: The column that holds the key.
        vector: The column that holds the vectors.
        key_type: SQL type of the key.
        columns: The metadata columns with their SQL types.
        vectors_required: Whether every row has a vector.
        renewed: Asks the database again, where a frame has columns that the collection has not:
            another client may have added them. None: it was asked just before.
    """

    id: str
    vector: str
    key_type: str
    columns: Mapping[str, str]
    vectors_required: bool = True
    renewed: Callable[[], Fields] | None = None

    @property
    def required(self) -> tuple[tuple[str, str], ...]:
        """(what it is, its name) of each column that must be there, whole."""
        vectors = (("vector", self.vector),) if self.vectors_required else ()
        return (("id", self.id), *vectors)


def is_frame(source: Any) -> bool:
    """Whether it has rows with named columns: a frame, or Arrow data."""
    return hasattr(source, "num_rows") or _is_pandas(source) or _exports_arrow(source)


def is_rows(source: Any) -> bool:
    """Whether it is a list of dicts."""
    return isinstance(source, Sequence) and len(source) > 0 and isinstance(source[0], Mapping)


def whole(source: Any, fields: Fields) -> RawBatch:
    """Returns all rows of a frame, or of a list of dicts, as one batch; none where it has none.

    Raises:
        ShapeError: It is neither.
    """
    if isinstance(source, Sequence) and len(source) == 0:
        return _NO_ROWS
    if is_rows(source):
        return dicts(source, fields)
    if not is_frame(source):
        raise ShapeError(
            "ids were given without vectors; wanted (ids, vectors, …), or a frame, Arrow data or a "
            f"list of dicts with the columns {fields.id!r} and {fields.vector!r}"
        )
    if _is_pandas(source):
        return _pandas(source, fields)
    import pyarrow as pa

    batches = list(_record_batches(source))
    if not batches:
        return _NO_ROWS
    joined = pa.Table.from_batches(batches).combine_chunks().to_batches()
    if len(joined) > 1:  # a column of more than 2 GB stays in pieces
        raise ShapeError("the frame is too large to be added at once; use ingest()")
    return arrow(joined[0], fields)


def length(source: Any) -> int | None:
    """Returns the rows of a frame where it is known without running a query."""
    if hasattr(source, "num_rows"):
        return int(source.num_rows)
    return len(source) if hasattr(source, "to_dict") else None


def batches(source: Any, fields: Fields) -> Iterator[RawBatch]:
    """Yields the rows of a frame in batches of bounded size."""
    if _is_pandas(source):
        for begin in range(0, len(source), BATCH_ROWS):
            yield _pandas(source.iloc[begin : begin + BATCH_ROWS], fields)
        return
    for batch in _record_batches(source):
        for begin in range(0, batch.num_rows, BATCH_ROWS):
            yield arrow(batch.slice(begin, BATCH_ROWS), fields)


def dicts(rows: Sequence[Mapping[str, Any]], fields: Fields) -> RawBatch:
    """Returns dicts as a batch; a column that a row lacks is NULL there.

    NaN, NaT and NA stand for NULL, as pandas' `to_dict("records")` gives them; a NaN in a column of
    floats is a number.
    """
    for what, name in fields.required:
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise ShapeError(f"row {number} is a {type(row).__name__}, the first one is a dict")
            if name not in row:
                there = ", ".join(map(str, row)) or "nothing"
                raise ValueRangeError(f"row {number} has no {name!r} for the {what}: {there}")
    names = dict.fromkeys(name for row in rows for name in row)
    fields = _known(names, fields)
    columns = {
        name: unmarked([row.get(name) for row in rows], sql_type)
        for name, sql_type in fields.columns.items()
        if name in names
    }
    ids = [fitted(row[fields.id], fields.key_type) for row in rows]
    vectors = [row.get(fields.vector) for row in rows] if fields.vector in names else None
    if vectors is not None and not fields.vectors_required:
        vectors = unmarked(vectors, "vector")
    return ids, vectors, columns


def arrow(batch: pa.RecordBatch, fields: Fields) -> RawBatch:
    """Takes one Arrow batch apart; vectors come without a copy where they lie in one piece."""
    names = batch.schema.names
    fields = check_names(names, fields)
    for _, name in fields.required:
        array = batch.column(names.index(name))
        if array.null_count:
            raise ValueRangeError(
                f"column {name!r} has {array.null_count} NULLs in one batch; filter them out before"
            )
    further = {
        name: _values(batch.column(position), name, fields.columns[name])
        for position, name in enumerate(names)
        if name in fields.columns and name not in (fields.id, fields.vector)
    }
    ids, vectors = _ids(batch.column(names.index(fields.id)), fields.key_type), None
    if fields.vector in names:
        vectors = _vectors_or_parted(batch.column(names.index(fields.vector)))
    return ids, vectors, further


def check_names(names: Sequence[str], fields: Fields) -> Fields:
    """Returns what is taken of columns with these names.

    Raises:
        ValueRangeError: The key's or the vectors' column is not among them.
    """
    for what, name in fields.required:
        if name not in names:
            raise ValueRangeError(
                f"the data has no column {name!r} for the {what}; it has "
                f"{', '.join(map(str, names))}; rename it, or name it with ingest({what}=)"
            )
    fields = _known(names, fields)
    check_once([name for name in names if name in (fields.id, fields.vector, *fields.columns)])
    return fields


def check_once(names: Sequence[str]) -> None:
    """Raises ValueRangeError where two columns have one name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueRangeError(f"the data has two columns {twice!r}; rename one of them, or drop it")


def _known(names: Iterable[str], fields: Fields) -> Fields:
    """Returns what is taken; warns where columns are left out while others lack: misspelt."""
    taken = (fields.id, fields.vector)
    others = [str(name) for name in names if name not in fields.columns and name not in taken]
    if others and fields.renewed is not None:
        return _known(names, fields.renewed())
    lacking = [name for name in fields.columns if name not in names]
    if others and lacking:
        warnings.warn(
            f"columns of the data are left out ({', '.join(others)}), and the collection's "
            f"{', '.join(lacking)} are not in the data; rename them if they are the same",
            stacklevel=2,
        )
    return fields


def _is_pandas(source: Any) -> bool:
    return hasattr(source, "isna") and hasattr(source, "iloc") and hasattr(source, "columns")


def _exports_arrow(source: Any) -> bool:
    """Whether it exports a table; a column alone exports Arrow too, but has no columns."""
    exports = hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")
    return exports and not (hasattr(source, "to_list") or hasattr(source, "to_pylist"))


def _pandas(frame: Any, fields: Fields) -> RawBatch:
    """Takes a frame apart by its own columns, which hold what Arrow could not: any object."""
    if fields.id not in frame.columns and fields.id in frame.index.names:
        frame = frame.reset_index()
    fields = check_names(list(frame.columns), fields)
    if len(frame) == 0:
        return _NO_ROWS
    for _, name in fields.required:
        missing = int(frame[name].isna().sum())
        if missing:
            raise ValueRangeError(
                f"column {name!r} has {missing} missing values; frame.dropna(subset=[{name!r}]) "
                "leaves those rows out"
            )
    ids = frame[fields.id]
    if fields.key_type == "uuid":
        ids = [fitted(value, "uuid") for value in ids]
    columns = {
        name: _of_pandas(frame[name], name, sql_type)
        for name, sql_type in fields.columns.items()
        if name in frame.columns
    }
    return ids, frame[fields.vector] if fields.vector in frame.columns else None, columns


def _of_pandas(column: Any, name: str, sql_type: str) -> Any:
    """Returns a column as the door takes it: as it is, but for JSON."""
    if sql_type not in JSON_TYPES:
        return column
    return of_json(column_values(column, sql_type), name, sql_type)


def _record_batches(source: Any) -> Iterator[pa.RecordBatch]:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingDependencyError(
            "frames that export Arrow need pyarrow; pip install 'mrl_db[arrow]'"
        ) from None
    try:
        yield from (batch for batch in _reader(source) if batch.num_rows)
    except pa.ArrowException as error:
        raise DtypeError(
            f"the frame cannot be read as Arrow ({error}); cast the column to another type, or "
            "leave it out"
        ) from None


def _reader(source: Any) -> Iterable[pa.RecordBatch]:
    import pyarrow as pa

    if hasattr(source, "read_next_batch"):
        return source  # type: ignore[no-any-return]
    if hasattr(source, "to_batches"):
        return source.to_batches(max_chunksize=BATCH_ROWS)  # type: ignore[no-any-return]
    if hasattr(source, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(source)  # type: ignore[no-any-return]
    return [pa.record_batch(source)]


def _ids(ids: pa.Array, key_type: str) -> Any:
    import pyarrow as pa

    if pa.types.is_integer(ids.type):
        return ids.to_numpy(zero_copy_only=False)
    return [fitted(value, key_type) for value in _listed(ids, "ids")]


def _values(array: pa.Array, name: str, sql_type: str) -> list[Any]:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # PostgreSQL counts microseconds
        array = array.cast(pa.timestamp("us", kind.tz), safe=False)
    return of_json([fitted(value, sql_type) for value in _listed(array, name)], name, sql_type)


def _listed(array: pa.Array, what: str) -> list[Any]:
    """Returns Python's values; raises ValueRangeError where Python has none for one."""
    try:
        return list(array.to_pylist())
    except _UNREADABLE:
        for row, value in enumerate(array):
            try:
                value.as_py()
            except _UNREADABLE as error:
                raise ValueRangeError(
                    f"column {what!r} is {array.type}, row {row} of a batch has a value that "
                    f"Python cannot hold ({error}); replace it, or leave the column out"
                ) from None
        raise


def of_json(values: list[Any], name: str, sql_type: str) -> list[Any]:
    """Returns what the values of a frame's column mean, of JSON, which frames have as its text.

    Where a frame holds what JSON means, it stays as it is.
    """
    if sql_type in ("json", "jsonb"):
        return [_json(value, name, row) for row, value in enumerate(values)]
    if sql_type in ("json[]", "jsonb[]"):
        return [
            None if several is None else [_json(value, name, row) for value in several]
            for row, several in enumerate(values)
        ]
    return values


def _json(value: Any, name: str, row: int) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise DtypeError(
            f"column {name!r} is JSON, row {row} has the text {value!r:.60}, which is none; "
            "json.dumps makes it"
        ) from None


def _vectors_or_parted(vectors: pa.Array) -> NDArray[Any] | Parted:
    if not vectors.null_count:
        return _vectors(vectors)
    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    some = present.any()
    return Parted(present, _vectors(vectors.drop_null()) if some else np.empty((0, 0)))


def _vectors(vectors: pa.Array) -> NDArray[Any]:
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
    if pa.types.is_int64(values.type):  # what Python's integers become
        values = values.cast(pa.float64(), safe=False)
    if not pa.types.is_floating(values.type):
        raise DtypeError(f"the vector column holds {values.type}, wanted floats")
    if not pa.types.is_fixed_size_list(kind):
        widths = vectors.value_lengths().unique().to_pylist()
        if len(widths) != 1:
            shown = ", ".join(map(str, sorted(widths)[:5]))
            raise ShapeError(f"the vector column has rows of {shown} values, wanted one width")
    flat: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return flat.reshape(len(vectors), -1)
