"""Several parts' answers as one: by distance, then key, and exact by a check.

Each part gives its nearest rows, the nearest first. The k nearest of all are among the k nearest of
each part, and mostly among far fewer: of k answers a part of n holds about k / n, as keys fall into
parts by chance. So for a large k each part is asked for fewer at first (`first_ask`). What it then
held back can belong to the answer only where its last row comes before the k-th of the merged ones;
there, and only there, it is asked again, for k (`unsure`). After that nothing can be missing: no
part adds more than k rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORTH = 50  # answers from which on it pays to ask each part for fewer
_DEVIATIONS = 3.0  # of the binomial distribution, beyond its mean: one part in 700 is asked again


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part answered to n queries.

    Attributes:
        ids: (n, w).
        distances: (n, w) float64, rising; NaN comes last.
        columns: (n, w) objects each.
        counts: How many rows each query has, (n,); what is beyond them is padding.
    """

    ids: NDArray[np.generic]
    distances: NDArray[np.float64]
    columns: Mapping[str, NDArray[np.object_]]
    counts: NDArray[np.int64]

    @staticmethod
    def whole(
        ids: NDArray[np.generic],
        distances: NDArray[np.float64],
        columns: Mapping[str, NDArray[np.object_]],
    ) -> Answer:
        """Returns an answer of equally many rows for each query."""
        n, width = ids.shape
        return Answer(ids, distances, columns, np.full(n, width, dtype=np.int64))

    def without(self, keys: Sequence[Any], k: int) -> Answer:
        """Returns the k best of each query without one key, (n,) of them; all where it is missing.

        Args:
            keys: Of the rows that are left out.
            k: Rows, one fewer than the part was asked for.
        """
        n, width = self.ids.shape
        own = self.ids == np.array(keys, dtype=self.ids.dtype)[:, np.newaxis]
        own &= np.arange(width) < self.counts[:, np.newaxis]
        order = np.argsort(own, axis=1, kind="stable")[:, :k]  # what is left out comes last
        rows = np.arange(n)[:, np.newaxis]
        return Answer(
            self.ids[rows, order],
            self.distances[rows, order],
            {name: values[rows, order] for name, values in self.columns.items()},
            np.minimum(self.counts - own.sum(axis=1), k),
        )

    def replaced(self, queries: NDArray[np.bool_], newer: Answer) -> Answer:
        """Returns the answer with that of some queries, (n,), taken from a newer one."""
        (n, width), (_, newer_width) = self.ids.shape, newer.ids.shape
        shape = n, max(width, newer_width)

        def put(
            old: NDArray[np.generic], new: NDArray[np.generic], padding: object
        ) -> NDArray[np.generic]:
            array = np.full(shape, padding, dtype=old.dtype)
            array[:, :width] = old
            array[queries, :newer_width] = new
            return array

        counts = self.counts.copy()
        counts[queries] = newer.counts
        return Answer(
            put(self.ids, newer.ids, None if self.ids.dtype == object else -1),
            put(self.distances, newer.distances, np.nan),  # type: ignore[arg-type]
            {
                name: put(own, newer.columns[name], None)  # type: ignore[misc]
                for name, own in self.columns.items()
            },
            counts,
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """The nearest rows of all parts, (n, w), and where each is from.

    Attributes:
        ids: (n, w).
        distances: (n, w).
        part: Which answer each row is of, (n, w).
        rank: Its place there, (n, w).
        counts: How many rows each query would have, up to k, (n,); w is the least of them.
    """

    ids: NDArray[np.generic]
    distances: NDArray[np.float64]
    part: NDArray[np.int64]
    rank: NDArray[np.int64]
    counts: NDArray[np.int64]

    def column(self, name: str, answers: Sequence[Answer]) -> NDArray[np.object_]:
        """Returns a column of these rows, (n, w)."""
        values = np.empty(self.ids.shape, dtype=object)
        for number, answer in enumerate(answers):
            query, rank = np.nonzero(self.part == number)
            values[query, rank] = answer.columns[name][query, self.rank[query, rank]]
        return values


def first_ask(k: int, parts: int) -> int:
    """Returns how many rows each part is asked for at first, at most k.

    >>> first_ask(10, 4), first_ask(100, 16), first_ask(1000, 16)
    (10, 16, 88)
    """
    if k < _WORTH or parts < 2:
        return k
    mean = k / parts
    return min(k, math.ceil(mean + _DEVIATIONS * math.sqrt(mean * (1 - 1 / parts)) + 2))


def merge(answers: Sequence[Answer], k: int) -> Merged:
    """Returns the k nearest rows of all answers, ties by key, NaN last; all where they are fewer.

    Args:
        answers: At least one, of the same queries.
        k: Rows of each query.
    """
    ids = np.concatenate([answer.ids for answer in answers], axis=1)
    distances = np.concatenate([answer.distances for answer in answers], axis=1)
    part = np.repeat(np.arange(len(answers)), [answer.ids.shape[1] for answer in answers])
    rank = np.concatenate([np.arange(answer.ids.shape[1]) for answer in answers])
    there = np.concatenate(
        [np.arange(answer.ids.shape[1]) < answer.counts[:, np.newaxis] for answer in answers],
        axis=1,
    )
    counts = np.minimum(there.sum(axis=1), k)
    width = int(counts.min()) if len(counts) else 0
    order = _order(ids, distances, there)[:, :width]
    rows = np.arange(len(ids))[:, np.newaxis]
    return Merged(ids[rows, order], distances[rows, order], part[order], rank[order], counts)


def merge_one(
    ids: Sequence[NDArray[np.generic]], distances: Sequence[NDArray[np.float64]], k: int
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Returns the k nearest rows of all parts' answers to one query, as `merge` orders them.

    Args:
        ids: Of each part, (w,), w its own.
        distances: Of each part, (w,).
        k: Rows.
    """
    keys, far = np.concatenate(ids), np.concatenate(distances)
    if keys.dtype == object:
        places = list(map(_place, far.tolist(), keys.tolist()))
        order = np.array(sorted(range(len(places)), key=places.__getitem__), dtype=np.intp)
    else:
        order = np.lexsort((keys, far))
    order = order[:k]
    return keys[order], far[order]


def unsure(
    answers: Sequence[Answer], asked: int, k: int, merged: Merged | None = None
) -> list[NDArray[np.bool_]]:
    """Returns for each part the queries, (n,), that it may hold more answers of than it gave.

    Args:
        answers: Of each part, which was asked for `asked` rows.
        asked: A part that gave fewer has no more.
        k: Rows that are wanted of all.
        merged: `merge(answers, k)`, where it is there already.
    """
    n = len(answers[0].ids)
    if asked >= k:
        return [np.zeros(n, dtype=bool) for _ in answers]
    merged = merge(answers, k) if merged is None else merged
    masks = []
    for answer in answers:
        mask = answer.counts >= asked
        for query in np.flatnonzero(mask & (merged.counts >= k)).tolist():
            last = int(answer.counts[query]) - 1
            mine = _place(answer.distances[query, last], answer.ids[query, last])
            kth = (
                _kth(answers, query, k)
                if merged.ids.shape[1] < k
                else (_place(merged.distances[query, k - 1], merged.ids[query, k - 1]))
            )
            mask[query] = mine < kth
        masks.append(mask)
    return masks


def _kth(answers: Sequence[Answer], query: int, k: int) -> tuple[float, object]:
    """The k-th place of one query, where others have fewer rows."""
    places = [
        _place(distance, key)
        for answer in answers
        for distance, key in zip(
            answer.distances[query, : answer.counts[query]],
            answer.ids[query, : answer.counts[query]],
            strict=True,
        )
    ]
    return sorted(places)[k - 1]


def _place(distance: float, key: object) -> tuple[float, object]:
    """What rows are ordered by."""
    return (math.inf if math.isnan(distance) else float(distance), key)


def _order(
    ids: NDArray[np.generic], distances: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The order of each query's rows, (n, w), with those that are padding at the end."""
    far = np.where(np.isnan(distances), np.inf, distances)
    if ids.dtype != object:
        return np.lexsort((ids, far, ~there), axis=-1)
    order = np.empty(ids.shape, dtype=np.int64)
    for query in range(len(ids)):
        present = np.flatnonzero(there[query]).tolist()
        own, keys = far[query].tolist(), ids[query].tolist()
        present.sort(key=lambda place: (own[place], keys[place]))
        order[query, : len(present)] = present
        order[query, len(present) :] = np.flatnonzero(~there[query])
    return order
