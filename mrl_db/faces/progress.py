"""Progress of long work: a callback of the caller's, or a bar on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

Progress = Callable[[int, "int | None"], None]
"""Called with (done, total): rows, or blocks of the table while indexing; total may be None."""


@contextmanager
def reporting(progress: Progress | bool, what: str) -> Iterator[Progress | None]:
    """Yields the function to report to.

    Args:
        progress: the caller's own function; True: a bar on standard error; False: nothing.
        what: the work, as the bar shows it.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
        )
        with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
