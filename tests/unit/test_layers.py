"""A module imports only from what stands above it here; a line is a layer, and within a layer nobody imports anybody."""

import ast
from pathlib import Path

import mrl_db

# The longest name that a module begins with says where it stands.
LAYERS = """
model.errors
model.precision model.metric model.nesting model.pca model.values
model.filters model.plan
model.promise
_kernels
kernels
faces.progress faces.sources
hits
door
postgres.statements postgres.server.folders
postgres.server
postgres.session
postgres.migrations postgres.catalog
postgres.request postgres.conditions postgres
engines.plan_space
engines
evaluate.metrics
evaluate.representations
evaluate
recall.bounds recall.query_log
recall.promises recall.sample
recall.measurement recall.fates
recall.explorer
recall.tuner recall.evidence
recall
learn
classify

handle
declared
collection
database
faces
"""
ORDER = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}
PACKAGE = Path(mrl_db.__file__).parent


def layer(module):
    names = [name for name in ORDER if module == name or module.startswith(name + ".")]
    assert names, f"{module} stands in no layer"
    return ORDER[max(names, key=len)]


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """The modules of the package that a file imports, in whichever form of the statement."""
    modules = {module_of(each) for each in PACKAGE.rglob("*.py")} | {"_kernels"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("mrl_db."):
                module = name.removeprefix("mrl_db.")
                yield module if module in modules else module.rpartition(".")[0]


def test_every_module_imports_upwards_only():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        module = module_of(path)
        if module:
            wrong += [
                (module, name)
                for name in imports(path)
                if name != module and layer(name) >= layer(module) and not same_room(module, name)
            ]

    assert wrong == []


def same_room(module, name):
    """Within one package whose order is not listed, anything goes."""
    return layer(module) == layer(name) and module.split(".")[0] == name.split(".")[0]
