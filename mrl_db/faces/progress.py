"""Progress of long work: a callback of the caller's, or a bar on standard error for those who ask for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Report = Callable[[int, "int | None"], None]
"""Called with (done, total): rows, or blocks of the table while indexing, so far; the total where it is known."""


@contextmanager
def reporting(progress: Report | bool, what: str) -> Iterator[Report | None]:
    """Yields the function to report to: the caller's own, a bar's when progress is True, None when it is False."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
