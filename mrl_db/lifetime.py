"""What becomes of threads, locks and connections when the process forks, and when it ends.

A forked child has none of its parent's threads; its locks may be held by them for ever, and its
connections are the parent's. So whoever has some is told in the child, and makes its own. At the
end of the interpreter threads are ended in an order, while everything they need is still there.
"""

from __future__ import annotations

import atexit
import functools
import os
import weakref
from typing import Protocol

_SECONDS = 5.0  # for a thread, at exit


class Ended(Exception):  # noqa: N818 - a state, not a mistake
    """Work was given up, because whoever wanted it, or the process, has ended."""


class Forked(Protocol):
    """Whatever has locks, threads or connections."""

    def after_fork(self) -> None:
        """Forgets those of the parent; called in a forked child before anything else runs."""
        ...


class Ending(Protocol):
    """Whatever has threads."""

    def end(self, seconds: float) -> None:
        """Has them end, for good; waits for that so many seconds at most."""
        ...


_forked: weakref.WeakSet[Forked] = weakref.WeakSet()
_ending: weakref.WeakSet[Ending] = weakref.WeakSet()


def renew_after_fork(owner: Forked) -> None:
    """Has `owner.after_fork()` called in every forked child, as long as the owner is there."""
    _register()
    _forked.add(owner)


def end_at_exit(owner: Ending) -> None:
    """Has `owner.end()` called at the end of the interpreter."""
    _register()
    _ending.add(owner)


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_after_fork)
    atexit.register(_end_all)


def _after_fork() -> None:
    for owner in list(_forked):
        owner.after_fork()


def _end_all() -> None:
    for owner in list(_ending):
        owner.end(_SECONDS)
