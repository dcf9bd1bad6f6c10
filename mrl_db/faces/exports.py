"""Results as frames: the methods that `Hits` and `Records` share.

In Arrow the columns have the types of the table's; uuid and numeric are text, which loses nothing,
and JSON is its text. So frames of one collection have one schema, whatever is NULL in them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mrl_db.model import texts
from mrl_db.model.errors import MissingDependencyError, ValueRangeError
from mrl_db.model.values import JSON_TYPES

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


Column = tuple[str, Any, str]
"""A name, values (n,) or vectors (n, dims), and the SQL type; "" where the values say it."""


class Exported(Protocol):
    """Whatever has rows with named columns."""

    def _columns(self) -> Sequence[Column]: ...


def to_arrow(self: Exported) -> pa.Table:
    """Returns an Arrow table, whose types depend on the collection only.

    Raises:
        MissingDependencyError: Without pyarrow.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingDependencyError(
            "Arrow needs pyarrow; pip install 'mrl_db[arrow]', or use to_list()"
        ) from None
    columns = self._columns()
    arrays = [_arrow(values, sql_type) for _, values, sql_type in columns]
    return pa.Table.from_arrays(arrays, names=[name for name, _, _ in columns])


def to_pandas(self: Exported) -> pd.DataFrame:
    """Returns a DataFrame of pandas; vectors are arrays in a column of objects."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingDependencyError(
            "to_pandas() needs pandas; pip install pandas, or use to_list()"
        ) from None
    frame = {}
    for name, values, sql_type in self._columns():
        listed = listed_vectors(values) if getattr(values, "ndim", 1) == 2 else values
        if sql_type in JSON_TYPES:
            listed = _json_texts(listed, sql_type)
        holes = isinstance(listed, list) and any(value is None for value in listed)
        frame[name] = pd.Series(listed, dtype=object if holes else None)  # integers stay integers
    return pd.DataFrame(frame)


def to_polars(self: Exported) -> pl.DataFrame:
    """Returns a DataFrame of polars, by way of Arrow."""
    try:
        import polars as pl
    except ImportError:
        raise MissingDependencyError(
            "to_polars() needs polars; pip install polars pyarrow, or use to_list()"
        ) from None
    frame = pl.from_arrow(to_arrow(self))
    assert isinstance(frame, pl.DataFrame)
    return frame


def arrow_c_stream(self: Exported, requested_schema: object | None = None) -> object:
    """Exports the rows by Arrow's C stream interface, which frames of all kinds read."""
    return to_arrow(self).__arrow_c_stream__(requested_schema)


def listed_vectors(vectors: NDArray[np.float32]) -> list[NDArray[np.float32] | None]:
    """Returns the rows of (n, dims), with None for those of NaN, which have no vector."""
    missing = np.isnan(vectors[:, 0]).tolist()
    return [None if gone else row for row, gone in zip(vectors, missing, strict=True)]


def _arrow(values: Any, sql_type: str) -> pa.Array:
    import pyarrow as pa

    if getattr(values, "ndim", 1) == 2:
        flat = pa.array(np.ascontiguousarray(values).ravel())
        missing = np.isnan(values[:, 0])
        mask = pa.array(missing) if missing.any() else None
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values)
    listed = list(values)
    if not sql_type and listed and not isinstance(listed[0], uuid.UUID):
        return pa.array(listed)
    kind = _arrow_type(sql_type.removesuffix("[]"))
    if sql_type in JSON_TYPES:
        listed = _json_texts(listed, sql_type)
    elif kind is None:
        listed = [_text(value) for value in listed]
    kind = kind or pa.string()
    for _ in range(_axes(listed) if sql_type.endswith("[]") else 0):
        kind = pa.list_(kind)
    try:
        return pa.array(listed, kind)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueRangeError(
            f"a column of {sql_type} has values that Arrow's {kind} does not hold ({error}); read "
            "it by to_list(), or leave it out with columns="
        ) from None


def _axes(arrays: list[Any]) -> int:
    """Returns how many axes arrays of a column have; their SQL type does not say it."""
    most = 1
    for array in arrays:
        axes, first = 0, array
        while isinstance(first, list):
            axes, first = axes + 1, first[0] if first else None
        most = max(most, axes)
    return most


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(each) for each in value]
    return None if value is None else texts.written(value)


def _json_texts(values: Iterable[Any], sql_type: str) -> list[Any]:
    """Returns JSON as its text; of an array of JSON, that of its elements."""
    if sql_type.endswith("[]"):
        return [None if each is None else _json_texts(each, sql_type[:-2]) for each in values]
    return [None if value is None else json.dumps(value) for value in values]


def _arrow_type(sql_type: str) -> pa.DataType | None:
    """Returns the type that holds every value of an SQL type; None where that is text."""
    import pyarrow as pa

    return {
        "boolean": pa.bool_(),
        "smallint": pa.int16(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "real": pa.float32(),
        "double precision": pa.float64(),
        "text": pa.string(),
        "character varying": pa.string(),
        "character": pa.string(),
        "date": pa.date32(),
        "time without time zone": pa.time64("us"),
        "interval": pa.duration("us"),
        "timestamp without time zone": pa.timestamp("us"),
        "timestamp with time zone": pa.timestamp("us", "UTC"),
        "bytea": pa.binary(),
        "oid": pa.int64(),
    }.get(sql_type)
