"""Asking all parts at once, and what becomes of one that does not answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial as partial_
from typing import Generic, TypeVar

from mrl_db.lifetime import OWN_THREADS, end_at_exit, renew_after_fork
from mrl_db.model.errors import ConnectError, PartUnavailableError
from mrl_db.parts.part import Part

T = TypeVar("T")
Call = Callable[[int, float | None], T]
"""Is given the number of a part, and the seconds that are left, or None."""
Wait = Callable[[], T]
"""Returns the answer to a call that was begun."""

_AT_ONCE = 8  # calls to each part; more wait
_PAUSE_SECONDS = 0.05  # before a part is tried again; twice as long each time


@dataclass(frozen=True, slots=True)
class Replies(Generic[T]):
    """What parts answered.

    Attributes:
        given: By the number of the part.
        missing: Why others gave nothing.
    """

    given: Mapping[int, T]
    missing: Mapping[int, str]


class Crew:
    """The parts of a collection, and the threads that wait for them."""

    def __init__(self, parts: Sequence[Part], *, retries: int = 2) -> None:
        """Takes the parts over.

        Args:
            parts: In the order of their numbers.
            retries: How often a part that cannot be reached is asked again.
        """
        self.parts = tuple(parts)
        self._retries = retries
        self._threads = self._new_threads()
        renew_after_fork(self)
        end_at_exit(self)

    def _new_threads(self) -> list[ThreadPoolExecutor]:
        """Threads of each part's own: one that hangs keeps nobody from asking the others."""
        names = (f"{OWN_THREADS}part {number}" for number in range(len(self.parts)))
        return [ThreadPoolExecutor(_AT_ONCE, name) for name in names]

    def after_fork(self) -> None:
        """The threads are the parent's."""
        self._threads = self._new_threads()

    def end(self, seconds: float) -> None:  # noqa: ARG002
        """Lets no further call begin."""
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)
        self._threads = []

    def close(self) -> None:
        """Closes every part."""
        self.end(0.0)
        for part in self.parts:
            part.close()

    def ask(
        self,
        numbers: Iterable[int],
        call: Call[T],
        until: float | None = None,
        *,
        partial: bool = False,
        here: bool = False,
    ) -> Replies[T]:
        """Makes a call to each of some parts, all at once.

        Args:
            numbers: Of the parts.
            call: Made for each.
            until: When no answer is waited for any longer (`time.monotonic`); None: never.
            partial: Whether an answer of some parts is one.
            here: One after the other instead, by this thread.

        Raises:
            PartUnavailableError: A part did not answer, and partial is False; or none did.
            ConnectError: The parts were closed.
        """
        others = list(numbers)
        mine = (
            0 if until is not None else len(others) if here else 1
        )  # who waits must be able to leave
        own = [others.pop() for _ in range(min(mine, len(others)))]
        waits: dict[int, Wait[T]] = {
            number: partial_(self._result, self._submit(call, number, until), until)
            for number in others
        }
        waits.update({number: partial_(self._try, call, number, None) for number in own})
        return self.collect(waits, partial=partial)

    def collect(self, waits: Mapping[int, Wait[T]], *, partial: bool) -> Replies[T]:
        """Waits for calls that were begun, one for each part; see `ask`."""
        given: dict[int, T] = {}
        missing: dict[int, str] = {}
        for number in reversed(list(waits)):  # what is made by this thread comes first
            try:
                given[number] = waits[number]()
            except ConnectError as error:
                missing[number] = str(error)
        if missing and (not partial or not given):
            raise unavailable([(self.parts[n].name, n, missing[n]) for n in sorted(missing)])
        return Replies({number: given[number] for number in sorted(given)}, missing)

    def _submit(self, call: Call[T], number: int, until: float | None) -> futures.Future[T]:
        if not self._threads:
            raise ConnectError("the collection was closed, by close() or the end of its with block")
        return self._threads[number].submit(self._try, call, number, until)

    def _result(self, future: futures.Future[T], until: float | None) -> T:
        try:
            return future.result(left(until))
        except futures.TimeoutError:
            if future.done():  # the part's own, of a statement
                raise
            future.cancel()
            raise ConnectError("it has not answered within timeout=") from None

    def _try(self, call: Call[T], number: int, until: float | None) -> T:
        for attempt in range(self._retries + 1):
            try:
                return call(number, left(until))
            except ConnectError:
                pause = _PAUSE_SECONDS * 2**attempt
                if attempt == self._retries or (until and until - time.monotonic() <= pause):
                    raise
                time.sleep(pause)
        raise AssertionError


def unavailable(missing: Sequence[tuple[str, int, str]]) -> PartUnavailableError:
    """Returns the error for parts that did not answer: (name, number, why)."""
    said = "; ".join(f"{name}: {why}" for name, _, why in missing)
    return PartUnavailableError(
        f"no answer from {said}; search(partial=True) takes what the others have",
        tuple(number for _, number, _ in missing),
    )


def deadline(timeout: float | None) -> float | None:
    """Returns when a call that begins now is given up."""
    return None if timeout is None or math.isinf(timeout) else time.monotonic() + timeout


def left(until: float | None) -> float | None:
    """Returns how many seconds there are until then; None: as many as it takes."""
    return None if until is None else max(0.0, until - time.monotonic())
