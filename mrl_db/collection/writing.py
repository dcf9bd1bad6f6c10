"""Writing: rows by key, many rows at once, and the index that the load comes before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

from mrl_db import clashes, door, door_keys
from mrl_db.collection.opened import Face, Opened, Where, as_it_is_now, has_columns_inside
from mrl_db.door import Batch
from mrl_db.faces import sources
from mrl_db.faces.progress import Progress, reporting
from mrl_db.learn.transform import Transform, check_transform
from mrl_db.model.errors import ValueRangeError
from mrl_db.postgres import adapting, batches, indexing, rows
from mrl_db.postgres import write as writing

IndexKind = Literal["auto", "mrl", "hnsw"]
_INDEX_WORTH_ROWS = 10_000  # below, a scan takes no longer than a walk (benchmarks/record)


@as_it_is_now
def add(
    self: Face,
    /,
    ids: Any,
    vectors: Any = None,
    *,
    on_conflict: Literal["error", "skip"] = "error",
    batch_id: str | None = None,
    connection: object | None = None,
    **columns: Any,
) -> int:
    """Adds new rows, all or none.

    Args:
        ids: n keys of the collection's key type; or, without `vectors`, a frame, Arrow data or a
            list of dicts whose columns are named as the table's are (docs/data.md).
        vectors: (n, dims) float32; float16, float64 and Python's integers are converted, tensors
            and pgvector's vectors taken. Where rows need none (`create_collection`), a list may
            hold None, or vectors be left out.
        on_conflict: "skip" leaves rows as they are whose key is there already.
        batch_id: As above.
        connection: As above.
        **columns: n values for each metadata column; one left out gets its default.

    Returns:
        How many rows were added.

    Raises:
        ShapeError, DtypeError, ValueRangeError: Before anything is sent.
        DuplicateKeyError: A key stands twice, or is there already.
        CommitUncertain: The connection was lost while the server committed.
    """
    opened = self._opened.on(connection)
    door.checked_choice(on_conflict, "on_conflict", ("error", "skip"))
    if not has_columns_inside(ids, vectors):
        clashes.check_unmistaken(batch_id, opened.info)
    batch = opened.batch(ids, vectors, columns)
    return opened.write(
        batch_id,
        partial(writing.write, info=opened.info, batches=[batch], on_conflict=on_conflict),
    )


@as_it_is_now
def upsert(
    self: Face,
    /,
    ids: Any,
    vectors: Any = None,
    *,
    batch_id: str | None = None,
    connection: object | None = None,
    **columns: Any,
) -> int:
    """Adds rows as `add`, and replaces those whose key is there; their other columns stay.

    Vectors stay, too, where they are left out; a None in a list takes a row's away.
    """
    opened = self._opened.on(connection)
    if not has_columns_inside(ids, vectors):
        clashes.check_unmistaken(batch_id, opened.info)
    batch = opened.batch(ids, vectors, columns)
    return opened.write(
        batch_id, partial(writing.write, info=opened.info, batches=[batch], on_conflict="replace")
    )


def ingest(
    self: Face,
    /,
    source: sources.Source,
    vectors: Any = None,
    *,
    id: str | None = None,  # the column's name, as everybody calls it
    vector: str | None = None,
    upsert: bool = False,
    index: bool = True,
    commit_every: int | None = None,
    progress: Progress | bool = False,
    batch_id: str | None = None,
    connection: object | None = None,
    **columns: Any,
) -> int:
    """Loads many rows in one transaction, or in several, then builds the index.

    Memory is bounded, however many rows come.

    Args:
        source: A path of a Parquet file, a frame or Arrow data, an array of ids (with `vectors` and
            columns, as for `add`), or an iterable of dicts or of batches: (ids, vectors),
            (ids, vectors, {column: values}), frames, or lists of dicts.
        vectors: For an array of ids.
        id: The key's name in files, frames and dicts; None: as in the table.
        vector: The vector's name there, likewise; other columns go to those of the same name.
        upsert: Replace rows whose key is there.
        index: Build the HNSW index where there is none and the rows are many enough; not in a
            transaction of yours.
        commit_every: Commit after so many rows each time, for sources that run for hours; what was
            committed before an error stays. With a batch_id the same call with the same rows goes
            on where it was broken off: it reads them all, and sends those that are missing.
        progress: As above.
        batch_id: As above.
        connection: As above.
        **columns: For an array of ids.

    Returns:
        How many rows were written, in this call and those that it goes on with.
    """
    opened = self._opened.on(connection)
    clashes.check_options(
        {
            "id": (id, (str, type(None))),
            "vector": (vector, (str, type(None))),
            "upsert": (upsert, bool),
            "index": (index, bool),
            "commit_every": (commit_every, (int, type(None))),
            "progress": (callable(progress) or progress, bool),
        }
    )
    opened.describe()  # many rows are to come, and nothing of them could be repeated
    if vectors is not None:
        clashes.check_unmistaken(batch_id, opened.info)
    fields = opened.fields(id, vector)
    total, parts = sources.open_source(source, vectors, columns, fields)
    checked = (opened.batch(ids, part, further) for ids, part, further in parts)
    if commit_every is not None:
        door.checked_count(commit_every, "commit_every")
        if connection is not None:
            raise ValueRangeError(
                "commit_every= and connection= were both given; a transaction of yours is yours to "
                "commit"
            )
    with reporting(progress, "rows") as report:
        each = None if report is None else lambda done: report(done, total)
        send = partial(
            writing.write, info=opened.info, on_conflict="replace" if upsert else "error"
        )
        if commit_every is None:
            count = opened.write(batch_id, partial(send, batches=checked, progress=each))
        else:
            count = _by_parts(opened, checked, commit_every, batch_id, send, each)
    if (
        index
        and connection is None
        and rows.count(opened.session, opened.request()) >= _INDEX_WORTH_ROWS
    ):
        create_index(self, progress=progress is True)
    return count


def _by_parts(
    opened: Opened,
    rows: Iterator[Batch],
    size: int,
    batch_id: str | None,
    send: Callable[..., int],
    progress: Callable[[int], None] | None,
) -> int:
    """Writes rows by transactions of `size` rows, each once for its batch_id; returns how many."""
    total = 0
    for number, part in enumerate(batches.parts(rows, size)):
        passed = 0

        def counted(part: Iterator[Batch] = part) -> Iterator[Batch]:
            nonlocal passed
            for batch in part:
                passed += len(batch)
                yield batch

        each = None if progress is None else _beyond(progress, total)
        source = counted()
        name = None if batch_id is None else f"{batch_id} {number}"
        count = opened.write(name, partial(send, batches=source, progress=each))
        again = passed == 0  # it was committed before
        for _ in source:
            pass
        if again and count != passed:
            raise ValueRangeError(
                f"batch_id {batch_id!r}, part {number} had {count} rows when it was committed, and "
                f"has {passed} now; go on with the same rows and commit_every={size} as before"
            )
        total += count
        if progress is not None:
            progress(total)
    return total


def _beyond(progress: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda done: progress(before + done)


@as_it_is_now
def delete(
    self: Face,
    ids: Any = None,
    *,
    where: Where | None = None,
    batch_id: str | None = None,
    connection: object | None = None,
) -> int:
    """Deletes the rows with these ids, or those that a filter selects; returns how many."""
    opened = self._opened.on(connection)
    if (ids is None) == (where is None):
        raise ValueRangeError(
            "delete() takes ids or where=, one of the two; where={} deletes all rows"
        )
    if ids is None:
        return opened.write(batch_id, partial(rows.delete_where, request=opened.request(where)))
    keys = door_keys.checked_keys_or_key(ids, opened.info.key_type)
    return opened.write(batch_id, partial(rows.delete_ids, info=opened.info, keys=keys))


def adapt(self: Face, name: str, adaptor: Transform, *, progress: Progress | bool = False) -> None:
    """Copies the collection into a new one; see `Collection.adapt`."""
    opened = self._opened
    if opened.adaptor is not None:
        raise ValueRangeError(
            f'the vectors of collection "{opened.info.name}" are adapted already; adapt the '
            "collection that they came from"
        )
    check_transform(adaptor, opened.info.dims, opened.info.metric)
    source = opened.request()
    total = rows.count(opened.session, source, every=True)
    with reporting(progress, "rows") as report:
        each = None if report is None else lambda done: report(done, total)
        adapting.copy_changed(opened.session, source, name, adaptor.to_bytes(), adaptor.apply, each)


def create_index(
    self: Face,
    *,
    kind: IndexKind = "auto",
    m: int = 16,
    ef_construction: int = 64,
    concurrently: bool = False,
    progress: Progress | bool = False,
) -> None:
    """Builds the index that searches in PostgreSQL use, unless it is there; best after the load.

    Args:
        kind: "mrl", of the extension mrl_db, on the full vectors; "hnsw", of pgvector, on the
            low-dim vectors; "auto": mrl where the extension is, nothing where any index is.
        m: pgvector's links a node.
        ef_construction: Its candidates while building.
        concurrently: Without locking out writers, at about twice the time.
        progress: As above, in blocks of the table.

    Raises:
        ServerError: The kind is "mrl", and the extension is not in this database.
    """
    opened = self._opened
    door.checked_choice(kind, "kind", ("auto", "mrl", "hnsw"))
    door.checked_index(m, ef_construction)
    # Another client may have built or dropped it.
    opened.describe()
    with reporting(progress, "index") as report:
        indexing.create_index(
            opened.session,
            opened.info,
            kind=kind,
            m=m,
            ef_construction=ef_construction,
            concurrently=concurrently,
            progress=report,
        )
    opened.describe()
