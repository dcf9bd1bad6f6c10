"""Plain functions inside asyncio tasks: where they wait, the task waits, and others go on.

A function that `run()` was given is a greenlet. Wherever it would block, deep in calls as it may
be, it hands what it waits for to its task, which awaits that, and gives it the outcome. So what is
written once, as plain functions, serves threads and tasks alike (docs/decisions/async.md;
SQLAlchemy does the same).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

from mrl_db.lifetime import Ended

_AGAIN = 0.05  # seconds after which a thread's next statement is cancelled

P = ParamSpec("P")
T = TypeVar("T")


class _Task(greenlet):  # type: ignore[misc]  # it has no stubs
    """A function that runs inside an asyncio task."""


async def run(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Calls a function whose waits are this task's.

    Args:
        function: What may use `wait_for`, `aside` and `Lock`.
        arguments: Its own.
        named: Its own.
    """
    task = _Task(function)
    task.gr_context = getcurrent().gr_context
    outcome = task.switch(*arguments, **named)
    while not task.dead:
        try:
            answer = await outcome
        except BaseException:
            outcome = task.throw(*sys.exc_info())
        else:
            outcome = task.switch(answer)
    result: T = outcome
    return result


def running() -> bool:
    """Whether the caller runs inside a task; else it is an ordinary function of a thread."""
    return type(getcurrent()) is _Task


def wait_for(awaitable: Awaitable[T]) -> T:
    """Returns what an awaitable gives; for callers that run inside a task."""
    task = getcurrent().parent
    assert task is not None
    result: T = task.switch(awaitable)
    return result


def aside(call: Callable[[], T], threads: Executor) -> T:
    """Returns what a call gives that would hold the event loop up: a thread makes it.

    A cancelled task waits for the end of the call, which may be in the middle of a change.

    Args:
        call: What may be made while the task holds locks.
        threads: Where nothing else runs: whoever waits there for such a lock would wait for ever.
    """
    if not running():
        return call()
    future = asyncio.get_running_loop().run_in_executor(threads, call)
    try:
        return wait_for(asyncio.shield(future))
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):  # cancelled again
                wait_for(asyncio.wait([future]))
        raise


async def in_thread(call: Callable[[], T], cancel: Callable[[int], Awaitable[None]]) -> T:
    """Returns what a call gives that takes long; a thread makes it.

    Args:
        call: The work.
        cancel: Called while a cancelled task waits for the end of the work, with the thread's
            identity: it cancels what the thread waits for.
    """
    thread: list[int] = []
    ended = threading.Event()

    def work() -> T:
        if ended.is_set():
            raise Ended
        thread.append(threading.get_ident())
        return call()

    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        ended.set()
        while not future.done():
            with suppress(asyncio.CancelledError):  # cancelled again
                if thread:
                    await cancel(thread[0])
                await asyncio.wait([future], timeout=_AGAIN)
        future.exception()  # looked at, so that asyncio does not log it
        raise


class Lock:
    """A lock that threads and tasks share; a task that waits for it lets others go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        if not running():
            self._lock.acquire()
            return
        while not self._lock.acquire(blocking=False):
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            wake = partial(loop.call_soon_threadsafe, _end, future)
            self._waiting.append(wake)
            if self._lock.acquire(blocking=False):  # it was given back meanwhile
                with suppress(ValueError):
                    self._waiting.remove(wake)
                return
            try:
                wait_for(future)
            except BaseException:
                self._wake_next()  # it may have been this one's turn
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()
        self._wake_next()

    def _wake_next(self) -> None:
        while self._waiting:
            with suppress(IndexError, RuntimeError):  # taken by another thread; its loop is closed
                self._waiting.popleft()()
                return


def _end(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)
