"""Writes that may be sent again: with a batch_id each is committed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from mrl_db.door import Batch
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.session import Connection, Session


def write_once(
    session: Session, info: CollectionInfo, batch_id: str | None, write: Callable[[Connection], int]
) -> int:
    """Runs a write in a transaction and returns its rows.

    With a batch_id that was committed before it only returns the rows of then.

    Raises:
        CommitUncertain: The connection was lost at the last moment. The same call with the same
            batch_id then finds out.
    """
    with session.transaction() as connection:
        if batch_id is None:
            return write(connection)
        row = connection.execute(statements.query("batch_begin"), (batch_id, info.name)).fetchone()
        if row is not None and row[0] is not None:
            return int(row[0])
        count = write(connection)
        connection.execute(statements.query("batch_end"), (batch_id, count, info.name))
        return count


def parts(batches: Iterable[Batch], rows: int) -> Iterator[Iterator[Batch]]:
    """Yields parts of so many rows each, but for the last; none is empty.

    A part is read out of the batches when it is iterated. What is left of it when the next one is
    asked for is passed over.
    """
    iterator = iter(batches)
    waiting: list[Batch] = []

    def part() -> Iterator[Batch]:
        left = rows
        while left and (waiting or _fill(waiting, iterator)):
            batch = waiting.pop()
            if len(batch) > left:
                waiting.append(_cut(batch, left, len(batch)))
                batch = _cut(batch, 0, left)
            left -= len(batch)
            yield batch

    while waiting or _fill(waiting, iterator):
        current = part()
        yield current
        for _ in current:
            pass


def _fill(waiting: list[Batch], batches: Iterator[Batch]) -> bool:
    """Puts the next batch that has rows where the next part begins; False: there is none."""
    for batch in batches:
        if len(batch):
            waiting.append(batch)
            return True
    return False


def _cut(batch: Batch, begin: int, end: int) -> Batch:
    return replace(
        batch,
        keys=batch.keys[begin:end],
        vectors=batch.vectors[begin:end],
        columns={name: values[begin:end] for name, values in batch.columns.items()},
    )
