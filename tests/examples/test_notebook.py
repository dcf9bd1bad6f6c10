"""The notebook, run by a kernel as its reader runs it, twice in a row on one database."""

import nbclient
import nbformat

from .conftest import EXAMPLES


def test_the_notebook_runs_and_shows_its_tables(dsn, monkeypatch):
    monkeypatch.setenv("MRL_DB_DSN", dsn)  # the kernel has it, too
    for _ in range(2):
        notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)

        nbclient.NotebookClient(notebook, timeout=300).execute()

        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        shown = [
            str(output.get("data", output.get("text"))) for cell in cells for output in cell.outputs
        ]
        assert any("384 dims" in each or "(5200, 384)" in each for each in shown)
        tables = sum("<table" in each for each in shown)
        assert tables >= 5  # the collection, hits, traces, the promise
