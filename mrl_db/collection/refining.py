"""What a search may ask for beyond the k nearest rows: vectors, a limit, groups, rows like one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db import door
from mrl_db.collection.opened import Opened
from mrl_db.hits import Hits, StageTrace, Trace, joined
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.key import id_array
from mrl_db.model.values import knows
from mrl_db.postgres import rows
from mrl_db.postgres.groups import nearest_groups
from mrl_db.postgres.request import Request

Run = Callable[[Request, int], Hits]
"""Searches for so many rows by the engine and the plan of the call; (n, k)."""

_WIDER = (4, 32)  # times k rows that are looked at for k groups, before all rows are
_NAN = object()  # equal to itself, as PostgreSQL's NaN is


@dataclass(frozen=True, slots=True)
class Further:
    """What is asked for, checked.

    Attributes:
        vectors: Whether the hits bring their vectors.
        max_distance: Hits that are farther are left out; None: no limit.
        group_by: The column of whose values each gives its nearest row only; None: no groups.
        own: For each query the key of the row that it is, which is left out; None: no rows.
    """

    vectors: bool
    max_distance: float | None
    group_by: str | None
    own: Sequence[Any] | None


def checked(
    opened: Opened,
    vectors: bool,
    max_distance: float | None,
    group_by: str | None,
    own: Sequence[Any] | None,
) -> Further:
    """Returns what is asked for; raises ValueRangeError."""
    if group_by is not None:
        (group_by,) = opened.checked(partial(door.checked_column_names, group_by))
        sql_type = opened.info.columns[group_by].type
        if not knows(sql_type):
            raise ValueRangeError(
                f"group_by is {group_by!r}, a column of {sql_type}; wanted one of numbers, text, "
                "dates, uuids or booleans"
            )
    return Further(
        bool(vectors),
        None if max_distance is None else checked_distance(max_distance),
        group_by,
        own,
    )


def checked_distance(value: object) -> float:
    """Returns `max_distance` as a float."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    if isinstance(value, bool) or not number or value != value:
        raise ValueRangeError(f"max_distance is {value!r}, wanted a number, as distances are")
    return float(value)  # type: ignore[arg-type]


def vectors_of(opened: Opened, keys: list[Any]) -> NDArray[np.float32]:
    """Returns the vectors of rows as they are stored; raises ValueRangeError where one is not."""
    present, vectors, _ = rows.get(opened.session, opened.info, keys, ())
    missing = [key for key in keys if key not in set(present)]
    if missing:
        raise ValueRangeError(
            f'collection "{opened.info.name}" has no row {missing[0]!r} with a vector, like which '
            "others could be"
        )
    return vectors


def search(
    opened: Opened,
    request: Request,
    queries: NDArray[np.float32],
    k: int,
    run: Run,
    further: Further,
    *,
    exact: bool,
) -> Hits:
    """Returns the hits of each query, (n, k); fewer, and padded, where fewer rows are meant.

    Args:
        opened: The collection.
        request: The filter and the columns.
        queries: (n, dims), as they are compared with what is stored.
        k: Answers.
        run: How the call searches.
        further: What it asks for.
        exact: Whether `run` is exact however many rows it is asked for.
    """
    group, vector = further.group_by, opened.info.vector
    names = [*request.columns, *([group] if group else []), *([vector] if further.vectors else [])]
    request = replace(request, columns=tuple(dict.fromkeys(names)))
    if group is None:
        hits = run(request, k + (further.own is not None))
        if further.own is not None:
            hits = hits.chosen(_others(hits, further.own), k)
    else:
        hits = _groups(opened, request, queries, k, run, further, group, exact=exact)
    if further.max_distance is not None:
        hits = hits.chosen(hits.distances <= further.max_distance, k)
    if further.vectors:
        hits.take_vectors(vector, opened.info.dims)
    return hits


def _groups(
    opened: Opened,
    request: Request,
    queries: NDArray[np.float32],
    k: int,
    run: Run,
    further: Further,
    group: str,
    *,
    exact: bool,
) -> Hits:
    """Returns the nearest row of each of the k nearest groups.

    The first row of a group in the order of distances is its nearest. So the list of the nearest
    rows is made longer until it holds k groups, or all rows; or all rows are grouped by PostgreSQL.
    """
    widths = [factor * k for factor in _WIDER] if not exact else [4 * k * 8**n for n in range(11)]
    own = further.own or [None] * len(queries)
    for width in widths:
        asked = min(width + 1, 2**31 - 1)
        hits = run(request, asked)
        mask = _firsts(hits.columns[group], _others(hits, own))
        complete = hits.ids.shape[1] < asked
        short = [
            row
            for row, groups in enumerate(mask.sum(axis=1))
            if groups < k and not complete and not _beyond(hits.distances[row], further)
        ]
        if not short:
            return hits.chosen(mask, k)
    grouped = hits.chosen(mask, k)
    parts = [grouped[row] for row in range(len(queries))]
    for row in short:
        parts[row] = _by_all_rows(opened, request, queries[row], k, group, own[row])
    return joined(parts)


def _by_all_rows(
    opened: Opened, request: Request, query: NDArray[np.float32], k: int, group: str, own: Any
) -> Hits:
    best = nearest_groups(opened.session, request, query, group, k, own)
    ids = id_array([key for key, _ in best], opened.info.key_type)
    stage = StageTrace(f"exact, the nearest of each {group}", None, len(best), 4 * len(query))
    return Hits(
        ids,
        np.array([distance for _, distance in best], dtype=np.float64),
        Trace("sql", 0.0, (stage,)),
        rows.columns_of(opened.session, request, ids),
        certified=True,
    )


def _others(hits: Hits, own: Sequence[Any]) -> NDArray[np.bool_]:
    """Where hits are not the row that the query is."""
    keys = np.empty((len(own), 1), dtype=object)
    keys[:, 0] = own
    return np.asarray(hits.ids.astype(object) != keys, dtype=bool)


def _firsts(groups: NDArray[np.object_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where hits are the first of their group, of those where a mask holds."""
    first: NDArray[np.bool_] = mask.copy()
    for row, values in enumerate(groups):
        seen = set()
        for rank, value in enumerate(values):
            if mask[row, rank]:
                name = value if value == value else _NAN
                first[row, rank] = name not in seen
                seen.add(name)
    return first


def _beyond(distances: NDArray[np.float64], further: Further) -> bool:
    """Whether a list reaches as far as hits may be."""
    return further.max_distance is not None and bool(distances[-1] > further.max_distance)
