"""The extension built for a server of yours, by tools that stand in for the slow ones."""

import os
from pathlib import Path

import pytest

from mrl_db.model.errors import MissingDependencyError, ServerError
from mrl_db.postgres.server import building


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder of programs: a make that writes the library at once, or fails; the others do nothing."""
    folder = tmp_path / "tools"
    folder.mkdir()
    program(
        folder / "make",
        'for a in "$@"; do case $a in BUILD=*) build=${a#BUILD=};; esac; done\n'
        '[ -z "$FAIL" ] || { echo "scan.c:1: error: $FAIL" >&2; exit 2; }\n'
        'mkdir -p "$build/pg17/lib" && echo library > "$build/pg17/lib/mrl_db.so"',
    )
    program(folder / "cmake", ":")
    program(folder / "c++", ":")
    monkeypatch.setattr(building, "_tool_path", lambda: f"{folder}{os.pathsep}/usr/bin:/bin")
    monkeypatch.setattr(building.tempfile, "tempdir", str(tmp_path))
    return folder


@pytest.fixture
def server(tmp_path):
    """A server that is only folders and a pg_config."""
    for name in ("include", "lib", "share/extension"):
        (tmp_path / "pg" / name).mkdir(parents=True)
    (tmp_path / "pg/include/postgres.h").touch()
    return building.find_installation(pg_config(tmp_path, "PostgreSQL 17.12 (Debian 17.12-0)"))


def pg_config(tmp_path, version):
    home = tmp_path / "pg"
    return program(
        tmp_path / "pg_config",
        f'case $1 in --version) echo "{version}";; --includedir-server) echo {home}/include;;'
        f" --pkglibdir) echo {home}/lib;; --sharedir) echo {home}/share;;"
        f" --bindir) echo {home}/bin;; esac",
    )


def test_the_library_and_its_sql_are_installed_where_pg_config_says(server, tools):
    told = []

    files = building.install(server, told.append)

    assert (server.libraries / "mrl_db.so").read_text() == "library\n"
    assert {file.name for file in files} == {"mrl_db.so", "mrl_db.control", "mrl_db--0.1.sql"}
    assert all(file.exists() for file in files)
    assert server.has_extension
    assert "PostgreSQL 17.12" in told[0]


def test_a_second_installation_replaces_the_first_and_leaves_no_folder(server, tools, tmp_path):
    building.install(server)

    building.install(server)

    assert [file.name for file in server.libraries.iterdir()] == ["mrl_db.so"]
    assert list(tmp_path.glob("mrl_db_build-*")) == []


def test_who_may_not_write_there_gets_the_command_that_may(server, tools, monkeypatch):
    def refuse(file, folder, mode):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(building, "_put", refuse)

    with pytest.raises(ServerError, match="sudo install -m 755 ") as error:
        building.install(server)

    library = Path(str(error.value).split("sudo install -m 755 ")[1].split()[0])
    assert library.exists()
    assert f"{server.extensions}" in str(error.value)


def test_what_the_compiler_says_is_passed_on(server, tools, monkeypatch, tmp_path):
    monkeypatch.setenv("FAIL", "no such header")

    with pytest.raises(ServerError, match="no such header"):
        building.install(server)

    assert list(tmp_path.glob("mrl_db_build-*")) == []


def test_what_is_missing_is_named_with_its_package(server, tools, tmp_path, monkeypatch):
    (tools / "cmake").unlink()
    monkeypatch.setattr(building, "_tool_path", lambda: str(tools))
    with pytest.raises(MissingDependencyError, match="pip install cmake"):
        building.install(server)

    (server.headers / "postgres.h").unlink()
    with pytest.raises(MissingDependencyError, match="postgresql-server-dev-17"):
        building.install(server)

    with pytest.raises(MissingDependencyError, match="pg_config"):
        building.find_installation(tmp_path / "nowhere")


def test_an_older_postgresql_is_refused_with_what_works(tmp_path, tools):
    old = building.find_installation(pg_config(tmp_path, "PostgreSQL 14.9"))

    with pytest.raises(ServerError, match="needs PostgreSQL 15 or later"):
        building.install(old)


def test_a_program_that_is_no_pg_config_is_refused(tmp_path):
    with pytest.raises(ServerError, match="says nothing"):
        building.find_installation(program(tmp_path / "pg_config", "exit 1"))
    with pytest.raises(ServerError, match="wanted PostgreSQL's version"):
        building.find_installation(program(tmp_path / "pg_config", "echo hello"))


def test_the_sources_in_the_package_are_those_of_the_makefile():
    folder = building.source_folder()

    assert building.carried_version() == "0.1"
    assert (folder / "csrc" / "postgres" / "Makefile").exists()
    assert (folder / "sql" / "extension" / "mrl_db--0.1.sql").exists()
    cmake = (folder / "CMakeLists.txt").read_text() + (
        folder / "csrc" / "postgres" / "extension.cmake"
    ).read_text()
    needed = cmake.split("add_library(mrl_paged STATIC")[1].split(")")[0].split()
    assert needed
    assert all((folder / name).exists() for name in needed)
