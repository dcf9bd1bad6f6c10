import glob
import os
import pathlib
import platform
import subprocess
import sys

import pytest

import mrl_db

# Of each set: its base, and what it needs beside it, as Linux names it.
SETS = {
    "x86_64": {
        "avx2": (None, {"avx2", "fma", "f16c", "popcnt"}),
        "avx2_vnni": ("avx2", {"avx_vnni"}),
        "avx512": ("avx2", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
        "avx512_vnni": ("avx512", {"avx512_vnni"}),
        "avx512_icelake": ("avx512_vnni", {"avx512_vpopcntdq"}),
    },
    "aarch64": {"neon": (None, {"asimd"}), "neon_dotprod": ("neon", {"asimddp"})},
}.get(platform.machine(), {})


def needs(name):
    base, added = SETS[name]
    return added if base is None else added | needs(base)


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


@pytest.mark.parametrize("name", SETS)
def test_a_set_runs_or_its_refusal_names_what_the_cpu_lacks(name):
    said = run_with(name)

    if name in mrl_db.available_simd():
        assert said == name
    else:
        assert f'"{name}", this CPU lacks ' in said
        assert any(feature in said for feature in needs(name))


@pytest.mark.parametrize("cpuinfo", glob.glob("/proc/cpuinfo"))
def test_what_runs_is_what_linux_says_the_cpu_has(cpuinfo):
    lines = pathlib.Path(cpuinfo).read_text().splitlines()
    flags = set(
        next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
    )

    expected = [name for name in SETS if needs(name) <= flags]

    assert mrl_db.available_simd() == ("scalar", *expected)
