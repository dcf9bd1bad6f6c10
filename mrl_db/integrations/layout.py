"""How a document's text and metadata lie in the columns of a collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrl_db.collection import Collection
from mrl_db.integrations.filters import Names
from mrl_db.model.errors import ValueRangeError


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a store.

    Attributes:
        text: Of the text.
        own: Metadata that have columns of their own.
        json: Of type jsonb, for all other metadata; None: there is none.
    """

    text: str
    own: tuple[str, ...]
    json: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all."""
        return (self.text, *self.own, *(() if self.json is None else (self.json,)))

    def names(self, **further: str) -> Names:
        """Returns what filters name; `further` are names that stand for a column."""
        return Names(self.own, self.json, further)

    def split(
        self, texts: Sequence[str | None], metadata: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Returns the values of each column; raises ValueRangeError for metadata without any."""
        rest = [dict(each) for each in metadata]
        values: dict[str, Any] = {self.text: list(texts)}
        for name in self.own:
            values[name] = [each.pop(name, None) for each in rest]
        if self.json is not None:
            values[self.json] = rest
        elif any(rest):
            name = next(name for each in rest for name in each)
            raise ValueRangeError(
                f"metadata {name!r} has no column, and the store no column of JSON for it"
            )
        return values

    def joined(self, values: Mapping[str, Any]) -> Iterator[tuple[str | None, dict[str, Any]]]:
        """Walks the text and the metadata of each row; a NULL is no metadata."""
        texts = values[self.text]
        own = [(name, values[name]) for name in self.own]
        json = [None] * len(texts) if self.json is None else values[self.json]
        for position, (text, rest) in enumerate(zip(texts, json, strict=True)):
            metadata = dict(rest) if isinstance(rest, dict) else {}
            for name, column in own:
                if column[position] is not None:
                    metadata[name] = column[position]
            yield text, metadata


def layout_of(
    collection: Collection, text: str, own: Sequence[str] | None, json: str | None
) -> Layout:
    """Returns a layout over columns of a collection.

    Args:
        collection: The store's.
        text: Of the text.
        own: Metadata that have columns of their own; None: all further columns.
        json: Of all other metadata, or None.

    Raises:
        ValueRangeError: The collection has no such column.
    """
    for name in (text, json, *(own or ())):
        if name is not None and name not in collection.columns:
            listed = ", ".join(collection.columns) or "none"
            raise ValueRangeError(
                f'collection "{collection.name}" has no column {name!r}, its columns are: {listed}'
            )
    if own is None:
        own = [name for name in collection.columns if name not in (text, json)]
    return Layout(text, tuple(own), json)
