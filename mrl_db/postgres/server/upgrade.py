"""An embedded cluster brought to a newer PostgreSQL, with its data.

pg_upgrade writes a new cluster beside the old one; only when it has succeeded do they change
places, and the old one stays until the new one has answered. Whatever fails before that leaves the
old cluster as it was.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
from pathlib import Path

from mrl_db.model.errors import ServerError
from mrl_db.postgres.server import extension
from mrl_db.postgres.server.embedded import EmbeddedServer
from mrl_db.postgres.server.folders import locked
from mrl_db.postgres.server.programs import (
    SUPERUSER,
    Binaries,
    find_binaries,
    let_in,
    make_cluster,
    owned_by_server,
    pg_ctl,
    run_program,
)
from mrl_db.postgres.server.settings import write_settings


def upgrade(home: Path, version: int = 18) -> tuple[int, int]:
    """Upgrades the cluster in `home`.

    Returns:
        The version before, and the version now; the same when there was nothing to do.

    Raises:
        ServerError: A process uses the server, or pg_upgrade refuses; with what it said.
    """
    home = home.absolute()
    data = home / "data"
    if not (data / "PG_VERSION").exists():
        raise ServerError(f"there is no embedded cluster in {home}")
    before = int((data / "PG_VERSION").read_text())
    new = find_binaries(version)
    if before == version:
        return before, version
    if before > version:
        raise ServerError(f"the cluster in {home} is of version {before}, newer than {version}")
    server = EmbeddedServer(home)  # once more by the old version: what a crash left is recovered
    old = server.binaries
    server.release()
    with locked(home / "lock"):
        users = os.open(home / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(users)
            raise ServerError(
                f"the server in {home} is in use; close its databases, then upgrade"
            ) from None
        try:
            pg_ctl(old, data, "stop", "-m", "fast", "-w", "-t", "60")
            _upgrade(home, old, new)
        finally:
            os.close(users)
    EmbeddedServer(home).release()
    shutil.rmtree(home / "data.old", ignore_errors=True)
    return before, version


def _upgrade(home: Path, old: Binaries, new: Binaries) -> None:
    data, fresh, work, kept = home / "data", home / "data.new", home / "upgrade", home / "data.old"
    here = pwd.getpwuid(os.geteuid()).pw_name
    servers = "nobody" if os.geteuid() == 0 else here
    shutil.rmtree(kept, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    owned_by_server(work)
    try:
        make_cluster(
            new, fresh, ["--locale=C", *(["--no-data-checksums"] if new.version >= 18 else [])]
        )
        # pg_upgrade runs, and connects, as the servers' user.
        let_in(data, here, servers)
        let_in(fresh, here, servers)
        # Without the socket of another server; both load the extension of an index that is copied.
        write_settings(data, extension.settings(old.version))
        write_settings(fresh, extension.settings(new.version))
        run_program(
            new,
            "pg_upgrade",
            f"--old-bindir={old.folder}",
            f"--new-bindir={new.folder}",
            f"--old-datadir={data}",
            f"--new-datadir={fresh}",
            f"--username={SUPERUSER}",
            f"--socketdir={work}",
            folder=work,
        )
        let_in(fresh, here)
    except BaseException:
        let_in(data, here)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    data.rename(kept)
    fresh.rename(data)
