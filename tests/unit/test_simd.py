import os
import subprocess
import sys

import pytest

import mrl_db


def run_with(name):
    code = "import mrl_db\ntry:\n    print(mrl_db.simd())\nexcept mrl_db.SimdError as error:\n    print(error)"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MRL_DB_SIMD": name},
        capture_output=True,
        cwd="/",
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.parametrize("name", mrl_db.available_simd())
def test_the_environment_forces_an_instruction_set(name):
    assert run_with(name) == name


def test_without_a_wish_the_best_is_chosen():
    assert run_with("") == mrl_db.available_simd()[-1]


def test_an_unknown_instruction_set_fails_by_name():
    said = run_with("sse9")

    assert '"sse9"' in said
    assert "scalar" in said
