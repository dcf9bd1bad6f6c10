"""A module imports only from the lines above its own; within a line nobody imports anybody.

The lines are the floors of docs/design.md. A package has a line of its own where it must import
nothing of its modules; a new module needs a place here.
"""

import ast
from pathlib import Path

import mrl_db

LAYERS = """
lifetime model.errors
tasks
model model.html model.precision model.pca model.texts
model.values
model.json_filters
model.arrays model.filters model.key model.metric model.plan
model.promise model.diversity
_kernels
door_keys door_dims
door
kernels model.nesting clashes rewriting
faces.progress faces.exports
hits postgres.dates
postgres postgres.cursor postgres.dsn postgres.owners postgres.positions postgres.statements postgres.vectors postgres.watch
postgres.required postgres.snapshots postgres.twin
postgres.session postgres.conditions
postgres.borrowed postgres.async_owners
postgres.lines
postgres.migrations postgres.catalog postgres.health postgres.standbys
postgres.request postgres.batches postgres.changes postgres.encode postgres.fitting postgres.indexing postgres.link
postgres.copy_out postgres.groups postgres.rows postgres.update postgres.write
postgres.adapting postgres.pages postgres.written
postgres.server postgres.server.folders postgres.server.programs postgres.server.settings
postgres.server.building postgres.server.extension
postgres.server.embedded
postgres.server.upgrade
engines engines.plan_space
engines.engine engines.sql_plans
engines.sql engines.exact
engines.words
engines.native engines.native.remembered engines.native.projection engines.native.memory engines.native.unique_keys
engines.native.background engines.native.lease engines.native.journal engines.native.plans engines.native.cache
engines.native.rescoring
engines.native.default_effort
engines.native.index
engines.native.catching_up engines.native.comparing engines.native.selections engines.native.traces
engines.native.following
engines.native.engine
evaluate evaluate.metrics
evaluate.representations
evaluate.nestedness
recall recall.bounds recall.query_log recall.source
recall.promises recall.sample
recall.measurement recall.fates
recall.explorer
recall.tuner recall.evidence
recall.report
learn.pytorch learn.rotation learn.layer_norm
learn.training
learn.adaptor learn.losses
learn learn.transform
classify.heads classify.stopping
classify.answers classify.targets
classify.evidence
classify.cascade
classify classify.stored
faces faces.frames
faces.sources
collection.opened
collection.refining collection.wording collection.replaying
collection.writing collection.rows collection.searching collection.loading collection.classifying
collection.promising collection.embedding
collection
database
async_
parts.homes parts.merge parts.part
parts.crew parts.together parts.planners
parts.direct
parts.engine
parts.source
parts.opened
parts.rows
parts.parted
parts.threads parts.ray
parts
integrations integrations.alembic integrations.filters integrations.rows
integrations.layout
integrations.langchain integrations.llama_index integrations.haystack_documents
integrations.haystack
faces.demo faces.doctor faces.options faces.extending
faces.demo.walkthrough
faces.cli
"""
ORDER = {name: level for level, line in enumerate(LAYERS.split("\n")) for name in line.split()}
PACKAGE = Path(mrl_db.__file__).parent


def layer(module):
    assert module in ORDER, f"{module} stands in no layer"
    return ORDER[module]


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
    wrong = [
        (module, name)
        for path in PACKAGE.rglob("*.py")
        if (module := module_of(path))
        for name in imports(path)
        if name != module and layer(name) >= layer(module)
    ]

    assert wrong == []


def test_every_line_names_modules_that_there_are():
    modules = {module_of(each) for each in PACKAGE.rglob("*.py")} | {"_kernels"}

    assert set(ORDER) == modules - {""}
