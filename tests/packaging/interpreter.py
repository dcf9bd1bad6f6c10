"""A CPython of another machine, or without the GIL, made of what PyPI has: nothing else is fetched.

The programs that cx_Freeze puts before a frozen application hold a whole interpreter of each
version, machine and ABI, and its compiled modules lie beside them; the modules in Python come from
any interpreter of the same version here. Needs: pip install ziglang; another machine's also
qemu-user, and a folder with its C library, as .ci/debian.py unpacks it (make wheels-arm).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Interpreter:
    """A Python in a folder of its own; packages go into `packages`, by pip of here."""

    folder: Path
    version: str  # as 3.14, or 3.14t
    machine: str
    root: Path  # of the machine's C library

    @property
    def packages(self) -> Path:
        return self.folder / "packages"

    def pip_options(self) -> list[str]:
        """What makes pip of here choose for it."""
        number = self.version.rstrip("t")
        glibc = (17, 27, 28)
        return [
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={number}",
            f"--abi=cp{self.version.replace('.', '')}",
            "--abi=abi3",
            "--abi=none",
            *(f"--platform=manylinux_2_{minor}_{self.machine}" for minor in glibc),
            f"--platform=manylinux2014_{self.machine}",
        ]

    def install(self, *requirements: str) -> None:
        """Installs packages of its version and machine."""
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(self.packages)]
        subprocess.run([*command, *self.pip_options(), *requirements], check=True)

    def command(self, *arguments: str, **environment: str) -> list[str]:
        """Returns the command that runs it."""
        variables = {
            "_PYTHON_SYSCONFIGDATA_NAME": "_sysconfigdata",
            "PYTHONHOME": str(self.folder),
            "LD_LIBRARY_PATH": str(self.folder / "libraries"),
            "LD_PRELOAD": str(self.folder / "main.so"),
            "PYTHONPATH": str(self.packages),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        program = str(self.folder / "bin" / f"python{self.version}")
        if self.machine == os.uname().machine:
            return ["env", *(f"{name}={value}" for name, value in variables.items()), program,
                    *arguments]  # fmt: skip
        qemu = [f"qemu-{self.machine}", "-L", str(self.root)]
        for name, value in variables.items():
            qemu += ["-E", f"{name}={value}"]
        return [*qemu, program, *arguments]


def make(folder: Path, version: str, machine: str, root: Path, library: Path) -> Interpreter:
    """Makes an interpreter in a folder; the library is lib/pythonX.Y of one of the same version."""
    made = Interpreter(folder, version, machine, root)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        holder = "freeze-core" if version != "3.10" else "cx-freeze<8.4"  # where the programs lay
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(work)]
        subprocess.run([*command, *made.pip_options(), holder], check=True)
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / "wheel")
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (console,) = (work / "wheel").glob(f"*/bases/console-cpython-*-{machine}-linux-gnu")
        program = Path(shutil.copy(console, programs / f"python{version}"))
        program.chmod(0o755)
        modules = folder / "lib" / f"python{version}"
        ignored = shutil.ignore_patterns(
            "lib-dynload", "__pycache__", "site-packages", "test", "config-*", "sitecustomize.py"
        )
        shutil.copytree(library, modules, ignore=ignored)
        (modules / "lib-dynload").mkdir()
        for compiled in (work / "wheel").rglob(f"*.cpython-*-{machine}-linux-gnu.so"):
            shutil.copy(compiled, modules / "lib-dynload")
        built = {"TZPATH": "/usr/share/zoneinfo", "Py_GIL_DISABLED": int(version.endswith("t"))}
        (modules / "_sysconfigdata.py").write_text(f"build_time_vars = {built}\n")
        (libraries,) = (work / "wheel").glob("*.libs")
        shutil.copytree(libraries, folder / "libraries")
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.2.17"]
    main = ["-shared", "-fPIC", "-O1", "-s", "-o", folder / "main.so", HERE / "interpreter.c"]
    subprocess.run([*zig, *main, "-ldl"], check=True)
    made.packages.mkdir()
    return made
