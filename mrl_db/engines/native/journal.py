"""Which keys an index has lately taken from its table, for what was made of its rows before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MOST = 1 << 16  # keys that are held


class Journal:
    """Numbered entries: the keys that were written to, or that any row may have changed.

    One thread writes at a time; others may read at any time, without a lock, which a fork could
    leave held. A write makes an entry before it changes the first row and another one after the
    last: whatever a reader finds of rows that are being written to belongs to an entry that it has
    seen, or to one that comes.
    """

    def __init__(self) -> None:
        self.number = 0
        """Of the next entry: all before it are here, or forgotten."""
        self._entries: dict[int, Sequence[Any]] = {}
        self._first = 0
        self._held = 0

    def note(self, keys: Sequence[Any]) -> None:
        """Makes an entry of keys."""
        self._entries[self.number] = keys
        self._held += len(keys)
        self.number += 1
        while self._held > _MOST:
            self._held -= len(self._entries.pop(self._first, ()))
            self._first += 1

    def note_all(self) -> None:
        """Makes an entry that says that any row may have changed; those before it go."""
        self._entries, self._first, self._held = {}, self.number, 0
        self.number += 1

    def between(self, first: int, end: int, most: int) -> set[Any] | None:
        """Returns the keys of entries, the end excluded; None when any row, or too many, changed.

        Args:
            first: An entry.
            end: The one after the last.
            most: Keys at most.
        """
        keys: set[Any] = set()
        for number in range(first, end):
            entry = self._entries.get(number)
            if entry is None or len(entry) > most:
                return None
            keys.update(entry)
            if len(keys) > most:
                return None
        return keys
