import ast
from pathlib import Path

import mrl_db
from mrl_db import _kernels


def public(names):
    return {name for name in names if not name.startswith("_")}


def members(node):
    """The names that a class of the stub defines."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            yield item.name
        elif isinstance(item, ast.AnnAssign):
            yield item.target.id
        elif isinstance(item, ast.Assign):
            yield from (target.id for target in item.targets)


def test_the_stub_names_what_the_compiled_module_has():
    stub = ast.parse((Path(mrl_db.__file__).parent / "_kernels.pyi").read_text())
    named = {
        node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    values = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}

    assert set(named) | values == public(dir(_kernels))
    for name, node in named.items():
        if isinstance(node, ast.ClassDef):
            compiled = getattr(_kernels, name)
            enumerated = getattr(compiled, "__members__", None)  # of the pybind11 kind
            own = public(vars(compiled) if enumerated is None else enumerated)
            assert public(members(node)) == own, name
