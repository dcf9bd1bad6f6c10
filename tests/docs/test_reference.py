"""The reference has every public name; it is read as text, and needs nothing of mkdocs."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import mrl_db
from mrl_db import classify, evaluate, integrations, learn, parts
from mrl_db.faces import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DIRECTIVES = [
    name
    for page in sorted((DOCS / "reference").glob("*.md"))
    for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
]


def source_of(module):
    """The file of a module, which may need a package that is not here."""
    path = ROOT / Path(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def public_names(module):
    """The classes and functions that a module defines, by its text."""
    tree = ast.parse(source_of(module).read_text())
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [each.name for each in tree.body if isinstance(each, kinds) and each.name[0] != "_"]


def listed(name):
    """Whether a directive's last part is a name: classes are documented under their modules."""
    return any(each.rpartition(".")[2] == name for each in DIRECTIVES)


@pytest.mark.parametrize("name", [*mrl_db.__all__, *mrl_db._OF_ASYNC])
def test_every_public_name_is_in_the_reference_once(name):
    assert DIRECTIVES.count(f"mrl_db.{name}") == 1


@pytest.mark.parametrize("package", [learn, classify, parts], ids=lambda each: each.__name__)
def test_every_name_of_a_package_is_in_the_reference(package):
    assert [name for name in package.__all__ if not listed(name)] == []


def test_every_method_of_collections_is_in_the_reference():
    for name, method in inspect.getmembers(mrl_db.Collection, inspect.isfunction):
        path = f"{method.__module__}.{method.__qualname__}"
        by_class = path.startswith("mrl_db.collection.Collection.")
        assert name.startswith("_") or by_class or path in DIRECTIVES, path


@pytest.mark.parametrize("results", [mrl_db.Hits, mrl_db.Records])
def test_every_frame_that_results_become_is_in_the_reference(results):
    methods = inspect.getmembers(results, inspect.isfunction)
    frames = [each for name, each in methods if name.startswith("to_") and name != "to_list"]
    assert {f"{each.__module__}.{each.__qualname__}" for each in frames} <= set(DIRECTIVES)
    assert len(frames) >= 3


@pytest.mark.parametrize("store", ["alembic", "haystack", "langchain", "llama_index"])
def test_every_integration_is_in_the_reference(store):
    module = f"{integrations.__name__}.{store}"
    assert {f"{module}.{name}" for name in public_names(module)} <= set(DIRECTIVES)


@pytest.mark.parametrize("part", ["metrics", "nestedness"])
def test_every_measure_is_in_the_reference(part):
    module = f"{evaluate.__name__}.{part}"
    inner = {"percentile05"}  # of a mean's neighbours
    names = {f"{module}.{name}" for name in public_names(module) if name not in inner}
    assert names <= set(DIRECTIVES)


@pytest.mark.parametrize("path", DIRECTIVES)
def test_every_directive_is_of_something(path):
    if path == "mrl_db.model.filters" or source_of(path).exists():
        assert ast.get_docstring(ast.parse(source_of(path).read_text()))
        return
    module, _, name = path.rpartition(".")
    if module == "mrl_db":
        assert getattr(mrl_db, name).__doc__
    elif "integrations" in module or module == "mrl_db.learn.losses":
        assert name in public_names(module)
    else:
        assert hasattr(importlib.import_module(module), name)


def test_every_command_is_in_the_reference():
    page = (DOCS / "reference" / "command-line.md").read_text()
    commands = [each.name or each.callback.__name__ for each in cli.app.registered_commands]
    groups = [each.name or each.typer_instance.info.name for each in cli.app.registered_groups]
    assert set(re.findall(r"^\| `mrl-db (\S+)`", page, re.MULTILINE)) == {*commands, *groups}


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = set(re.findall(r"(\S+\.md)$", navigation, re.MULTILINE))
    assert named == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_nothing_of_the_site_comes_from_elsewhere():
    configuration = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in configuration
    assert "http" not in configuration
