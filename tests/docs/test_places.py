"""Files and folders that comments and pages send a reader to are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("csrc", "mrl_db", "sql", "tests", "docs", "benchmarks", "examples")
SOURCES = {".py", ".pyi", ".cpp", ".hpp", ".c", ".h", ".sql", ".md"}
# Left out: what a build makes, a measurement's machine, and words in capitals that stand for any.
MADE = re.compile(r"mrl_db/(sql|extension_source|pg\d*)\b|benchmarks/record|[A-Z]{4}")
CSRC = ("system", "kernels", "store", "search", "graph", "index", "wire", "python", "postgres")
NAMED = re.compile(rf"(?<![\w/.-])((?:{'|'.join((*FOLDERS, *CSRC))})/[\w./-]*\w)")

if not (ROOT / "csrc").is_dir():
    pytest.skip("not in a source tree", allow_module_level=True)

FILES = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
]
NAMES = {path.name for path in FILES} | {path.stem for path in FILES}
PLACES = {path.relative_to(ROOT).as_posix() for path in FILES}
PLACES |= {place.rpartition(".")[0] for place in PLACES}
PLACES |= {each.as_posix() for place in PLACES for each in Path(place).parents}
READ = [path for path in (*FILES, *ROOT.glob("*.md")) if path.suffix in SOURCES]


def is_there(place, path):
    beside = (path.parent.relative_to(ROOT) / place).as_posix()
    return {place, f"csrc/{place}", f"mrl_db/{place}", beside} & PLACES


def test_places_that_are_named_are_there():
    missing = {
        (path.relative_to(ROOT).as_posix(), place)
        for path in READ
        if "record" not in path.parts
        for place in NAMED.findall(path.read_text(encoding="utf-8"))
        if not MADE.search(place) and not is_there(place, path)
    }

    assert missing == set()


def test_where_to_change_what_names_files_that_are_there():
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where do I change")[2]
    named = re.findall(r"`(?:[\w/.-]*/)?(\w+\.(?:py|pyi|[ch]pp|[ch]|sql|txt|md))`", table)

    assert len(named) > 100
    assert {each for each in named if each not in NAMES} <= {
        "NAME.cpp",
        "CMakeLists.txt",
        "CHANGELOG.md",
    }
