import glob
import os
import pathlib
import platform
import re
import subprocess
import sys

import pytest
from instruction_sets import SETS, needs, running

import mrl_db

ROOT = pathlib.Path(__file__).parents[2]
MACHINE = platform.machine()


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


@pytest.mark.parametrize("name", SETS.get(MACHINE, ()))
def test_a_set_runs_or_its_refusal_names_what_the_cpu_lacks(name):
    said = run_with(name)

    if name in mrl_db.available_simd():
        assert said == name
    else:
        assert f'"{name}", this CPU lacks ' in said
        assert any(feature in said for feature in needs(MACHINE, name))


@pytest.mark.parametrize("cpuinfo", glob.glob("/proc/cpuinfo"))
def test_what_runs_is_what_linux_says_the_cpu_has(cpuinfo):
    lines = pathlib.Path(cpuinfo).read_text().splitlines()
    flags = set(
        next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    )

    assert mrl_db.available_simd() == tuple(running(MACHINE, flags))


def test_files_the_build_the_page_and_the_twin_name_the_same_sets():
    if not (ROOT / "csrc" / "kernels").is_dir():
        pytest.skip("not in a source tree")
    twins = ["scalar", *(name for sets in SETS.values() for name in sets)]
    files = (ROOT / "csrc" / "kernels").glob("*.cpp")
    build = (ROOT / "CMakeLists.txt").read_text()
    page = (ROOT / "docs" / "native.md").read_text().partition("## Instruction sets")[2]

    assert {path.stem for path in files} == {*twins, "dispatch"}
    assert re.findall(r"^ *mrl_instruction_set\((\w+)", build, re.M) == twins
    assert re.findall(r"^\| `(\w+)` \|", page.partition("\n## ")[0], re.M) == twins
