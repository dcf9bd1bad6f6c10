"""An embedded PostgreSQL in a folder of the user's: made, started, joined and stopped.

- One folder holds one cluster and everything about it: `data` (the cluster), `run` (the socket),
  `server.log`, `lock`, `users`. It is made 0700; no permission is changed on any folder that was
  there before.
- The server listens on a Unix socket in `run` only, and knows its clients by their operating-system
  user (`peer`): no password to leak.
- Whether it lives is found out by asking it, never by a process id.
- `users` is locked (flock, shared) by every process that uses the server. The kernel drops such a
  lock when a process dies, however it dies; the process that can take it exclusively is the last
  one and stops the server.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import platformdirs
import psycopg
from psycopg import conninfo

from mrl_db.model.errors import ServerError
from mrl_db.postgres.server import extension
from mrl_db.postgres.server.folders import checked_folder, locked, private_folder
from mrl_db.postgres.server.programs import (
    SUPERUSER,
    Binaries,
    find_binaries,
    make_cluster,
    owned_by_server,
    pg_ctl,
)
from mrl_db.postgres.server.settings import (
    PORT,
    checked_settings,
    sensible_settings,
    write_settings,
)

_log = logging.getLogger("mrl_db")

_SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without its closing zero
_START_SECONDS = 300  # recovery after a crash may take long
_REAP_SECONDS = 30
_TELL_SECONDS = 5.0


def default_home() -> Path:
    """Returns the server's folder: MRL_DB_HOME, or `default` in the user's data folder."""
    home = os.environ.get("MRL_DB_HOME")
    if home:
        return checked_folder(home, "MRL_DB_HOME")
    return platformdirs.user_data_path("mrl_db") / "default"


def _checked_home(home: Path | str) -> Path:
    """Returns the folder, absolute; pg_ctl hands its name to a shell, which must not read it."""
    home = checked_folder(home, "home").absolute()
    odd = sorted(set(str(home)) & set('$`"\\,\n'))
    if odd:
        raise ServerError(
            f"the server's folder {str(home)!r} has {' '.join(map(repr, odd))} in its name, which "
            "PostgreSQL's programs would not take as it is; choose another home= or MRL_DB_HOME"
        )
    return home


class EmbeddedServer:
    """A running server in `home`, in use by this process until `release()` or the process's end."""

    def __init__(
        self,
        home: Path | str,
        *,
        version: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Joins the server in `home`, after making and starting it if need be.

        Args:
            home: The folder.
            version: 18 (default) or 16 for a new cluster; an existing one keeps its own.
            settings: Further lines of the configuration, for a server that this call starts.

        Raises:
            ServerError: It does not start; with the end of its log.
        """
        self.home = _checked_home(home)
        self._data = self.home / "data"
        self._settings = checked_settings(settings or {})
        private_folder(self.home, "MRL_DB_HOME")
        self._run = _socket_folder(self.home)
        self.binaries = find_binaries(self._version_to_use(version))
        self.dsn = conninfo.make_conninfo(
            host=str(self._run), port=PORT, user=SUPERUSER, dbname=SUPERUSER
        )
        with locked(self.home / "lock"):
            if not self._answers() and not (self._data / "PG_VERSION").exists():
                self._create()
            self._ensure_running()
            self._take_share()

    def _take_share(self) -> None:
        """Becomes one of the server's users, until `release()` or the end of the process."""
        self._users = os.open(self.home / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._users, fcntl.LOCK_SH)
        self._process = os.getpid()
        self._finalizer = weakref.finalize(
            self, _leave, self.home, self._data, self.binaries, self._users, self._process
        )

    def revive(self) -> None:
        """Starts the server again when it does not answer, for those who still use it.

        A forked child becomes a user by itself.
        """
        with locked(self.home / "lock"):
            self._ensure_running()
            if os.getpid() != self._process:
                os.close(self._users)  # the parent's share, which it keeps
                self._finalizer.detach()
                self._take_share()

    def _ensure_running(self) -> None:
        if not self._answers():
            self._start()

    def release(self) -> None:
        """Stops using the server; the last process that does stops it."""
        self._finalizer()

    def _version_to_use(self, version: int | None) -> int:
        marker = self._data / "PG_VERSION"
        if not marker.exists():
            return 18 if version is None else version
        there = int(marker.read_text())
        if version is not None and version != there:
            raise ServerError(
                f"PostgreSQL {version} was asked for, the cluster in {self.home} is of version "
                f"{there}; upgrade it (mrl-db upgrade), or use another home"
            )
        return there

    def _answers(self) -> bool:
        """Whether a server answers on the socket; waits while it starts up or goes down."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.dsn, connect_timeout=10).close()
            except psycopg.OperationalError as error:
                if not any(
                    said in str(error)
                    for said in (
                        "starting up",
                        "shutting down",
                        "in recovery mode",
                        "not yet accepting",
                    )
                ):
                    return False
                time.sleep(0.05)
            else:
                return True
        return False

    def _create(self) -> None:
        """Makes the cluster under another name, then renames it: a crash leaves no half cluster."""
        fresh = self.home / "data.new"
        make_cluster(self.binaries, fresh)
        fresh.rename(self._data)

    def _start(self) -> None:
        settings = {
            **sensible_settings(),
            **extension.settings(self.binaries.version),
            "unix_socket_directories": f'"{self._run}"',
            **self._settings,
        }
        write_settings(self._data, settings)
        postgres = extension.program(self.binaries.version, self.binaries.folder, self.home)
        log_path = self.home / "server.log"
        os.close(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        logged_before = log_path.stat().st_size
        # pg_ctl forks the server away from this process: nobody here has to reap it, and Ctrl-C
        # does not reach it.
        deadline = time.monotonic() + _REAP_SECONDS
        while True:
            with _telling(self.home, log_path):
                pg_ctl(
                    self.binaries,
                    self._data,
                    "start",
                    *("-w", "-t", str(_START_SECONDS)),
                    *("-l", str(log_path)),
                    *("-p", str(postgres)),
                )
                # One that did not answer a moment ago may have been there, busy with the crash of
                # a backend: pg_ctl starts none beside it.
                if self._answers():
                    return
            with log_path.open("rb") as log:
                log.seek(logged_before)
                said = log.read().decode(errors="replace").strip()[-2000:]
            # A server that was killed keeps its process id until its parent has reaped it, and
            # PostgreSQL takes that for alive. Its last children may still be going down, too.
            waiting = (
                'lock file "postmaster.pid" already exists',
                "pre-existing shared memory block",
            )
            if not any(reason in said for reason in waiting) or time.monotonic() > deadline:
                raise ServerError(
                    f"the embedded server in {self.home} did not start; its log says: {said}"
                )
            time.sleep(0.2)


@contextlib.contextmanager
def _telling(home: Path, log_path: Path) -> Iterator[None]:
    """Tells every few seconds, through logging, what a server does that takes long to start."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_SECONDS):
            with contextlib.suppress(OSError):
                said = log_path.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
                _log.warning(
                    "the embedded server in %s is still starting; its log says: %s",
                    home,
                    said[-1] if said else "nothing yet",
                )

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()


def _leave(home: Path, data: Path, binaries: Binaries, users: int, owner: int) -> None:
    """Drops this process's share; stops the server when nobody else has one. Not in a fork."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(FileNotFoundError), locked(home / "lock"):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(users)
            return
        pg_ctl(binaries, data, "stop", "-m", "fast", "-w", "-t", "60")
        os.close(users)


def _socket_folder(home: Path) -> Path:
    """Returns `run` in home, or a private folder elsewhere when a socket's path were too long."""
    folder = home / "run"
    if len(os.fsencode(folder / f".s.PGSQL.{PORT}")) > _SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        above = (
            Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
            / f"mrl_db-{os.geteuid()}"
        )
        private_folder(above, "XDG_RUNTIME_DIR")
        folder = above / name
    owned_by_server(folder)
    return folder
