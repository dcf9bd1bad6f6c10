"""Includes of csrc go one way: what is kept, what runs over it, who may change it, who asks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "csrc"
ORDER = [
    {"system"},
    {"kernels"},
    {"store"},
    {"search"},
    {"graph"},
    {"index"},
    {"wire"},
    {"python", "postgres"},
]
LEVEL = {folder: level for level, folders in enumerate(ORDER) for folder in folders}
SOURCES = sorted(path for path in ROOT.rglob("*") if path.suffix in {".cpp", ".hpp", ".c", ".h"})

if not SOURCES:
    pytest.skip("not in a source tree", allow_module_level=True)


def included(path):
    for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
        for base in (path.parent, ROOT):
            target = (base / name).resolve()
            if target.is_relative_to(ROOT) and target.exists():
                yield target
                break


def folder(path):
    return path.relative_to(ROOT).parts[0]


def test_every_file_is_in_a_folder_of_the_order():
    assert {folder(path) for path in SOURCES} <= LEVEL.keys()


def test_includes_go_one_way():
    wrong = []
    for path in SOURCES:
        for target in included(path):
            own, other = folder(path), folder(target)
            if own != other and LEVEL[other] >= LEVEL[own]:
                wrong.append((str(path.relative_to(ROOT)), str(target.relative_to(ROOT))))

    assert wrong == []


def test_no_two_headers_of_a_folder_include_each_other():
    includes = {path: set(included(path)) for path in SOURCES}
    circles = [(a.name, b.name) for a in SOURCES for b in includes[a] if a < b and a in includes[b]]

    assert circles == []


def test_only_python_has_heard_of_python_and_only_system_of_operating_systems():
    speaks_python = {
        folder(path) for path in SOURCES if re.search(r"pybind11|Python\.h", path.read_text())
    }
    asks_for_system = re.compile(
        r"^#\s*(?:if|ifdef|elif).*(?:__linux__|__APPLE__|_WIN32|__unix__|__FreeBSD__)", re.MULTILINE
    )
    asking = {folder(path) for path in SOURCES if asks_for_system.search(path.read_text())}

    assert speaks_python <= {"python"}
    assert asking <= {"system", "postgres"}


def test_every_file_is_compiled_and_every_native_test_is_run():
    top = ROOT.parent
    build = "".join(
        (top / name).read_text() for name in ("CMakeLists.txt", "csrc/postgres/extension.cmake")
    )
    compiled = set(re.findall(r"csrc/[\w/]+\.c(?:pp)?\b", build))
    sets = re.findall(r"^ *mrl_instruction_set\((\w+)", build, re.MULTILINE)
    compiled |= {f"csrc/kernels/{name}.cpp" for name in sets}
    here = {path.relative_to(top).as_posix() for path in SOURCES if path.suffix in {".cpp", ".c"}}
    run = re.search(r"foreach\(test ([\w ]+)\)", build)[1].split()

    assert here - compiled == set()
    assert {path.stem for path in (top / "tests" / "native").glob("*_test.cpp")} == set(run)
