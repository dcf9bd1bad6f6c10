"""Arrays and lists out of what people hold.

NumPy, nested lists, tensors, pgvector's vectors, columns of frames. Everything is recognised by
what it can do, so nothing of those libraries is imported.
"""

from __future__ import annotations

import datetime
import io
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import DtypeError, ShapeError, ValueRangeError
from mrl_db.model.texts import read, reads
from mrl_db.model.values import is_missing, plain_array, plain_value

_INTEGERS = ("smallint", "integer", "bigint")
_FLOATS = ("real", "double precision")
_EXACT = 2.0**53  # below, a float64 stands for one integer


@dataclass(frozen=True, slots=True)
class Parted:
    """The vectors of some of n rows; the others have none.

    Attributes:
        present: (n,), where a row has one.
        vectors: Theirs, in order.
    """

    present: NDArray[np.bool_]
    vectors: Any

    def __len__(self) -> int:
        return len(self.present)


def parted(values: Any) -> Parted | None:
    """Returns vectors without those that are None; None where all rows have one.

    Lists, arrays of objects and columns of frames have such.
    """
    if isinstance(values, Parted):
        return values
    if isinstance(values, memoryview):
        return None
    if hasattr(values, "isna") and values.ndim == 1:
        missing, values = values.isna().tolist(), values.tolist()
    else:
        nulls = getattr(values, "null_count", 0)  # of polars, and of Arrow
        nulls = nulls() if callable(nulls) else nulls
        if isinstance(nulls, int) and nulls:
            values = values.to_list() if hasattr(values, "to_list") else values.to_pylist()
        if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, (str, bytes)):
            return None
        if isinstance(values, np.ndarray) and (values.dtype != object or values.ndim != 1):
            return None
        missing = [value is None for value in values]
    if not any(missing):
        return None
    pairs = zip(values, missing, strict=True)
    return Parted(~np.array(missing), [value for value, gone in pairs if not gone])


def float_array(values: Any, what: str) -> NDArray[Any]:
    """Returns vectors as an array of float16, float32 or float64.

    Takes arrays, tensors of any device, pgvector's `Vector` and `HalfVector`, columns of frames
    whose values are vectors, and sequences of any of these or of numbers. Python's integers count
    as numbers; arrays of integers are refused, as most are codes whose scale is lost.

    Args:
        values: Of any number of axes.
        what: The argument's name.

    Raises:
        ShapeError: Rows differ in length.
        DtypeError: No floats.
    """
    check_unmasked(values, what)
    try:
        array = _array(values)
    except (ValueError, TypeError, RuntimeError) as error:
        if not isinstance(values, (Sequence, np.ndarray)):
            kind = f"{type(values).__module__}.{type(values).__name__}"
            raise DtypeError(
                f"{what} is a {kind} that gives no array ({error}); convert it to NumPy's float32"
            ) from None
        raise ShapeError(
            f"{what} is ragged: its rows differ in length; wanted one width for all"
        ) from None
    if array.size == 0 and array.dtype == np.float64:  # of an empty list
        return array
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DtypeError(
            f"{what} is {array.dtype}, wanted float32 (float16, float64 and Python's integers are "
            "converted); use .astype(numpy.float32)"
        )
    return array


def check_unmasked(values: Any, what: str) -> None:
    """Raises ValueRangeError where a masked array of NumPy's hides values, alone or in a list."""
    rows = values if isinstance(values, (list, tuple)) else ()
    several = rows if rows and isinstance(rows[0], np.ndarray) else [values]
    for row, each in enumerate(several):
        if isinstance(each, np.ma.MaskedArray) and np.ma.getmaskarray(each).any():
            first = np.argwhere(np.ma.getmaskarray(each))[0].tolist()
            position = "".join(f"[{place}]" for place in ([row] if rows else []) + first)
            raise ValueRangeError(
                f"{what}{position} is masked, so nothing is there; leave such rows out, or fill "
                "them: .filled(…)"
            )


def single_precision(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Returns it in the machine's order; a finite float64 must not become infinite."""
    if array.dtype.itemsize == 8:
        beyond = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
        if beyond.any():
            row = int(np.argwhere(beyond)[0][0])
            raise ValueRangeError(
                f"{what}, row {row}: a float64 beyond 3.4e38, the largest float32; "
                "scale the vectors down"
            )
    return np.ascontiguousarray(array, dtype=np.float32)


def listed(values: Any) -> Any:
    """Returns ids out of a column of a frame, an Arrow array or a tensor; others as they are."""
    if isinstance(values, (np.ndarray, Sequence)):
        return values
    return _array(values) if _is_column(values) else values


def first_missing(values: Any) -> int | None:
    """Returns where the first value of a frame's column is missing; None: nowhere, or no column."""
    test = getattr(values, "isna", None) or getattr(values, "is_null", None)  # polars, Arrow
    if test is None:
        return None
    missing = np.flatnonzero(np.asarray(test()))
    return int(missing[0]) if len(missing) else None


def arrays_of_file(data: bytes, what: str, *names: str) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an .npz file that `to_bytes` of ours wrote.

    Args:
        data: The file.
        what: It should be, for the message.
        names: Arrays that it must have.

    Raises:
        ValueRangeError: It is none.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile):
        arrays = {}
    if not arrays or any(name not in arrays for name in names):
        raise ValueRangeError(f"this is no {what} of ours: {len(data)} bytes without its arrays")
    return arrays


def column_values(values: Any, sql_type: str) -> list[Any]:
    """Returns the values of a metadata column as Python's.

    In a column of a pandas frame NaN, NaT and NA stand for NULL, and whole floats for the integers
    that they were before NULLs came. Arrays may be tuples, and NumPy's; addresses, ranges, times
    and intervals their text.
    """
    plain = _plain_values(values, sql_type)
    if sql_type.endswith("[]"):
        plain = [plain_array(value) for value in plain]
    return [read(value, sql_type) for value in plain] if reads(sql_type) else plain


def _plain_values(values: Any, sql_type: str) -> list[Any]:
    if hasattr(values, "isna"):
        return unmarked(values.tolist(), sql_type, missing=values.isna().tolist())
    for name in ("tolist", "to_pylist", "to_list"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    return [None if is_missing(value) else plain_value(value) for value in values]


def unmarked(values: list[Any], sql_type: str, missing: list[bool] | None = None) -> list[Any]:
    """Returns values of a frame with None where one is missing, as a column takes them.

    Args:
        values: Of one column.
        sql_type: Of the column; where it holds floats, a NaN is a number unless `missing` says so.
        missing: Where a value is missing, if the frame knows.
    """
    if missing is None:
        missing = [_is_mark(value, sql_type) for value in values]
    return [
        None if gone else fitted(value, sql_type)
        for value, gone in zip(values, missing, strict=True)
    ]


def fitted(value: Any, sql_type: str) -> Any:
    """Returns a value of a frame as the column takes it, where that loses nothing.

    Frames have no integers with NULLs, no dates, no uuids or no exact numbers, one or the other;
    what cannot be meant comes back as it is.

    >>> fitted(2020.0, "integer"), fitted(2020.5, "integer")
    (2020, 2020.5)
    """
    if sql_type.endswith("[]") and isinstance(value, (list, np.ndarray)):
        return [fitted(each, sql_type[:-2]) for each in value]
    if sql_type in _INTEGERS and isinstance(value, float):
        exact = value.is_integer() and abs(value) < _EXACT  # else it may have been another one
        return int(value) if exact else value
    if sql_type == "date" and isinstance(value, datetime.datetime):
        midnight = datetime.datetime.combine(value.date(), datetime.time())
        return value.date() if value == midnight else value
    if isinstance(value, str) and sql_type in ("uuid", "numeric"):
        try:
            return uuid.UUID(value) if sql_type == "uuid" else Decimal(value)
        except (ValueError, ArithmeticError):
            return value
    return value


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, memoryview):
        values = np.asarray(values)
    if isinstance(values, np.ndarray):
        return _stacked(list(values)) if _holds_vectors(values) else values
    if hasattr(values, "detach"):  # a tensor: of any device, with gradients or without
        tensor = values.detach().cpu()
        return np.asarray(tensor.float() if "bfloat16" in str(tensor.dtype) else tensor)
    if hasattr(values, "to_numpy"):
        return _array(_to_numpy(values))
    if isinstance(values, Sequence) and len(values) and _is_column(values[0]):
        return _stacked(values)
    array = np.asarray(values)
    return array.astype(np.float64) if array.dtype.kind == "i" and _of_python(values) else array


def _stacked(rows: Sequence[Any]) -> NDArray[Any]:
    return np.stack([_array(row) for row in rows])


def _to_numpy(values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values.to_numpy(zero_copy_only=False))  # an array of Arrow
    except TypeError:
        return np.asarray(values.to_numpy())


def _holds_vectors(array: NDArray[Any]) -> bool:
    """Whether it is a column of vectors, as a frame has it: objects that are no numbers."""
    if array.dtype != object or array.ndim != 1 or len(array) == 0:
        return False
    first = array[0]
    return _is_column(first) or isinstance(first, (np.ndarray, list, tuple))


def _of_python(values: Any) -> bool:
    """Whether integers are Python's own, not an array's; the first one speaks for all."""
    while isinstance(values, (list, tuple)) and len(values):
        values = values[0]
    return type(values) is int


def _is_column(values: Any) -> bool:
    return hasattr(values, "to_numpy") or hasattr(values, "detach")


def _is_mark(value: Any, sql_type: str) -> bool:
    if is_missing(value):
        return True
    return isinstance(value, float) and value != value and sql_type not in _FLOATS
