"""The door: every check of an argument of a public method, once; inside, arguments are trusted.

A check returns what it checked in the one form that is used inside: an int, a tuple, float32. Its
message says what came, what is taken, and the way out. Nothing here asks the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db import _kernels
from mrl_db.door_keys import checked_keys, shown
from mrl_db.model import filters
from mrl_db.model.arrays import column_values, float_array, parted, single_precision
from mrl_db.model.errors import DtypeError, PlanError, ShapeError, ValueRangeError
from mrl_db.model.key import Encoded, encode
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan
from mrl_db.model.precision import MAX_HALFVEC_VALUE, MAX_STORED_DIMS
from mrl_db.model.values import misfit

Choice = TypeVar("Choice", bound=str)

MAX_NAME_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL cuts longer names in silence
MAX_COLLECTION_NAME_BYTES = MAX_NAME_BYTES - len("search_")
MAX_BATCH_ID_BYTES = 200
MOST_PARTS = 65_536
_SQUARES = (1e-30, 1e37)  # well inside float32, in which pgvector sums the squares of cosine
_LENGTH = 4
_FAULTS = {
    1: "a NaN or an infinity; pgvector stores finite numbers only",
    2: "a zero vector, which has no direction; cosine needs one: leave the row out, or use metric "
    "l2 or inner_product",
    3: f"a value beyond {MAX_HALFVEC_VALUE:.0f}, the largest half-precision float of the low-dim "
    "column; scale the vectors down",
    _LENGTH: "its length is {length:.2g}, whose square is beyond what PostgreSQL's distances hold; "
    "scale it, and under another metric than cosine all rows alike",
}


class _Column(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def generated(self) -> bool: ...


class Described(Protocol):
    """What the door has to know of a collection; `CollectionInfo` knows it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def dims(self) -> int: ...  # noqa: D102
    @property
    def metric(self) -> Metric: ...  # noqa: D102
    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def key_type(self) -> str: ...  # noqa: D102
    @property
    def vector(self) -> str: ...  # noqa: D102
    @property
    def vector_type(self) -> str: ...  # noqa: D102
    @property
    def vectors_required(self) -> bool: ...  # noqa: D102
    @property
    def columns(self) -> Mapping[str, _Column]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that passed the door: keys encoded, float32 vectors (n, dims), columns of n values.

    A row without a vector has NaN for it. Where vectors were left out, no row has one, and rows
    that are there already keep theirs.
    """

    keys: Encoded
    vectors: NDArray[np.float32]
    columns: Mapping[str, Sequence[Any]]
    left_out: bool = False

    def __len__(self) -> int:
        return len(self.vectors)


# Counts, choices and names


def checked_count(value: object, what: str, most: int = 2**31 - 1, least: int = 1) -> int:
    """Returns an integer from `least` to `most`; `what` is the argument's name."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueRangeError(f"{what} is {value!r}, wanted an integer of at least {least}")
    if not least <= value <= most:
        raise ValueRangeError(f"{what} is {value}, wanted {least} to {most}")
    return int(value)


def checked_choice(value: Choice, what: str, choices: Sequence[str]) -> Choice:
    """Returns the value when it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        *first, last = map(repr, choices)
        raise ValueRangeError(f"{what} is {value!r}, wanted {', '.join(first)} or {last}")
    return value


def checked_plan(plan: object) -> Plan:
    """Returns the plan when it is one; its laws were checked when it was made."""
    if not isinstance(plan, Plan):
        raise PlanError(f"plan is {plan!r:.60}, wanted a Plan, as graph_plan() makes one")
    return plan


def checked_staleness(value: object) -> float:
    """Returns `max_staleness`, seconds of at least 0."""
    if type(value) is float and value >= 0:  # of every search
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueRangeError(f"max_staleness is {value!r}, wanted seconds of at least 0")
    return float(value)


def checked_part(value: object) -> tuple[int, int]:
    """Returns `part`, (number, of how many), the number from 0."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueRangeError(f"part is {value!r:.60}, wanted (number, parts), such as (0, 4)")
    parts = checked_count(value[1], "part[1]", MOST_PARTS)
    return checked_count(value[0], "part[0]", parts - 1, least=0), parts


def checked_seconds(value: object, what: str) -> float:
    """Returns a time that something may take; `what` is the argument's name."""
    is_number = isinstance(value, (int, float, np.floating, np.integer))
    if isinstance(value, bool) or not is_number or not 0 < value < float("inf"):  # type: ignore[operator]
        raise ValueRangeError(f"{what} is {value!r:.60}, wanted seconds, more than 0")
    return float(value)  # type: ignore[arg-type]


def checked_position(value: object) -> str:
    """Returns a position of `docs.position()`."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", value):
        raise ValueRangeError(f"position is {value!r:.60}, wanted what docs.position() returned")
    return value


def checked_name(name: object, what: str, limit: int = MAX_NAME_BYTES) -> str:
    """Returns the name when PostgreSQL would keep it as it is."""
    if not isinstance(name, str):
        raise ValueRangeError(f"{what} is {name!r}, wanted a string")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueRangeError(f"{what} {name!r} is no valid Unicode") from None
    if "\0" in name:
        raise ValueRangeError(
            f"{what} {name!r} contains a NUL character, at which PostgreSQL would cut it"
        )
    if not 1 <= size <= limit:
        raise ValueRangeError(f"{what} {name[:80]!r} has {size} bytes, wanted 1 to {limit}")
    return name


def checked_collection_name(name: object) -> str:
    """Returns the name when `search_<name>` is one that PostgreSQL would keep."""
    return checked_name(name, "the collection name", MAX_COLLECTION_NAME_BYTES)


def checked_batch_id(batch_id: object) -> str | None:
    """Returns a batch_id that the database can keep, None for none."""
    if batch_id is None:
        return None
    if not isinstance(batch_id, str) or "\0" in batch_id:
        raise ValueRangeError(
            f"batch_id is {batch_id!r:.60}, wanted a string without NUL characters"
        )
    size = len(batch_id.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_BATCH_ID_BYTES or not batch_id.isprintable():
        raise ValueRangeError(
            f"batch_id has {size} bytes, wanted 1 to {MAX_BATCH_ID_BYTES}, all printable"
        )
    return batch_id


def checked_column_names(columns: Sequence[str], info: Described) -> tuple[str, ...]:
    """Returns the names of metadata columns, of one or of several."""
    if not isinstance(columns, Iterable):
        raise ValueRangeError(f"columns is {columns!r:.60}, wanted names; () for none")
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if not isinstance(name, str) or name not in info.columns:
            _no_column(name, info)
    return names


def checked_filter(where: Mapping[str, Any] | filters.Raw | None, info: Described) -> filters.Node:
    """Returns the tree of a filter over the collection's columns; raises FilterError."""
    if where is None:
        return filters.AllOf(())
    types = {name: column.type for name, column in info.columns.items()}
    return filters.parse(where, {info.key: info.key_type, **types, info.vector: filters.VECTOR})


def checked_index(m: int, ef_construction: int) -> None:
    """Checks what pgvector builds an HNSW index with."""
    checked_count(m, "m")
    checked_count(ef_construction, "ef_construction")
    if not 2 <= m <= 100 or not max(4, 2 * m) <= ef_construction <= 1000:
        taken = "pgvector takes 2 to 100, and 2 * m to 1000"
        raise ValueRangeError(f"m is {m} and ef_construction {ef_construction}, {taken}")


# Dims


def checked_dims(dims: object, what: str = "dims") -> int:
    """Returns dims as an int when pgvector can store such vectors."""
    if isinstance(dims, bool) or not isinstance(dims, (int, np.integer)):
        raise ValueRangeError(f"{what} is {dims!r}, wanted an integer")
    if not 1 <= dims <= MAX_STORED_DIMS:
        raise ValueRangeError(f"{what} is {dims}, pgvector stores 1 to {MAX_STORED_DIMS}")
    return int(dims)


def checked_widths(widths: object, what: str = "nesting_dims") -> tuple[int, ...]:
    """Returns widths as integers, at least one; `what` is the argument's name."""
    listed = tuple(widths) if isinstance(widths, Iterable) else None
    if isinstance(widths, (str, bytes)) or not listed:
        came = "empty" if listed == () else f"{widths!r:.60}"
        raise ValueRangeError(f"{what} is {came}, wanted rising widths, as (64, 768)")
    for width in listed:
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ValueRangeError(f"{what} holds {width!r:.60}, wanted integers")
    return tuple(int(width) for width in listed)


def checked_nesting_dims(nesting_dims: Sequence[int], dims: int) -> tuple[int, ...]:
    """Returns the nesting dims as a tuple when they rise and end with the full dims.

    >>> checked_nesting_dims((64, 768), 768)
    (64, 768)
    """
    widths = checked_widths(nesting_dims)
    rising = all(a < b for a, b in pairwise((0, *widths)))
    if not rising or widths[-1] != dims:
        raise ValueRangeError(
            f"nesting_dims is {widths}, wanted rising widths from at least 1 to the "
            f"full {dims} dims"
        )
    return widths


# Vectors


def checked_vectors(
    vectors: ArrayLike,
    info: Described,
    what: str = "vectors",
    numbers: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Returns vectors (n, dims) as contiguous float32 once nothing in them can be wrong.

    Takes whatever `mrl_db.model.arrays.float_array` does; `numbers` are the rows' in messages.

    Raises:
        ShapeError: Axes, width or number of rows.
        DtypeError: No floats.
        ValueRangeError: NaN, infinity, a zero vector under cosine, values beyond half precision.
    """
    array = float_array(vectors, what)
    if array.size == 0 and what == "vectors":
        return np.empty((0, info.dims), dtype=np.float32)
    if array.ndim != 2:
        raise ShapeError(
            f"{what} has {array.ndim} axes (shape {array.shape}), wanted 2: (rows, "
            f"{info.dims} dims)"
        )
    if array.shape[0] == 0:
        raise ShapeError(f"{what} is empty, wanted at least one row of {info.dims} dims")
    if array.shape[1] != info.dims:
        raise ShapeError(
            f'{what} has {array.shape[1]} dims, collection "{info.name}" has {info.dims}; '
            "embed with the same model"
        )
    single = single_precision(array, what)
    cosine = info.metric is Metric.cosine
    halves = info.vector_type == "halfvec" or not cosine
    largest = MAX_HALFVEC_VALUE if halves else float("inf")
    squares = _SQUARES if cosine or what == "vectors" else ()
    row, fault = _first_bad_row(single, cosine, largest, *squares)
    if fault:
        length = float(np.linalg.norm(single[row].astype(np.float64)))
        number = row if numbers is None else numbers[row]
        raise ValueRangeError(f"{what}, row {number}: {_FAULTS[fault].format(length=length)}")
    return single


def _first_bad_row(
    rows: NDArray[np.float32], zero_forbidden: bool, largest: float, *squares: float
) -> tuple[int, int]:
    """Returns the kernels' answer; a zero vector, where it may be, is not too short."""
    begin = 0
    while True:
        row, fault = _kernels.first_bad_row(rows[begin:], zero_forbidden, largest, *squares)
        begin += row
        if fault != _LENGTH or rows[begin].any():
            return begin, fault
        begin += 1


def checked_queries(query: ArrayLike, info: Described) -> tuple[NDArray[np.float32], bool]:
    """Returns queries (n, dims), and whether it was one query alone, given as (dims,)."""
    array = float_array(query, "query")
    if array.ndim not in (1, 2):
        raise ShapeError(
            f"query has {array.ndim} axes (shape {array.shape}), wanted ({info.dims},) or "
            f"(n, {info.dims})"
        )
    return checked_vectors(np.atleast_2d(array), info, "query"), array.ndim == 1


# Columns and whole rows


def checked_columns(
    columns: Mapping[str, Any], info: Described, count: int
) -> dict[str, Sequence[Any]]:
    """Returns metadata columns as sequences of `count` Python values, in the order given."""
    checked: dict[str, Sequence[Any]] = {}
    for name, values in columns.items():
        column = info.columns.get(name) or _no_column(name, info)
        if column.generated:
            raise ValueRangeError(f"column {name!r} is computed by the server; leave it out")
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
            raise ShapeError(
                f"column {name!r} is a {type(values).__name__}, wanted a list or an array of "
                f"{count} values"
            )
        if len(values) != count:
            raise ShapeError(
                f"column {name!r} has {len(values)} values for {count} rows, wanted one each"
            )
        plain = column_values(values, column.type)
        for row, value in enumerate(plain):
            wanted = None if value is None else misfit(value, column.type)
            if wanted is not None:
                raise DtypeError(
                    f"column {name!r} is {column.type}, row {row} has {shown(value)}; "
                    f"wanted {wanted}, or None for NULL"
                )
        checked[name] = plain
    return checked


def checked_rows(ids: Any, vectors: Any, columns: Mapping[str, Any], info: Described) -> Batch:
    """Returns the rows once they passed every check that needs no database.

    Args:
        ids: Keys.
        vectors: (n, dims), with None for a row that has none; None: they are left out.
        columns: Metadata.
        info: The collection.
    """
    if vectors is None:
        keys = checked_keys(ids, info.key_type)
        single = np.full((len(keys), info.dims), np.nan, np.float32)
    else:
        single = _vectors_or_nan(vectors, info)
        keys = checked_keys(ids, info.key_type, len(single))
    further = checked_columns(columns, info, len(keys))
    return Batch(encode(keys, info.key_type), single, further, left_out=vectors is None)


def _vectors_or_nan(vectors: Any, info: Described) -> NDArray[np.float32]:
    some = parted(vectors)
    if some is None:
        return checked_vectors(vectors, info)
    if info.vectors_required:
        raise ValueRangeError(
            f"vectors, row {int(np.argmin(some.present))} is None, and rows of collection "
            f'"{info.name}" have vectors; create_collection(vectors_required=False) makes one '
            f"whose rows need none, ALTER COLUMN {info.vector} DROP NOT NULL makes this one so"
        )
    every = np.full((len(some), info.dims), np.nan, np.float32)
    numbers = np.flatnonzero(some.present).tolist()
    every[some.present] = checked_vectors(some.vectors, info, numbers=numbers)
    return every


def _no_column(name: object, info: Described) -> NoReturn:
    there = ", ".join(info.columns) or "none"
    raise ValueRangeError(f'collection "{info.name}" has no column {name!r}; there are: {there}')
