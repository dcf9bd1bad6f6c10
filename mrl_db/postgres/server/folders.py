"""Folders that are this user's alone: for an embedded server, for cached indexes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mrl_db.model.errors import ServerError, ValueRangeError


def checked_folder(value: object, what: str) -> Path:
    """Returns a folder that a system could have, without "~"; `what` is the argument's name."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise ValueRangeError(f"{what} is {value!r:.60}, wanted a path: a str or a pathlib.Path")
    path = Path(value)
    if "\0" in str(path) or not _is_unicode(str(path)):
        raise ValueRangeError(
            f"{what} is {str(path)!r:.60}, wanted a path of valid Unicode without NUL characters"
        )
    try:
        return path.expanduser()
    except RuntimeError as error:  # of a "~" that is nobody's
        raise ValueRangeError(f"{what} is {str(path)!r:.60}: {error}") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def private_folder(path: Path, variable: str) -> None:
    """Makes a folder that only this user can enter.

    One that is there keeps its permissions. An ordinary user's files are 0700 and 0600 themselves;
    what root's server writes belongs to nobody, and only the folder above keeps others out.

    Args:
        path: Of the folder.
        variable: The environment variable that names another one, for the message.

    Raises:
        ServerError: It cannot be made, or lets others in.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"cannot make the folder {path}: {error.strerror}; set {variable} to one that you can "
            "write to"
        ) from None
    entry = path.lstat()
    if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != os.geteuid():
        raise ServerError(f"{path} is not a folder of this user; set {variable} to one that is")
    forbidden = 0o077 if os.geteuid() == 0 else 0o022
    if stat.S_IMODE(entry.st_mode) & forbidden:
        raise ServerError(
            f"{path} is open to other users (mode {stat.S_IMODE(entry.st_mode):o}); chmod 700 it, "
            f"or set {variable} to another folder"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Holds a lock file for the block; the kernel drops it when the process dies.

    Yields:
        The open file.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b"):
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield handle
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a child forked meanwhile has the file, too
