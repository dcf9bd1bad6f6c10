"""What becomes of threads, locks and connections when the process forks, and when it ends.

A forked child has none of its parent's threads; its locks may be held by them for ever, and its
connections are the parent's. So whoever has some is told in the child, and makes its own. At the
end of the interpreter threads are ended in an order, while everything they need is still there;
and daemon threads of the caller's, which the interpreter cuts wherever they are, are let out of
the calls that they are in, and into no other: cut in the middle of a matrix product, the library
of linear algebra waits for ever; cut in a statement, they have an error to print.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, FunctionType
from typing import Any, Protocol, TypeVar

_SECONDS = 5.0  # for a thread, at exit
_POLL_SECONDS = 0.001
_PACKAGE = __name__.partition(".")[0]
OWN_THREADS = f"{_PACKAGE} "  # what the names of threads begin with that are ended by their owners


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
_entered: list[type] = []

Class = TypeVar("Class", bound=type)


def renew_after_fork(owner: Forked) -> None:
    """Has `owner.after_fork()` called in every forked child, as long as the owner is there."""
    _register()
    _forked.add(owner)


def end_at_exit(owner: Ending) -> None:
    """Has `owner.end()` called at the end of the interpreter."""
    _register()
    _ending.add(owner)


def let_out_at_exit(entered: Class) -> Class:
    """Decorates a class whose methods threads of the caller's may be in at the exit."""
    _entered.append(entered)
    return entered


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


# What is registered last is called first. By the first of all finalizers those of the process are
# registered, which close connections and stop a server; after that, with this module, what must
# come before. Whatever callers register later comes first: there they may join their threads.
weakref.finalize(_end_all, bool).detach()


@atexit.register
def _let_out() -> None:
    """Waits until other threads are out of their calls; further calls do not begin."""
    here = threading.get_ident()
    for entered in _entered:
        for name, method in list(vars(entered).items()):
            if isinstance(method, FunctionType) and not name.startswith("_"):
                setattr(entered, name, _held(method, here))
    inside = list(_calls(here))
    until = time.monotonic() + _SECONDS
    while inside and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        frames = sys._current_frames()
        inside = [
            (thread, call)
            for thread, call in inside
            if any(frame is call for frame in _stack(frames.get(thread)))
        ]


def _held(method: Callable[..., Any], here: int) -> Callable[..., Any]:
    """A method that other threads than `here` get no answer from, as the process ends meanwhile."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != here:
            # Should somebody wait for this thread, it goes on in the end.
            threading.Event().wait(2 * _SECONDS)
        return method(*args, **kwargs)

    return call


def _calls(here: int) -> Iterator[tuple[int, FrameType]]:
    """Yields threads of the caller's that are in a call of this package, and its frame."""
    own = {thread.ident for thread in threading.enumerate() if thread.name.startswith(OWN_THREADS)}
    for thread, frame in sys._current_frames().items():
        if thread == here or thread in own:
            continue
        outermost = None
        for caller in _stack(frame):
            if caller.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
                outermost = caller
        if outermost is not None:
            yield thread, outermost


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
