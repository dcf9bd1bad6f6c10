"""The notebook's cells, in this process, where no kernel is needed."""

import json

from .conftest import EXAMPLES

NOTEBOOK = json.loads((EXAMPLES / "tour.ipynb").read_text())


def test_the_notebook_is_stored_without_outputs():
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

    assert cells
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


def test_the_cells_run(dsn, monkeypatch):
    monkeypatch.setenv("MRL_DB_DSN", dsn)
    names = {}

    for number, cell in enumerate(NOTEBOOK["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)

    assert names["promise"].recall.low >= 0.9
    assert names["docs"].plan == names["promise"].plan
    assert names["before"].tolist() != ["new"]
    assert names["found"].answer.dims.mean() < 192
