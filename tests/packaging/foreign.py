"""Tries the wheels that this machine's own interpreters cannot: of aarch64, or without the GIL.

    python tests/packaging/foreign.py FOLDER --root ROOT PYTHON... [--tests] [--rows N]
    python tests/packaging/foreign.py FOLDER --free-threaded PYTHON...

FOLDER has the wheels, each PYTHON is an interpreter of this machine, ROOT the C library that
interpreter.py speaks of. Each version's aarch64 wheel is imported under qemu, names its instruction
sets, and builds and answers (answers.py) bit for bit as this machine's wheel does. With --tests,
the property tests of kernels and native engine run, too, by the first PYTHON's version: the tests'
server is of this machine. A wheel without the GIL, of this machine, is searched from four threads
at once. Needs what interpreter.py needs, and this machine's wheel for the running Python.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from interpreter import Interpreter, make

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ARM_MACHINE = "aarch64"
sys.path.append(str(TESTS))

from instruction_sets import SETS  # noqa: E402

ARM = ("scalar", *SETS[ARM_MACHINE])  # all that qemu's CPU runs
NEEDS = ("numpy", "platformdirs", "psycopg", "psycopg-pool", "rich", "typer")


def find_wheel(folder: Path, version: str, machine: str) -> Path | None:
    """Returns the wheel of a version, such as 3.14t, for a machine."""
    abi = "cp" + version.replace(".", "")
    return next(folder.glob(f"*-{abi.rstrip('t')}-{abi}-*_{machine}.whl"), None)


def output(command: list[str], folder: Path) -> str:
    return subprocess.run(command, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout


def answers_here(folder: Path, work: Path, rows: str) -> tuple[str, Path]:
    """Returns what answers.py says by this machine's wheel, and the Python that has it."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wheel = find_wheel(folder, version, platform.machine())
    assert wheel is not None, f"no wheel of {version} for this machine in {folder}"
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
    python = work / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[embedded]"], check=True)
    said = output([str(python), str(HERE / "answers.py"), rows], work)
    return said.split()[0], python


def ready(wheel: Path, interpreter: Interpreter, *more: str) -> None:
    """Installs a wheel and what it needs."""
    interpreter.install(*NEEDS, *more)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
    subprocess.run(
        [*command, str(interpreter.packages), *interpreter.pip_options(), str(wheel)], check=True
    )


def check(interpreter: Interpreter, answer: str, work: Path, rows: str) -> None:
    """Imports, searches, and compares with this machine."""
    code = "import mrl_db; print(*mrl_db.available_simd())"
    assert output(interpreter.command("-c", code), work).split() == list(ARM)
    said = output(interpreter.command(str(HERE / "answers.py"), rows), work)
    assert {line.split()[0] for line in said.splitlines()} == {answer}, (said, answer)


def run_tests(interpreter: Interpreter, python: Path, work: Path) -> None:
    """Runs property tests under qemu; their database is a server of this machine."""
    # What pytest needs before 3.11: pip asks the Python that runs it.
    older = ("exceptiongroup", "tomli") if interpreter.version == "3.10" else ()
    interpreter.install("pytest", "hypothesis", *older)
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


def try_arm(wheel: Path, interpreter: Interpreter, answer: str, work: Path, rows: str) -> str:
    """Installs and checks a wheel of aarch64."""
    ready(wheel, interpreter, "psycopg-binary")
    check(interpreter, answer, work, rows)
    return f"answers {answer} of {rows} rows"


def try_free(wheel: Path, interpreter: Interpreter, work: Path) -> str:
    """Installs a wheel without the GIL, whose psycopg takes libpq from the system; uses it."""
    ready(wheel, interpreter)
    return output(interpreter.command(str(HERE / "threads.py")), work).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--rows", default="1000")
    parser.add_argument("--tests", action="store_true")
    parser.add_argument("--free-threaded", action="store_true")
    options = parser.parse_args()
    folder = options.folder.resolve()
    machine = platform.machine() if options.free_threaded else ARM_MACHINE
    code = (
        "import sys, sysconfig; print('%d.%d' % sys.version_info[:2], sysconfig.get_path('stdlib'))"
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if not options.free_threaded:
            answer, python = answers_here(folder, work, options.rows)
        for number, here in enumerate(options.pythons):
            version, library = output([here, "-c", code], Path.cwd()).strip().split(maxsplit=1)
            version += "t" * options.free_threaded
            wheel = find_wheel(folder, version, machine)
            assert wheel is not None, f"no wheel of {version} for {machine} in {folder}"
            interpreter = make(
                work / version, version, machine, options.root.resolve(), Path(library)
            )
            if options.free_threaded:
                said = try_free(wheel, interpreter, work)
            else:
                said = try_arm(wheel, interpreter, answer, work, options.rows)
            print(f"{wheel.name}: whole; {said}", flush=True)
            if options.tests and number == 0:
                run_tests(interpreter, python, work)


if __name__ == "__main__":
    main()
