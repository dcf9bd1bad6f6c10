"""The door: every check of an argument of a public method, once; inside, arguments are trusted.

A check returns what it checked in the one form that is used inside: an int, a tuple, float32. Its
message says what came, what is taken, and the way out. Nothing here asks the database.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrl_db import _kernels
from mrl_db.model import filters
from mrl_db.model.arrays import column_values, float_array, listed, single_precision
from mrl_db.model.errors import DtypeError, DuplicateKeyError, ShapeError, ValueRangeError
from mrl_db.model.key import KEY_TYPES, Encoded, encode
from mrl_db.model.metric import Metric
from mrl_db.model.precision import MAX_HALFVEC_VALUE, MAX_STORED_DIMS
from mrl_db.model.values import misfit

Choice = TypeVar("Choice", bound=str)

MAX_NAME_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL cuts longer names in silence
MAX_COLLECTION_NAME_BYTES = MAX_NAME_BYTES - len("search_")
MAX_BATCH_ID_BYTES = 200
_SQUARES = (1e-30, 1e37)  # well inside float32, in which pgvector sums the squares of cosine
_FAULTS = {
    1: "a NaN or an infinity; pgvector stores finite numbers only",
    2: "a zero vector, which has no direction; cosine needs one: leave the row out, or use metric "
    "l2 or inner_product",
    3: f"a value beyond {MAX_HALFVEC_VALUE:.0f}, the largest half-precision float of the low-dim "
    "column; scale the vectors down",
    4: "its length is {length:.2g}, whose square is beyond what PostgreSQL's distances hold; under "
    "cosine only the direction counts: scale it",
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
    def vector_type(self) -> str: ...  # noqa: D102
    @property
    def columns(self) -> Mapping[str, _Column]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that passed the door: keys encoded, float32 vectors (n, dims), columns of n values."""

    keys: Encoded
    vectors: NDArray[np.float32]
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.vectors)


# Counts, choices and names


def checked_count(value: object, what: str, most: int = 2**31 - 1) -> int:
    """Returns an integer from 1 to `most`; `what` is the argument's name."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueRangeError(f"{what} is {value!r}, wanted an integer of at least 1")
    if not 1 <= value <= most:
        raise ValueRangeError(f"{what} is {value}, wanted 1 to {most}")
    return int(value)


def checked_choice(value: Choice, what: str, choices: Sequence[str]) -> Choice:
    """Returns the value when it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        *first, last = map(repr, choices)
        raise ValueRangeError(f"{what} is {value!r}, wanted {', '.join(first)} or {last}")
    return value


def checked_staleness(value: object) -> float:
    """Returns `max_staleness`, seconds of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueRangeError(f"max_staleness is {value!r}, wanted seconds of at least 0")
    return float(value)


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
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    for name in names:
        if name not in info.columns:
            _no_column(name, info)
    return names


def checked_filter(where: Mapping[str, Any] | None, info: Described) -> filters.Node:
    """Returns the tree of a filter over the collection's columns; raises FilterError."""
    if where is None:
        return filters.AllOf(())
    types = {name: column.type for name, column in info.columns.items()}
    return filters.parse(where, {info.key: info.key_type, **types})


def checked_index(m: int, ef_construction: int) -> None:
    """Checks what pgvector builds an HNSW index with."""
    if not 2 <= m <= 100 or not max(4, 2 * m) <= ef_construction <= 1000:
        taken = "pgvector takes 2 to 100, and 2 * m to 1000"
        raise ValueRangeError(f"m is {m} and ef_construction {ef_construction}, {taken}")


# Dims


def checked_dims(dims: object) -> int:
    """Returns dims as an int when pgvector can store such vectors."""
    if isinstance(dims, bool) or not isinstance(dims, (int, np.integer)):
        raise ValueRangeError(f"dims is {dims!r}, wanted an integer")
    if not 1 <= dims <= MAX_STORED_DIMS:
        raise ValueRangeError(f"dims is {dims}, pgvector stores 1 to {MAX_STORED_DIMS}")
    return int(dims)


def checked_nesting_dims(nesting_dims: Sequence[int], dims: int) -> tuple[int, ...]:
    """Returns the nesting dims as a tuple when they rise and end with the full dims.

    >>> checked_nesting_dims((64, 768), 768)
    (64, 768)
    """
    for width in nesting_dims:
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)):
            raise ValueRangeError(f"nesting_dims holds {width!r}, wanted integers")
    widths = tuple(int(width) for width in nesting_dims)
    rising = all(a < b for a, b in pairwise((0, *widths)))
    if not widths or not rising or widths[-1] != dims:
        raise ValueRangeError(
            f"nesting_dims is {tuple(nesting_dims)}, wanted rising widths from at least 1 to the "
            f"full {dims} dims"
        )
    return widths


# Vectors


def checked_vectors(
    vectors: ArrayLike, info: Described, what: str = "vectors"
) -> NDArray[np.float32]:
    """Returns vectors (n, dims) as contiguous float32 once nothing in them can be wrong.

    Takes whatever `mrl_db.model.arrays.float_array` does.

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
    row, fault = _kernels.first_bad_row(
        single,
        cosine,
        MAX_HALFVEC_VALUE if halves else float("inf"),
        *(_SQUARES if cosine else ()),
    )
    if fault:
        length = float(np.linalg.norm(single[row].astype(np.float64)))
        raise ValueRangeError(f"{what}, row {row}: {_FAULTS[fault].format(length=length)}")
    return single


def checked_queries(query: ArrayLike, info: Described) -> tuple[NDArray[np.float32], bool]:
    """Returns queries (n, dims), and whether it was one query alone, given as (dims,)."""
    array = float_array(query, "query")
    if array.ndim not in (1, 2):
        raise ShapeError(
            f"query has {array.ndim} axes (shape {array.shape}), wanted ({info.dims},) or "
            f"(n, {info.dims})"
        )
    return checked_vectors(np.atleast_2d(array), info, "query"), array.ndim == 1


# Keys, columns and whole rows


def checked_keys(ids: Any, key_type: str, count: int | None = None) -> list[Any]:
    """Returns keys as Python values of the key's type, all different; `count` of them if given."""
    ids = listed(ids)
    several = isinstance(ids, (Sequence, np.ndarray)) and not isinstance(ids, (str, bytes))
    if not several or getattr(ids, "ndim", 1) != 1:
        shape = f" of shape {ids.shape}" if hasattr(ids, "shape") else ""
        raise ShapeError(
            f"ids is {type(ids).__name__}{shape}, wanted a list or an array of one axis"
        )
    if count is not None and len(ids) != count:
        empty = "vectors is empty: " if count == 0 else "ids is empty: " if len(ids) == 0 else ""
        raise ShapeError(f"{empty}there are {len(ids)} ids for {count} vectors, wanted one each")
    if len(ids) == 0:
        return []
    kind = KEY_TYPES[key_type]
    values: list[Any]
    if kind.dtype is not None:
        values = _integer_keys(ids, key_type, kind.dtype)
    elif kind.size is not None:
        values = _instances(ids, uuid.UUID, "uuid", "convert it with uuid.UUID(…)")
    else:
        values = _text_keys(ids)
    if len(set(values)) != len(values):
        seen: set[Any] = set()
        twice = next(value for value in values if value in seen or seen.add(value))  # type: ignore[func-returns-value]
        raise DuplicateKeyError(
            f"id {twice!r} stands twice in one call; each row needs an id of its own"
        )
    return values


def checked_keys_or_key(ids: Any, key_type: str) -> list[Any]:
    """Returns keys where one alone may be given as it is."""
    several = [ids] if is_alone(ids) else listed(ids)
    is_listed = isinstance(several, (Sequence, np.ndarray))
    return checked_keys(several if is_listed else list(several), key_type)


def is_alone(value: Any) -> bool:
    """Whether it is one value, not several of them."""
    return isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Iterable, np.ndarray))


def _instances(ids: Sequence[Any], kind: type, key_type: str, way_out: str) -> list[Any]:
    for position, value in enumerate(ids):
        if not isinstance(value, kind):
            raise DtypeError(
                f"ids[{position}] is {_shown(value)}, the key is {key_type}; {way_out}"
            )
    return list(ids)


def _integer_keys(
    ids: Sequence[Any] | NDArray[Any], key_type: str, dtype: type[np.signedinteger[Any]]
) -> list[int]:
    integers = isinstance(ids, np.ndarray) and ids.dtype.kind in "iu"
    for position, value in enumerate(() if integers else ids):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise DtypeError(
                f"ids[{position}] is {_shown(value)}, the key is {key_type}; give integers"
            )
    values = ids.tolist() if isinstance(ids, np.ndarray) else [int(value) for value in ids]
    limit, smallest, largest = np.iinfo(dtype), min(values), max(values)
    if smallest < limit.min or largest > limit.max:
        raise ValueRangeError(
            f"ids reach from {smallest} to {largest}, {key_type} holds {limit.min} to {limit.max}"
        )
    return values


def _text_keys(ids: Sequence[Any]) -> list[str]:
    values = [str(value) for value in _instances(ids, str, "text", "convert it with str(…)")]
    for position, value in enumerate(values):
        if "\0" in value:
            raise ValueRangeError(
                f"ids[{position}] contains a NUL character, which PostgreSQL cannot hold"
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueRangeError(f"ids[{position}] is no valid Unicode") from None
    return values


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
                    f"column {name!r} is {column.type}, row {row} has {_shown(value)}; "
                    f"wanted {wanted}, or None for NULL"
                )
        checked[name] = plain
    return checked


def checked_rows(
    ids: Any, vectors: ArrayLike, columns: Mapping[str, Any], info: Described
) -> Batch:
    """Returns the rows once they passed every check that needs no database."""
    single = checked_vectors(vectors, info)
    keys = checked_keys(ids, info.key_type, len(single))
    return Batch(encode(keys, info.key_type), single, checked_columns(columns, info, len(single)))


def _no_column(name: str, info: Described) -> NoReturn:
    there = ", ".join(info.columns) or "none"
    raise ValueRangeError(f'collection "{info.name}" has no column {name!r}; there are: {there}')


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"
