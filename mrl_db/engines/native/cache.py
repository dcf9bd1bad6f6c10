"""Loaded collections as files: what took seconds to build is mapped by the next process at once.

A file holds an index exactly as of one position of the change log, and the log keeps what came
after for a reader that stands for the file (`mrl.reader`, a lease of a week). Whoever opens the
file begins where that reader stands, and applies what came since. A file whose reader is gone is of
no use, and is made again; so is one that is damaged, or of another version. Any of them may be
deleted at any time.

Whoever reads the table may open its files: a role whose rows policies choose makes and opens none.

A file of a standby's has no reader. Whoever opens it, or any file on a standby, begins there as one
who was away: the first question finds out whether the log can tell what came since; else rows are
compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import platformdirs

from mrl_db import _kernels
from mrl_db.model.errors import ServerError
from mrl_db.postgres import statements
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.changes import ChangeLog
from mrl_db.postgres.positions import UNREGISTERED, Position, Reader
from mrl_db.postgres.server.folders import locked, private_folder
from mrl_db.postgres.session import Session

FILE_LEASE = 7 * 86_400.0

_log = logging.getLogger("mrl_db")


def cache_folder() -> Path:
    """Returns the folder of the files: MRL_DB_CACHE, or `mrl_db` in the user's cache folder."""
    named = os.environ.get("MRL_DB_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("mrl_db")


@dataclass(frozen=True, slots=True)
class Cached:
    """An index out of a file, and where a reader of the log stands that has seen what it has."""

    index: _kernels.Index
    reader: Reader
    position: Position
    built_rows: int


class CacheFile:
    """The file of one collection, loaded for one plan."""

    def __init__(
        self, session: Session, info: CollectionInfo, relation: int, form: dict[str, Any]
    ) -> None:
        """Names the file.

        Args:
            session: To ask which database it is.
            info: The collection.
            relation: The table's oid.
            form: What else makes an index another one (`Loading.form`).

        Raises:
            ServerError: There is no private folder for it.
        """
        with session.connection() as connection:
            row = connection.execute(statements.query("database_identity")).fetchone()
        self._identity = {
            "database": [str(value) for value in row or ()],
            "relation": relation,
            "collection": [
                info.name,
                info.key,
                info.key_type,
                info.vector,
                info.vector_type,
                info.dims,
                info.metric.value,
            ],
            **form,
        }
        named = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:16]
        folder = cache_folder()
        private_folder(folder, "MRL_DB_CACHE")
        self.path = folder / f"{re.sub(r'[^A-Za-z0-9_]', '_', info.name)[:40]}-{named}.mrl"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lets one process at a time look for the file and make it; a process that dies lets go."""
        with locked(self.path.with_suffix(".lock")) as handle:
            os.utime(handle)  # in use: it is not swept away
            yield

    def open(self, log: ChangeLog, lease: float) -> Cached | None:
        """Maps the file and registers a reader that begins where it stands; None: of no use."""
        try:
            index, text = _kernels.Index.open(os.fspath(self.path))
            about = json.loads(text)
            if about["identity"] != self._identity:
                raise ValueError("it is another collection's")
            kept, position = _reader(about["reader"]), Position(**about["position"])
            built_rows = int(about["built_rows"])
        except (_kernels.FileError, ValueError, KeyError, TypeError) as error:
            if self.path.exists():
                _log.warning(
                    "the cached index %s cannot be used, and is made again: %s", self.path, error
                )
            return None
        reader = _registered(log, kept, position, lease)
        if reader is None:
            return None
        log.renew(kept, FILE_LEASE)
        os.utime(self.path)  # in use: it is not swept away
        return Cached(index, reader, position, built_rows)

    def save(self, log: ChangeLog, cached: Cached) -> None:
        """Writes the file, or logs why it cannot.

        The reader must have acknowledged just what the index holds.
        """
        needed = cached.index.bytes
        free = shutil.disk_usage(self.path.parent).free
        if free < needed + needed // 4:
            _log.warning(
                "the index is not cached: it takes %d MB, and %d MB are free in %s",
                needed >> 20,
                free >> 20,
                self.path.parent,
            )
            return
        kept = _registered(log, cached.reader, cached.position, FILE_LEASE)
        if kept is None:
            return
        before = self._reader_of_file()
        _sweep(self.path.parent)
        about = {
            "identity": self._identity,
            "position": asdict(cached.position),
            "reader": [str(kept.id), str(kept.token), kept.seen],
            "built_rows": cached.built_rows,
        }
        gone: uuid.UUID | None = kept.id
        try:
            cached.index.save(os.fspath(self.path), json.dumps(about))
            gone = None if before is None else before.id
        except _kernels.FileError as error:
            _log.warning("the index is not cached: %s", error)
        finally:
            if gone is not None:
                log.leave(gone)

    def _reader_of_file(self) -> Reader | None:
        """The registration that the file to be replaced stands on."""
        try:
            return _reader(json.loads(_kernels.about_file(os.fspath(self.path)))["reader"])
        except (_kernels.FileError, ValueError, KeyError, TypeError):
            return None


def _registered(log: ChangeLog, kept: Reader, position: Position, lease: float) -> Reader | None:
    """Registers a reader where another one stands, if that is a position; on standbys nobody is."""
    if log.standby or position.standby:
        return UNREGISTERED
    reader = log.register_from(kept, lease)
    return None if reader is None or reader.seen != position.snapshot else reader


def cache_file(
    session: Session, info: CollectionInfo, relation: int, form: dict[str, Any]
) -> CacheFile | None:
    """Returns the file of a collection, or None where there is no folder to keep it in."""
    try:
        return CacheFile(session, info, relation, form)
    except ServerError as error:
        _log.warning("indexes are not cached: %s", error)
        return None


def _sweep(folder: Path) -> None:
    """Removes files that nobody opened within their lease: the log has gone on without them."""
    for path in (*folder.glob("*.mrl"), *folder.glob("*.new"), *folder.glob("*.lock")):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > FILE_LEASE:
                path.unlink()


def _reader(values: list[str]) -> Reader:
    identifier, token, seen = values
    return Reader(uuid.UUID(identifier), uuid.UUID(token), seen)
