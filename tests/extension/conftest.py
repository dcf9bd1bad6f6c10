"""A server of its own with the extension in reach: by its search paths from PostgreSQL 18 on, in a copy of the server before."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import shutil
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from mrl_db.postgres.server import embedded

_number = itertools.count()


def _link(source, target):
    """Copies by a second name where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _with_module(binaries: embedded.Binaries, module: Path, folder: Path) -> embedded.Binaries:
    """A copy of a server that has the module among its own."""
    install = binaries.folder.parent
    shutil.copytree(install, folder / install.name, copy_function=_link, symlinks=True)
    libraries = install.parent / f"{install.parent.name}.libs"
    if not libraries.exists():
        libraries = install.parent.parent / f"{install.parent.name}.libs"
    if libraries.exists():
        shutil.copytree(libraries, folder.parent / libraries.name, copy_function=_link)
    for file in (module / "lib").iterdir():
        shutil.copy2(file, folder / install.name / "lib" / "postgresql")
    for file in (module / "share" / "extension").iterdir():
        shutil.copy2(file, folder / install.name / "share" / "postgresql" / "extension")
    return embedded.Binaries(binaries.version, folder / install.name / "bin")


class Server:
    """The server, and how to get at its process."""

    def __init__(self, home: Path, version: int):
        module = Path(
            str(importlib.metadata.distribution("mrl_db").locate_file(f"mrl_db/pg{version}"))
        )
        assert (module / "lib" / "mrl_db.so").exists(), f"the extension is not built: {module}"
        settings = {
            "shared_buffers": "64MB",
            "autovacuum": "off",
            "max_wal_size": "1GB",
            "fsync": "off",  # the servers here are killed, the machine never is
        }
        if version >= 18:
            settings["extension_control_path"] = f"{module}/share:$system"
            settings["dynamic_library_path"] = f"{module}/lib:$libdir"
        else:
            copied = _with_module(
                embedded.find_binaries(version), module, home / "copy" / "package"
            )
            self._found = embedded.find_binaries
            embedded.find_binaries = lambda _: copied
        self.home = home
        self.embedded = embedded.EmbeddedServer(home / "server", version=version, settings=settings)
        if version < 18:
            embedded.find_binaries = self._found
        self.dsn = self.embedded.dsn

    def kill(self):
        """Ends all of its processes as a power cut would, and starts it again."""
        pid = int((self.home / "server" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, 9)
        self.embedded.revive()


@pytest.fixture(scope="session")
def extension_server(tmp_path_factory, postgres_version):
    """A server for the extension's tests."""
    server = Server(tmp_path_factory.mktemp("extension"), postgres_version)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_extension")
    template = conninfo.make_conninfo(server.dsn, dbname="template_extension")
    with psycopg.connect(template, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION mrl_db CASCADE")
    yield server
    server.embedded.release()


@pytest.fixture
def new_database(extension_server):
    """A fresh database with both extensions: its connection string."""
    name = f"extension_{next(_number)}"
    with psycopg.connect(extension_server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_extension STRATEGY file_copy")
    yield conninfo.make_conninfo(extension_server.dsn, dbname=name)
    with psycopg.connect(extension_server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connection(new_database):
    """A session in it whose planner takes an index when it can."""
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off")
        yield session
