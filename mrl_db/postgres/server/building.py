"""The extension for a server of yours: built from the sources in the package, and installed.

The package carries libraries for its embedded servers only. For any other the sources are compiled
against the server's own headers, which its pg_config names, by the Makefile that they come with.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mrl_db.model.errors import MissingDependencyError, ServerError

OLDEST_POSTGRES = 15  # that the access method compiles for
_TOOLS = {
    "make": "package make",
    "cmake": "package cmake, or pip install cmake",
    "c++": "package g++, of version 11 or later",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """A PostgreSQL server's installation, as its pg_config says."""

    pg_config: Path
    version: str  # "PostgreSQL 17.12 (Debian 17.12-0+deb13u1)"
    programs: Path
    headers: Path
    libraries: Path
    extensions: Path

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        digits = "".join(c if c.isdigit() else " " for c in self.version)
        return int(digits.split()[0])

    @property
    def has_headers(self) -> bool:
        """Whether a library can be compiled for it."""
        return (self.headers / "postgres.h").exists()

    @property
    def has_pgvector(self) -> bool:
        """Whether pgvector is installed there."""
        return (self.extensions / "vector.control").exists()

    @property
    def has_extension(self) -> bool:
        """Whether mrl_db is installed there."""
        return (self.extensions / "mrl_db.control").exists()


def find_installation(pg_config: Path | str | None = None) -> Installation:
    """Returns the installation that a pg_config speaks of; by default the one on the PATH.

    Raises:
        MissingDependencyError: There is no such program.
        ServerError: It does not answer as pg_config does.
    """
    named = shutil.which("pg_config" if pg_config is None else str(pg_config))
    if named is None:
        raise MissingDependencyError(
            "there is no pg_config on the PATH; it comes with the server's headers (package "
            "postgresql-server-dev-<version> or postgresql<version>-devel): name it with "
            "--pg-config"
            if pg_config is None
            else f"{pg_config} is no program that can be run; name the server's pg_config"
        )

    def ask(what: str) -> str:
        done = subprocess.run([named, what], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not done.stdout.strip():
            raise ServerError(f"{named} {what} says nothing; name the server's pg_config")
        return done.stdout.strip()

    version = ask("--version")
    if not any(c.isdigit() for c in version):
        raise ServerError(f"{named} says {version!r}, wanted PostgreSQL's version")
    return Installation(
        Path(named).absolute(),
        version,
        Path(ask("--bindir")),
        Path(ask("--includedir-server")),
        Path(ask("--pkglibdir")),
        Path(ask("--sharedir")) / "extension",
    )


def source_folder() -> Path:
    """Returns the folder with the extension's sources.

    Raises:
        MissingDependencyError: This copy of the package has none.
    """
    spec = find_spec("mrl_db")
    for package in (spec.submodule_search_locations if spec is not None else None) or ():
        folder = Path(package) / "extension_source"
        if (folder / "CMakeLists.txt").exists():
            return folder
    raise MissingDependencyError(
        "this installation of mrl_db has no sources of the extension; install the wheel again"
    )


def carried_version() -> str:
    """Returns the version of the extension that the package has the sources of."""
    control = source_folder() / "csrc" / "postgres" / "mrl_db.control"
    for line in control.read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "default_version":
            return value.strip().strip("'")
    raise ServerError(f"{control} says no default_version; install the wheel again")


def install(server: Installation, tell: Callable[[str], None] = lambda _: None) -> tuple[Path, ...]:
    """Builds the extension for a server and installs it, as `make install` would.

    Args:
        server: Where to.
        tell: Takes a line for each step.

    Returns:
        The files that are new.

    Raises:
        MissingDependencyError: A tool, or the server's headers are not here.
        ServerError: It does not compile, or this user may not write there; with what to run then.
    """
    _check_can_build(server)
    build = Path(tempfile.mkdtemp(prefix="mrl_db_build-"))
    tell(f"compiling for {server.version}, about a minute of CPU time")
    try:
        library = _build(server, build)
    except BaseException:
        shutil.rmtree(build, ignore_errors=True)
        raise
    source = source_folder()
    share = (
        source / "csrc" / "postgres" / "mrl_db.control",
        *sorted((source / "sql" / "extension").glob("mrl_db--*.sql")),
    )
    try:
        _put(library, server.libraries, 0o755)
        for file in share:
            _put(file, server.extensions, 0o644)
    except PermissionError as error:
        kept = shlex.join(["sudo", "install", "-m", "755", str(library), str(server.libraries)])
        more = shlex.join(
            ["sudo", "install", "-m", "644", *map(str, share), str(server.extensions)]
        )
        raise ServerError(
            f"this user may not write {error.filename}; the library is built, install it with\n"
            f"{kept} && {more}"
        ) from None
    shutil.rmtree(build, ignore_errors=True)
    return (
        server.libraries / library.name,
        *(server.extensions / file.name for file in share),
    )


def _check_can_build(server: Installation) -> None:
    if server.major < OLDEST_POSTGRES:
        raise ServerError(
            f"{server.version}: the index mrl needs PostgreSQL {OLDEST_POSTGRES} or later; "
            "everything else of mrl_db works without it"
        )
    if not server.has_headers:
        raise MissingDependencyError(
            f"{server.headers}/postgres.h is not there; install the server's headers (package "
            f"postgresql-server-dev-{server.major} or postgresql{server.major}-devel)"
        )
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=_tool_path()) is None:
            raise MissingDependencyError(f"{tool} is not here, which compiles it ({package})")


def _tool_path() -> str:
    """The PATH, and before it the folder of this Python: a cmake of pip's stands there."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _build(server: Installation, build: Path) -> Path:
    """Compiles; returns the library."""
    environment = {**os.environ, "PATH": _tool_path()}
    done = subprocess.run(
        [
            "make",
            f"--directory={source_folder() / 'csrc' / 'postgres'}",
            f"--jobs={os.cpu_count() or 1}",
            f"BUILD={build}",
            f"PG_CONFIG={server.pg_config}",
            "all",
        ],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    library = build / f"pg{server.major}" / "lib" / "mrl_db.so"
    if done.returncode != 0 or not library.exists():
        raise ServerError(
            f"the extension does not compile for {server.version}: "
            f"{(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return library


def _put(file: Path, folder: Path, mode: int) -> None:
    """Copies a file under another name, then renames it: a server may have the old one open."""
    fresh = folder / f".{file.name}.new"
    try:
        shutil.copyfile(file, fresh)
        fresh.chmod(mode)
        fresh.replace(folder / file.name)
    finally:
        fresh.unlink(missing_ok=True)
