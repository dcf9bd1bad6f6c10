"""What is made once and used again, as long as the state that it was made in is the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_MOST = 64

T = TypeVar("T")


class Remembered(Generic[T]):
    """The values that were made last, by key."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, tuple[tuple[object, int], T]] = OrderedDict()

    def get(self, key: Hashable, state: tuple[object, int], make: Callable[[], T]) -> T:
        """Returns the value of a key, made anew when it is not there, or of another state."""
        made = self._made.get(key)
        if made is not None and made[0] == state:
            return made[1]
        value = make()
        self._made[key] = state, value
        while len(self._made) > _MOST:
            self._made.popitem(last=False)
        return value
