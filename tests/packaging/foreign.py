"""Tries the wheels that this machine's own interpreters cannot: of aarch64, and without the GIL.

    python tests/packaging/foreign.py FOLDER --root ROOT LIBRARY... [--tests]

FOLDER has the wheels, each LIBRARY is lib/pythonX.Y of an interpreter here, ROOT the small Debian
that interpreter.py speaks of. Each version's aarch64 wheel is imported under qemu, names its
instruction sets, and builds and answers (answers.py) bit for bit as this machine's wheel does; a
wheel without the GIL is searched from four threads at once. With --tests, the property tests of
kernels and native engine run under qemu too, by the first LIBRARY: the tests' server is of this
machine. Needs what interpreter.py needs, and this machine's wheel for the running Python.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from interpreter import Interpreter, make

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ARM = ("scalar", "neon", "neon_dotprod")  # all that qemu's CPU runs
ROWS = "1000"
NEEDS = ("numpy", "platformdirs", "psycopg", "psycopg-pool", "rich", "typer")


def find_wheel(folder: Path, version: str, machine: str) -> Path | None:
    """Returns the wheel of a version, such as 3.14t, for a machine."""
    abi = "cp" + version.replace(".", "")
    return next(folder.glob(f"*-{abi.rstrip('t')}-{abi}-*_{machine}.whl"), None)


def output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout


def answers_here(folder: Path, work: Path) -> tuple[str, Path]:
    """Returns what answers.py says by this machine's wheel, and the Python that has it."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wheel = find_wheel(folder, version, platform.machine())
    assert wheel is not None, f"no wheel of {version} for this machine in {folder}"
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
    python = work / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[embedded]"], check=True)
    said = output([str(python), str(HERE / "answers.py"), ROWS], work)
    return said.split()[0], python


def ready(wheel: Path, interpreter: Interpreter, psycopg: str) -> None:
    """Installs a wheel and what it needs; `psycopg` as there is one for the interpreter."""
    interpreter.install(*NEEDS, psycopg)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run(
        [*command, str(interpreter.packages), *interpreter.pip_options(), str(wheel)], check=True
    )


def check_arm(interpreter: Interpreter, answer: str, work: Path) -> None:
    """Imports under qemu, searches, and compares with this machine."""
    code = "import mrl_db; print(*mrl_db.available_simd())"
    assert output(interpreter.command("-c", code), work).split() == list(ARM)
    said = output(interpreter.command(str(HERE / "answers.py"), ROWS), work)
    assert {line.split()[0] for line in said.splitlines()} == {answer}, (said, answer)


def run_tests(interpreter: Interpreter, python: Path, work: Path) -> None:
    """Runs property tests under qemu; their database is a server of this machine."""
    interpreter.install("pytest", "hypothesis")
    serve = (
        "import sys, mrl_db\n"
        "with mrl_db.connect(home=sys.argv[1]) as db: print(db.dsn, flush=True); input()"
    )
    server = subprocess.Popen(
        [python, "-c", serve, str(work / "server")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=work,
    )  # fmt: skip
    assert server.stdout is not None
    dsn = server.stdout.readline().strip()
    try:
        files = ("property/test_kernels.py", "property/test_native.py", "unit/test_bindings.py")
        options = ("-q", "-x", "-p", "served", "-p", "no:cacheprovider", "-o", "addopts=")
        paths = (interpreter.packages, HERE)
        command = interpreter.command(
            "-m", "pytest", *options, "--import-mode=importlib",
            *(str(TESTS / file) for file in files),
            PYTHONPATH=os.pathsep.join(map(str, paths)), MRL_DB_TEST_DSN=dsn,
        )  # fmt: skip
        subprocess.run(command, check=True, cwd=work)
    finally:
        server.communicate("\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("libraries", type=Path, nargs="+", metavar="LIBRARY")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--tests", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        answer, python = answers_here(folder, work)
        for number, library in enumerate(options.libraries):
            found = re.search(r"python(\d\.\d+)$", str(library))
            assert found, f"{library}: wanted lib/pythonX.Y"
            version = found[1]
            for name, machine in ((version, "aarch64"), (f"{version}t", platform.machine())):
                wheel = find_wheel(folder, name, machine)
                if wheel is None:
                    continue
                interpreter = make(
                    work / f"{name}-{machine}", name, machine, options.root, library.resolve()
                )
                if machine == "aarch64":
                    ready(wheel, interpreter, "psycopg-binary")
                    check_arm(interpreter, answer, work)
                    if options.tests and number == 0:
                        run_tests(interpreter, python, work)
                else:
                    ready(wheel, interpreter, "psycopg")  # by the system's libpq
                    print(output(interpreter.command(str(HERE / "threads.py")), work), end="")
                print(f"{wheel.name}: whole", flush=True)


if __name__ == "__main__":
    main()
