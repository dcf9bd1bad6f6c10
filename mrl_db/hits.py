"""What a search returns: ids, distances, further columns and the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.faces import exports
from mrl_db.model import html
from mrl_db.model.errors import ShapeError

_ROWS_SHOWN = 50  # in a notebook


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage of one search; what was not measured is None.

    Attributes:
        name: What it looked at.
        rows_in: Rows that it looked at.
        rows_out: Rows that it passed on.
        bytes_per_row: Bytes that it read of each.
        microseconds: Its time (`explain`).
    """

    name: str
    rows_in: int | None
    rows_out: int | None
    bytes_per_row: int | None = None
    microseconds: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """How hits were found.

    Attributes:
        engine: Whose they are.
        microseconds: The whole time of the call.
        stages: In order.
        promise: What the plan promises.
        fates: Of the rows that `explain(want=)` named (`mrl_db.recall.fates.Fate`).
        part: Of which part of the table the rows were, (number, of how many); None: of all of it.
        parts: Of a search of several parts (`mrl_db.parts`), the trace of each that answered.
    """

    engine: str
    microseconds: float
    stages: tuple[StageTrace, ...]
    promise: str | None = None
    fates: tuple[Any, ...] = ()
    part: tuple[int, int] | None = None
    parts: tuple[Trace, ...] = ()

    @property
    def whose(self) -> str:
        """The engine, and the part of the table if it is one, in words."""
        return self.engine if self.part is None else f"{self.engine}, part {self.part} of the table"

    def __str__(self) -> str:
        lines = [f"{self.whose}: {self.microseconds:.0f} µs"]
        for stage in self.stages:
            time = "" if stage.microseconds is None else f", {stage.microseconds:.0f} µs"
            rows_in = "?" if stage.rows_in is None else str(stage.rows_in)
            rows_out = "?" if stage.rows_out is None else str(stage.rows_out)
            lines.append(f"  {stage.name}: {rows_in} → {rows_out} rows{time}")
        if self.promise is not None:
            lines.append(f"  promise: {self.promise}")
        lines += [f"  {fate}" for fate in self.fates]
        for trace in self.parts:
            lines += [f"  {line}" for line in str(trace).split("\n")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            (s.name, s.rows_in, s.rows_out, s.bytes_per_row, s.microseconds) for s in self.stages
        ]
        caption = f"{self.whose}: {self.microseconds:.0f} µs"
        notes = [] if self.promise is None else [("promise", self.promise)]
        notes += [("fate", fate) for fate in self.fates]
        headings = ("stage", "rows in", "rows out", "bytes a row", "µs")
        return html.table(caption, headings, rows) + (html.table("", (), notes) if notes else "")


_NO_TYPES: Mapping[str, str] = MappingProxyType({})


class Hits:
    """The nearest rows, the nearest first, ties by id.

    One query gives arrays of shape (k,), a batch of n gives (n, k). Fewer than k columns come back
    only when fewer rows match.

    Attributes:
        ids: int64 for integer keys; objects (`uuid.UUID`, `str`) for the others.
        distances: float64, the value of pgvector's operator for the collection's metric.
        columns: For each column asked for, an object array of the same shape.
        vectors: (k, dims) or (n, k, dims) float32, where they were asked for; else None.
        scores: Where words were searched for, what the hits are ordered by, the best first; else
            None. The distance of a row without a vector is NaN then.
        counts: How many hits each query of a batch has, where that differs; else None. What is
            beyond them in the arrays is padding: an id of -1 or None, a distance of NaN.
        missing: The numbers of parts that did not answer (`mrl_db.parts`, `search(partial=True)`):
            their rows are not among these. Nothing is certified or promised then.
        certified: Whether the answer is proven to be the exact one: every row was compared by its
            full vector, no stage had to leave one out, or those that stages left out by int8 codes
            of all dims are farther than these codes can be off. Of a batch: that of all queries.
    """

    __slots__ = (
        "_promise",
        "_trace",
        "_types",
        "certified",
        "columns",
        "counts",
        "distances",
        "ids",
        "missing",
        "scores",
        "vectors",
    )

    def __init__(
        self,
        ids: NDArray[Any],
        distances: NDArray[np.float64],
        trace: Trace | Callable[[], Trace],
        columns: Mapping[str, NDArray[np.object_]] = MappingProxyType({}),
        *,
        certified: bool = False,
    ) -> None:
        # A function makes the trace when it is read: a search in this process is over sooner.
        self.ids = ids
        self.distances = distances
        self._trace = trace
        self._promise: Callable[[], str | None] | None = None
        self.columns = columns
        self._types: Mapping[str, str] = _NO_TYPES
        self.vectors: NDArray[np.float32] | None = None
        self.scores: NDArray[np.float64] | None = None
        self.counts: NDArray[np.int64] | None = None
        self.certified = certified
        self.missing: tuple[int, ...] = ()

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        """For pickle: with the trace, which may be made only here, by now."""
        trace = self.trace  # which takes the promise
        state = {name: getattr(self, name) for name in self.__slots__}
        plain = {"columns": dict(self.columns), "_types": dict(self._types)}
        return None, {**state, **plain, "_trace": trace}

    def __repr__(self) -> str:
        missing = f", missing={self.missing}" if self.missing else ""
        return f"Hits(ids={self.ids!r}, distances={self.distances!r}{missing})"

    @property
    def trace(self) -> Trace:
        """How the hits were found."""
        if not isinstance(self._trace, Trace):
            self._trace = self._trace()
        if self._promise is not None:
            self._trace, self._promise = replace(self._trace, promise=self._promise()), None
        return self._trace

    def promised(self, promise: Callable[[], str | None]) -> Hits:
        """Returns these hits; their trace tells what `promise` does when it is read."""
        self._promise = promise
        return self

    def typed(self, types: Mapping[str, str]) -> Hits:
        """Returns these hits; `types` are the SQL types of their columns."""
        self._types = types
        return self

    def without(self, keys: Sequence[Any], k: int) -> Hits:
        """Returns a batch's k best without one key each; without the last where it is missing."""
        own = self.ids == np.array(keys, dtype=self.ids.dtype)[:, np.newaxis]
        n, width = own.shape
        if width == 0:
            return self
        left_out = np.where(own.any(axis=1), own.argmax(axis=1), width - 1)
        kept = np.arange(width) != left_out[:, np.newaxis]
        ids, distances = (each[kept].reshape(n, -1)[:, :k] for each in (self.ids, self.distances))
        columns = {name: c[kept].reshape(n, -1)[:, :k] for name, c in self.columns.items()}
        hits = Hits(ids, distances, self._trace, columns, certified=self.certified)
        hits.missing = self.missing
        return hits

    def take_vectors(self, column: str, dims: int) -> None:
        """Makes vectors of a column of them, of NaN where a row has none, and in padding."""
        listed = dict(self.columns)
        vectors = listed.pop(column)
        nothing = np.full(dims, np.nan, np.float32)
        flat = [nothing if vector is None else vector for vector in vectors.ravel().tolist()]
        stacked = np.stack(flat) if flat else np.empty((0, dims), np.float32)
        self.vectors = stacked.reshape(*vectors.shape, dims)
        self.columns = listed

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        """Walks the (id, distance) pairs of one query, or a `Hits` for each query of a batch."""
        if self.ids.ndim == 1:
            yield from zip(self.ids.tolist(), self.distances.tolist(), strict=True)
        else:
            for row in range(len(self.ids)):
                yield self[row]  # type: ignore[misc]

    def __getitem__(self, query: int) -> Hits:
        """The hits of one query of a batch."""
        if self.ids.ndim == 1:
            raise ShapeError(
                "these are the hits of one query; iterate for (id, distance), or take ids[…] and "
                "distances[…]"
            )
        one = self._at(query)
        return one if self.counts is None else one._at(slice(int(self.counts[query])))

    def chosen(self, mask: NDArray[np.bool_], k: int) -> Hits:
        """Returns a batch's first k hits of each query, of those where a mask (n, width) holds."""
        return joined([self[row]._at(np.flatnonzero(own)[:k]) for row, own in enumerate(mask)])

    def reordered(self, orders: Sequence[Any]) -> Hits:
        """Returns a batch's hits by a slice or by positions for each query."""
        return joined([self[row]._at(order) for row, order in enumerate(orders)])

    def _at(self, part: Any) -> Hits:
        """Returns a part of every array: one query of a batch, or some hits of one query."""
        hits = Hits(
            self.ids[part],
            self.distances[part],
            self._trace,
            {name: values[part] for name, values in self.columns.items()},
            certified=self.certified,
        )
        hits.vectors = None if self.vectors is None else self.vectors[part]
        hits.scores = None if self.scores is None else self.scores[part]
        hits._promise = self._promise
        hits.missing = self.missing
        return hits.typed(self._types)

    def to_list(self) -> list[Any]:
        """Returns dicts of id, distance and columns; a list of such lists for a batch."""
        if self.ids.ndim == 2:
            return [self[row].to_list() for row in range(len(self.ids))]
        pairs = zip(self.ids.tolist(), self.distances.tolist(), strict=True)
        return [
            {
                "id": key,
                "distance": distance,
                **({} if self.scores is None else {"score": float(self.scores[rank])}),
                **{name: values[rank] for name, values in self.columns.items()},
                **({} if self.vectors is None else {"vector": self.vectors[rank]}),
            }
            for rank, (key, distance) in enumerate(pairs)
        ]

    def _columns(self) -> list[exports.Column]:
        """Id, distance, columns and vectors; of a batch, query and rank before them."""
        numbers: list[exports.Column] = []
        present: Any = slice(None)
        if self.ids.ndim == 2:
            query, rank = np.indices(self.ids.shape)
            if self.counts is not None:
                present = (rank < self.counts[:, np.newaxis]).ravel()
            numbers = [("query", query.ravel()[present], ""), ("rank", rank.ravel()[present], "")]
        columns = [
            *numbers,
            ("id", self.ids.ravel()[present], ""),
            ("distance", self.distances.ravel()[present], ""),
            *([] if self.scores is None else [("score", self.scores.ravel()[present], "")]),
            *(
                (name, each.ravel()[present], self._types.get(name, ""))
                for name, each in self.columns.items()
            ),
        ]
        if self.vectors is not None:
            flat = self.vectors.reshape(-1, self.vectors.shape[-1])
            columns.append(("vector", flat[present], ""))
        return columns

    def _repr_html_(self) -> str:
        columns = self._columns()
        rows = list(zip(*(values[:_ROWS_SHOWN].tolist() for _, values, _ in columns), strict=True))
        total = len(columns[-1][1])
        more = total - len(rows)
        caption = f"{total} hits" + (f", {more} more" if more else "")
        return html.table(caption, [name for name, _, _ in columns], rows)

    to_arrow = exports.to_arrow
    to_pandas = exports.to_pandas
    to_polars = exports.to_polars
    __arrow_c_stream__ = exports.arrow_c_stream


def joined(queries: Sequence[Hits]) -> Hits:
    """Returns the hits of several queries, each given alone, as a batch."""
    first = queries[0]
    counts = np.array([len(hits) for hits in queries])
    shape = len(queries), int(counts.max())
    whole = first.ids.dtype == object
    batch = Hits(
        np.full(shape, None if whole else -1, dtype=first.ids.dtype),
        np.full(shape, np.nan),
        first._trace,
        {name: np.full(shape, None, dtype=object) for name in first.columns},
        certified=all(hits.certified for hits in queries),
    )
    for row, (hits, count) in enumerate(zip(queries, counts.tolist(), strict=True)):
        batch.ids[row, :count] = hits.ids
        batch.distances[row, :count] = hits.distances
        for name, values in hits.columns.items():
            batch.columns[name][row, :count] = values
    if first.scores is not None:
        batch.scores = np.full(shape, np.nan)
        for row, hits in enumerate(queries):
            batch.scores[row, : len(hits)] = hits.scores
    if (counts != shape[1]).any():
        batch.counts = counts
    batch.missing = tuple(sorted({part for hits in queries for part in hits.missing}))
    return batch.typed(first._types)


@dataclass(frozen=True, slots=True)
class Records:
    """Rows as they are stored, in one order.

    Attributes:
        ids: (n,).
        vectors: (n, dims) float32, of NaN for a row without a vector; (n, 0) where they were not
            asked for.
        columns: Metadata columns as lists of n values.
        types: The SQL types of the columns, of a domain the one that it is made of.
        names: What key and vector are called in the table.
    """

    ids: NDArray[Any]
    vectors: NDArray[np.float32]
    columns: Mapping[str, list[Any]]
    types: Mapping[str, str] = field(default_factory=dict, repr=False)
    names: tuple[str, str] = field(default=("id", "embedding"), repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def _columns(self) -> list[exports.Column]:
        key, vector = self.names
        vectors = [(vector, self.vectors, "")] if self.vectors.shape[1] else []
        return [
            (key, self.ids, ""),
            *vectors,
            *((name, each, self.types.get(name, "")) for name, each in self.columns.items()),
        ]

    def to_list(self) -> list[dict[str, Any]]:
        """Returns a dict for each row, as `Collection.add` takes them: None for no vector."""
        columns = self._columns()
        several = [
            exports.listed_vectors(values) if getattr(values, "ndim", 1) == 2 else values
            for _, values, _ in columns
        ]
        rows = zip(*several, strict=True)
        return [
            {name: value for (name, _, _), value in zip(columns, row, strict=True)} for row in rows
        ]

    to_arrow = exports.to_arrow
    to_pandas = exports.to_pandas
    to_polars = exports.to_polars
    __arrow_c_stream__ = exports.arrow_c_stream
