"""What a search may ask for beyond the k nearest rows: a limit, groups, variety, a later page."""

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
from mrl_db.model.diversity import marginal_order
from mrl_db.model.errors import ValueRangeError
from mrl_db.model.key import id_array
from mrl_db.model.values import has_text_form, knows
from mrl_db.postgres import rows
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.groups import nearest_groups
from mrl_db.postgres.request import Request

Run = Callable[[Request, int], Hits]
"""Searches for so many rows by the engine and the plan of the call; (n, k)."""

_WIDER = (4, 32)  # times k rows that are looked at for k groups, before all rows are
_CANDIDATES, _FEWEST = 4, 20  # times k, and hits at least, of which `mmr` chooses
_NAN = object()  # equal to itself, as PostgreSQL's NaN is


@dataclass(frozen=True, slots=True)
class Further:
    """What is asked for, checked.

    Attributes:
        vectors: Whether the hits bring their vectors.
        max_distance: Hits that are farther are left out; None: no limit.
        group_by: The column of whose values each gives its nearest row only; None: no groups.
        own: For each query the key of the row that it is, which is left out; None: no rows.
        mmr: The weight of nearness beside variety (`mrl_db.model.diversity`); None: nearness only.
        candidates: Of how many hits `mmr` chooses.
        offset: Hits that are left out before the first.
    """

    vectors: bool
    max_distance: float | None
    group_by: str | None
    own: Sequence[Any] | None
    mmr: float | None = None
    candidates: int = 0
    offset: int = 0


def checked(
    opened: Opened,
    k: int,
    vectors: bool,
    max_distance: float | None,
    group_by: str | None,
    own: Sequence[Any] | None,
    mmr: float | None,
    candidates: int | None,
    offset: int,
) -> Further:
    """Returns what is asked for; raises ValueRangeError."""
    door.checked_count(k + offset + (own is not None), "k + offset")
    if mmr is None and candidates is not None:
        raise ValueRangeError("candidates= is how many hits mmr= chooses from; give both")
    if mmr is not None:
        _check_variety(mmr, offset)
        candidates = max(_CANDIDATES * k, _FEWEST) if candidates is None else candidates
        if door.checked_count(candidates, "candidates") < k:
            raise ValueRangeError(f"candidates is {candidates}, wanted at least k, {k}")
    if group_by is not None:
        names = opened.checked(partial(door.checked_column_names, group_by))
        if len(names) != 1:
            raise ValueRangeError(f"group_by is {group_by!r:.60}, wanted the name of one column")
        (group_by,) = names
        sql_type = opened.info.columns[group_by].type
        if not knows(sql_type) or has_text_form(sql_type):
            raise ValueRangeError(
                f"group_by is {group_by!r}, a column of {sql_type}; wanted one of numbers, text, "
                "dates, uuids or booleans"
            )
    return Further(
        bool(vectors),
        None if max_distance is None else checked_distance(max_distance),
        group_by,
        own,
        None if mmr is None else float(mmr),
        candidates or 0,
        offset,
    )


def checked_offset(value: object) -> int:
    """Returns `offset`, 0 or more."""
    return door.checked_count(value, "offset", least=0)


def _check_variety(mmr: object, offset: int) -> None:
    number = isinstance(mmr, (int, float, np.floating)) and not isinstance(mmr, bool)
    if not number or not 0 <= mmr <= 1:  # type: ignore[operator]
        raise ValueRangeError(f"mmr is {mmr!r}, wanted 0 (variety) to 1 (nearness)")
    if offset:
        raise ValueRangeError(
            "mmr= and offset= were both given; a page of mmr= depends on those before: ask for k "
            "of all pages"
        )


def checked_distance(value: object) -> float:
    """Returns `max_distance` as a float."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    if isinstance(value, bool) or not number or value != value:
        raise ValueRangeError(f"max_distance is {value!r}, wanted a number, as distances are")
    return float(value)  # type: ignore[arg-type]


def vectors_of(opened: Opened, keys: list[Any]) -> NDArray[np.float32]:
    """Returns the vectors of rows as they are stored; raises ValueRangeError where one is not."""
    present, vectors = opened.vectors(keys)
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
    with_vectors = further.vectors or further.mmr is not None
    names = [*request.columns, *([group] if group else []), *([vector] if with_vectors else [])]
    last = k + further.offset if further.mmr is None else further.candidates
    request = replace(request, columns=tuple(dict.fromkeys(names)))
    if group is None:
        hits = run(request, last + (further.own is not None))
        if further.own is not None:
            hits = hits.chosen(_others(hits, further.own), last)
    else:
        hits = _groups(opened, request, queries, last, run, further, group, exact=exact)
    if further.max_distance is not None:
        hits = hits.chosen(hits.distances <= further.max_distance, last)
    if further.mmr is not None:
        hits = _varied(hits, opened.info, queries, k, further.mmr)
    elif further.offset:
        hits = hits.reordered([slice(further.offset, None)] * len(queries))
    if with_vectors:
        hits.take_vectors(vector, opened.info.dims)
        hits.vectors = hits.vectors if further.vectors else None
    return hits


def _varied(
    hits: Hits, info: CollectionInfo, queries: NDArray[np.float32], k: int, weight: float
) -> Hits:
    """Returns k of the hits of each query, near it and unlike each other."""
    orders = []
    for row, query in enumerate(queries):
        listed = hits[row].columns[info.vector].tolist()
        there = [number for number, vector in enumerate(listed) if vector is not None]
        vectors = rows.stacked([listed[number] for number in there], info.dims)
        order = marginal_order(info.metric, query, vectors, weight, k)
        orders.append(np.array(there, dtype=np.int64)[order])
    return hits.reordered(orders)


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
