"""Rows by key: on one server as ever; on several by the homes of their keys."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db import clashes, door, door_keys
from mrl_db.collection import searching, writing
from mrl_db.collection.opened import Face, Where, has_columns_inside
from mrl_db.door import Batch
from mrl_db.hits import Records
from mrl_db.model.errors import CommitUncertain, MrlDbError, PartlyWrittenError, ValueRangeError
from mrl_db.model.key import decode, id_array
from mrl_db.parts.homes import homes_of
from mrl_db.parts.opened import Holding
from mrl_db.parts.source import of
from mrl_db.postgres import rows
from mrl_db.postgres import write as write_rows
from mrl_db.postgres.session import Connection

Write = Callable[[Connection], int]


class OneServersRows:
    """Rows that are on one server, whatever parts search them."""

    add, upsert, delete = writing.add, writing.upsert, writing.delete
    get, count = searching.get, searching.count


class ServersRows:
    """Rows that are on several servers."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    def get(self, face: Face, ids: Any, *, columns: Sequence[str] | None) -> Records:
        """See `Collection.get`; every server is asked, as clients of yours may write, too."""
        opened = face._opened
        info = opened.info
        names = tuple(info.columns)
        if columns is not None:
            names = opened.checked(partial(door.checked_column_names, columns))
        keys = door_keys.checked_keys_or_key(ids, info.key_type)
        row_of: dict[Any, tuple[Any, ...]] = {}
        for present, vectors, values in self._holding.on_servers(
            lambda server: rows.get(server.session, server.info, keys, names, every=True)
        ):
            lists = [values[name] for name in names]
            row_of.update(zip(present, zip(vectors, *lists, strict=True), strict=True))
        there = [key for key in keys if key in row_of]
        return Records(
            id_array(there, info.key_type),
            rows.stacked([row_of[key][0] for key in there], info.dims),
            {name: [row_of[key][place] for key in there] for place, name in enumerate(names, 1)},
            info.wire_types,
            (info.key, info.vector),
        )

    def count(self, face: Face, where: Where | None) -> int:
        """See `Collection.count`."""
        request = face._opened.request(where)
        return sum(
            self._holding.on_servers(
                lambda server: rows.count(server.session, of(server, request), every=True)
            )
        )

    def add(
        self,
        face: Face,
        ids: Any,
        vectors: Any,
        *,
        on_conflict: Literal["error", "skip"],
        batch_id: str | None,
        **columns: Any,
    ) -> int:
        """See `Collection.add`."""
        door.checked_choice(on_conflict, "on_conflict", ("error", "skip"))
        _check_unmistaken(face, ids, vectors, batch_id)
        batch = face._opened.batch(ids, vectors, columns)
        return self._write(batch_id, self._by_home(batch, on_conflict))

    def upsert(
        self, face: Face, ids: Any, vectors: Any, *, batch_id: str | None, **columns: Any
    ) -> int:
        """See `Collection.upsert`."""
        _check_unmistaken(face, ids, vectors, batch_id)
        batch = face._opened.batch(ids, vectors, columns)
        return self._write(batch_id, self._by_home(batch, "replace"))

    def delete(self, face: Face, ids: Any, *, where: Where | None, batch_id: str | None) -> int:
        """See `Collection.delete`; on every server, wherever a row was written."""
        if (ids is None) == (where is None):
            raise ValueRangeError(
                "delete() takes ids or where=, one of the two; where={} deletes all rows"
            )
        numbered = list(enumerate(self._holding.servers))
        writes: dict[int, Write]
        if ids is None:
            request = face._opened.request(where)
            writes = {n: partial(rows.delete_where, request=of(s, request)) for n, s in numbered}
        else:
            keys = door_keys.checked_keys_or_key(ids, face._opened.info.key_type)
            writes = {n: partial(rows.delete_ids, info=s.info, keys=keys) for n, s in numbered}
        return self._write(batch_id, writes)

    def _by_home(
        self, batch: Batch, on_conflict: Literal["error", "skip", "replace"]
    ) -> dict[int, Write]:
        """Returns the write of each server that gets some of the rows."""
        servers = self._holding.servers
        homes = homes_of(decode(batch.keys, servers[0].info.key_type), len(servers))
        return {
            number: partial(
                write_rows.write,
                info=servers[number].info,
                batches=[_taken(batch, np.flatnonzero(homes == number))],
                on_conflict=on_conflict,
            )
            for number in np.unique(homes).tolist()
        }

    def _write(self, batch_id: str | None, writes: Mapping[int, Write]) -> int:
        """Commits a write on each of some servers under one batch_id; returns the rows of all."""
        name = door.checked_batch_id(batch_id) or f"parts {uuid.uuid4()}"
        servers = self._holding.servers

        def write(number: int, _: float | None) -> int | MrlDbError:
            try:
                return servers[number].write(name, writes[number])
            except MrlDbError as error:
                return error

        try:
            replies = self._holding.crew.ask(writes, write).given
        finally:
            self._holding.note_written()
        failed = {n: each for n, each in replies.items() if isinstance(each, MrlDbError)}
        if not failed:
            return sum(count for count in replies.values() if isinstance(count, int))
        first = next(iter(failed.values()))
        uncertain = any(isinstance(error, CommitUncertain) for error in failed.values())
        if len(failed) == len(replies) and not uncertain:
            raise first
        said = "; ".join(f"server {n} has not: {error}" for n, error in failed.items())
        raise PartlyWrittenError(
            f"{len(replies) - len(failed)} of {len(replies)} servers have their rows, {said}; the "
            f"same call with batch_id={name!r} completes it, and writes nothing twice",
            name,
            tuple(failed),
        ) from first


def _check_unmistaken(face: Face, ids: Any, vectors: Any, batch_id: str | None) -> None:
    if not has_columns_inside(ids, vectors):
        clashes.check_unmistaken(batch_id, face._opened.info)


def _taken(batch: Batch, positions: NDArray[np.int64]) -> Batch:
    """Returns some rows of a batch."""
    keys, numbers = batch.keys, positions.tolist()
    return replace(
        batch,
        keys=keys[positions] if isinstance(keys, np.ndarray) else [keys[n] for n in numbers],
        vectors=batch.vectors[positions],
        columns={name: [values[n] for n in numbers] for name, values in batch.columns.items()},
    )
