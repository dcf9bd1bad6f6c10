import ast
from pathlib import Path

import mrl_db
from mrl_db import _kernels


def test_the_stub_names_what_the_compiled_module_has():
    stub = ast.parse((Path(mrl_db.__file__).parent / "_kernels.pyi").read_text())
    named = {
        node.name: node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }

    values = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}

    assert set(named) | values == {name for name in dir(_kernels) if not name.startswith("_")}
    for name in ("ExactScan", "CopyDecoder", "Index"):
        methods = {node.name for node in named[name].body if isinstance(node, ast.FunctionDef)}
        assert methods - {"__init__"} == {
            method for method in dir(getattr(_kernels, name)) if not method.startswith("_")
        }
