"""What a search returns: ids, distances, further columns and the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd


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
    """

    engine: str
    microseconds: float
    stages: tuple[StageTrace, ...]
    promise: str | None = None
    fates: tuple[Any, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.engine}: {self.microseconds:.0f} µs"]
        for stage in self.stages:
            time = "" if stage.microseconds is None else f", {stage.microseconds:.0f} µs"
            rows_in = "?" if stage.rows_in is None else str(stage.rows_in)
            rows_out = "?" if stage.rows_out is None else str(stage.rows_out)
            lines.append(f"  {stage.name}: {rows_in} → {rows_out} rows{time}")
        if self.promise is not None:
            lines.append(f"  promise: {self.promise}")
        lines += [f"  {fate}" for fate in self.fates]
        return "\n".join(lines)


class Hits:
    """The nearest rows, the nearest first, ties by id.

    One query gives arrays of shape (k,), a batch of n gives (n, k). Fewer than k columns come back
    only when fewer rows match.

    Attributes:
        ids: int64 for integer keys; objects (`uuid.UUID`, `str`) for the others.
        distances: float64, the value of pgvector's operator for the collection's metric.
        columns: For each column asked for, an object array of the same shape.
        certified: Whether the answer is proven to be the exact one: every row was compared by its
            full vector, or no stage had to leave one out.
    """

    __slots__ = ("_promise", "_trace", "certified", "columns", "distances", "ids")

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
        self.certified = certified

    def __repr__(self) -> str:
        return f"Hits(ids={self.ids!r}, distances={self.distances!r})"

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
        return Hits(ids, distances, self._trace, columns, certified=self.certified)

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
        hits = Hits(
            self.ids[query],
            self.distances[query],
            self._trace,
            {name: values[query] for name, values in self.columns.items()},
            certified=self.certified,
        )
        hits._promise = self._promise
        return hits

    def to_list(self) -> list[Any]:
        """Returns dicts of id, distance and columns; a list of such lists for a batch."""
        if self.ids.ndim == 2:
            return [self[row].to_list() for row in range(len(self.ids))]
        pairs = zip(self.ids.tolist(), self.distances.tolist(), strict=True)
        return [
            {
                "id": key,
                "distance": distance,
                **{name: values[rank] for name, values in self.columns.items()},
            }
            for rank, (key, distance) in enumerate(pairs)
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Returns a DataFrame of id, distance and columns; for a batch, of query and rank too."""
        try:
            import pandas as pd
        except ImportError:
            raise MissingDependencyError(
                "to_pandas() needs pandas; pip install pandas, or use to_list()"
            ) from None
        frame: dict[str, Any] = {"id": self.ids.ravel(), "distance": self.distances.ravel()}
        frame.update({name: values.ravel() for name, values in self.columns.items()})
        if self.ids.ndim == 2:
            n, k = self.ids.shape
            frame = {"query": np.repeat(np.arange(n), k), "rank": np.tile(np.arange(k), n), **frame}
        return pd.DataFrame(frame)


@dataclass(frozen=True, slots=True)
class Records:
    """Rows as they are stored, in one order.

    Attributes:
        ids: (n,).
        vectors: (n, dims) float32.
        columns: Metadata columns as lists of n values.
    """

    ids: NDArray[Any]
    vectors: NDArray[np.float32]
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.ids)
