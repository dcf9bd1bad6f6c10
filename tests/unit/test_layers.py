"""A module imports only from what stands above it: words, kernels, postgres, engines, evaluate, tuning, learn, classify, handle, declared, collection, database, faces."""

import ast
from pathlib import Path

import mrl_db

ORDER = [
    {
        "errors",
        "metric",
        "precision",
        "nesting",
        "plan",
        "hits",
        "filters",
        "values",
        "progress",
        "sources",
        "projection",
        "folders",
        "arguments",
    },
    {"_kernels", "kernels"},
    {"postgres"},
    {"engines"},
    {"evaluate"},
    {"tuning"},
    {"learn", "classify"},
    {"handle"},
    {"declared"},
    {"collection"},
    {"database"},
    {"demo"},
    {"cli"},
]
PACKAGE = Path(mrl_db.__file__).parent


def layer(module):
    return next(level for level, names in enumerate(ORDER) if module in names)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mrl_db"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def test_every_module_imports_upwards_only():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if module == "__init__":
            continue
        wrong += [(module, name) for name in imports(path) if layer(name) > layer(module)]

    assert wrong == []
