"""What the build says where the package does not run."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake here")
def test_the_build_refuses_windows_and_names_the_way_out(tmp_path):
    command = ["cmake", "-S", str(ROOT), "-B", str(tmp_path), "-DCMAKE_SYSTEM_NAME=Windows"]

    done = subprocess.run(command, capture_output=True, text=True)

    said = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "was to be built for Windows; it runs on Linux" in said
    assert "WSL" in said
