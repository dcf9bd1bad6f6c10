"""What a search returns: ids, distances, further columns and the trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage of one search: what it looked at, rows in and out, and its time where it was measured (`explain`)."""

    name: str
    rows_in: int | None
    rows_out: int | None
    bytes_per_row: int | None = None
    microseconds: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """How the hits were found: the engine, the whole time of the call in microseconds, the stages in order, and what the plan promises."""

    engine: str
    microseconds: float
    stages: tuple[StageTrace, ...]
    promise: str | None = None
    fates: tuple[Any, ...] = ()  # of wanted rows (`explain`): mrl_db.recall.fates.Fate

    def __str__(self) -> str:
        """Tells the trace, a line each stage."""
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

    One query gives arrays of shape (k,), a batch of n gives (n, k). Fewer than k columns come back only when fewer rows match.

    ids: int64 for integer keys; objects (`uuid.UUID`, `str`) for the others.
    distances: float64, the value of pgvector's operator for the collection's metric.
    columns: for each column asked for, an object array of the same shape.
    certified: whether the answer is proven to be the exact one: every row was compared by its full vector, or no stage had to leave one
    out.
    """

    __slots__ = ("_trace", "certified", "columns", "distances", "ids")

    def __init__(
        self,
        ids: NDArray[Any],
        distances: NDArray[np.float64],
        trace: Trace | Callable[[], Trace],
        columns: Mapping[str, NDArray[np.object_]] = MappingProxyType({}),
        *,
        certified: bool = False,
    ) -> None:
        """trace: or a function that makes it when it is looked at: a search in this process is over sooner than a trace is made."""
        self.ids = ids
        self.distances = distances
        self._trace = trace
        self.columns = columns
        self.certified = certified

    def __repr__(self) -> str:
        """Shows ids and distances."""
        return f"Hits(ids={self.ids!r}, distances={self.distances!r})"

    @property
    def trace(self) -> Trace:
        """How the hits were found."""
        if not isinstance(self._trace, Trace):
            self._trace = self._trace()
        return self._trace

    def __len__(self) -> int:
        """Hits of one query, or queries of a batch."""
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
        columns = {name: values[query] for name, values in self.columns.items()}
        return Hits(
            self.ids[query], self.distances[query], self._trace, columns, certified=self.certified
        )

    def to_list(self) -> list[Any]:
        """Returns dicts of id, distance and the columns asked for; a list of such lists for a batch."""
        if self.ids.ndim == 2:
            return [self[row].to_list() for row in range(len(self.ids))]
        rows = []
        for i, (key, distance) in enumerate(
            zip(self.ids.tolist(), self.distances.tolist(), strict=True)
        ):
            rows.append(
                {
                    "id": key,
                    "distance": distance,
                    **{name: values[i] for name, values in self.columns.items()},
                }
            )
        return rows

    def to_pandas(self) -> pd.DataFrame:
        """Returns a DataFrame of id, distance and the columns asked for; a batch gains the columns query and rank."""
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
