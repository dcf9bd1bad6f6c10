"""Every compiler that is here builds the sdist, warnings as errors, and runs the C++ tests.

    python .ci/compilers.py [--work FOLDER] [--rows N] [NAME...]

NAME is one of KITS; without names all are tried. One that is not here is told and passed over. The
Python module of each that this machine runs builds and searches N rows by every instruction set
(tests/packaging/answers.py): one hash for all compilers, standard libraries and sets. For musl the
tests run, the module is linked; for macOS all is compiled and linked. Needs: pip install build
cmake ninja pybind11 scikit-build-core ziglang.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from wheels import CACHE, ROOT, run, script

PROBE = "#include <thread>\nint main() { std::thread([] {}).join(); }\n"


@dataclass(frozen=True)
class Kit:
    """A compiler with a standard library, and what it compiles for."""

    compiler: str  # a program, or zig
    flags: tuple[str, ...] = ()
    system: str = "Linux"
    machine: str = os.uname().machine
    tests: bool = True  # whether this machine runs what it makes
    module: bool = True  # whether this Python imports what it makes


LIBCXX = ("-stdlib=libc++",)
KITS = {
    **{f"gcc-{version}": Kit(f"g++-{version}") for version in range(10, 16)},
    **{f"clang-{version}": Kit(f"clang++-{version}") for version in range(14, 24)},
    **{f"clang-{version}-libc++": Kit(f"clang++-{version}", LIBCXX) for version in range(14, 24)},
    "musl": Kit("zig", ("-target", "x86_64-linux-musl"), machine="x86_64", module=False),
    "macos": Kit("zig", ("-target", "aarch64-macos"), "Darwin", "arm64", tests=False, module=False),
}


def tools(kit: Kit, folder: Path) -> dict[str, str] | None:
    """Returns the programs of a kit by CMake's names, or None where it is not here."""
    folder.mkdir(parents=True)
    named = {}
    if kit.compiler == "zig":
        zig = f'exec "{sys.executable}" -m ziglang'
        flags = " ".join(kit.flags)
        # To zig -march is the name of a CPU; what ours of ARM add to it, it takes so. Its linker
        # dies of macOS's bundles: a module is linked as a library.
        line = f"""for word do
    case "$word" in
        -march=armv8*+*) word="-mcpu=generic+${{word##*+}}" ;;
        -bundle) word=-shared ;;
    esac
    shift; set -- "$@" "$word"
done
{zig} c++ {flags} "$@\""""
        compiler = str(script(folder / "c++", line))
        named = {
            name: str(script(folder / name, f'{zig} {name} "$@"')) for name in ("ar", "ranlib")
        }
    else:
        compiler = shutil.which(kit.compiler) or ""
    probe = folder / "probe.cpp"
    probe.write_text(PROBE)
    command = [compiler, *(kit.flags if kit.compiler != "zig" else ()), "-std=c++20", "-pthread"]
    try:
        subprocess.run([*command, probe, "-o", folder / "probe"], check=True, capture_output=True)
        if kit.tests:
            subprocess.run([folder / "probe"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"cxx_compiler": compiler, **named}


def options(kit: Kit, programs: dict[str, str]) -> list[str]:
    """Returns what CMake is told."""
    pybind = run(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    told = {
        **{name.upper(): program for name, program in programs.items()},
        "CXX_FLAGS": " ".join(["-Werror", *(kit.flags if kit.compiler != "zig" else ())]),
    }
    if not kit.module:
        told |= {
            "SYSTEM_NAME": kit.system,
            "SYSTEM_PROCESSOR": kit.machine,
            "STRIP": shutil.which("true") or "",  # this machine's knows its own files only
        }
    if kit.system == "Darwin":
        told |= {
            "OSX_SYSROOT": "",
            "INSTALL_NAME_TOOL": shutil.which("true") or "",
            "OSX_DEPLOYMENT_TARGET": "",
        }
    if shutil.which("ccache"):
        told["CXX_COMPILER_LAUNCHER"] = "ccache"
    return [
        *(f"-DCMAKE_{name}={value}" for name, value in told.items()),
        "-DMRL_DB_NATIVE_TESTS=ON",
        "-DMRL_DB_PG_CONFIG=OFF",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-DPython_INCLUDE_DIR={sysconfig.get_path('include')}",
        f"-Dpybind11_DIR={pybind}",
        *(() if kit.module else ("-DPYBIND11_USE_CROSSCOMPILING=ON",)),
    ]


def build(kit: Kit, programs: dict[str, str], source: Path, folder: Path) -> None:
    """Builds libraries, tests and the Python module; runs the tests."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    environment = {"SETUPTOOLS_EXT_SUFFIX": suffix, "CCACHE_BASEDIR": str(source.parent)}
    if kit.compiler == "zig":
        version = run(sys.executable, "-m", "ziglang", "version").strip()
        environment |= {**CACHE, "CCACHE_COMPILERCHECK": f"string:{kit.flags} {version}"}
    run("cmake", "-G", "Ninja", "-S", source, "-B", folder, *options(kit, programs), **environment)
    run("cmake", "--build", folder, "-j2", "--", "-k0", **environment)
    if kit.tests:
        run("ctest", "--test-dir", folder, "--output-on-failure")


def answers(source: Path, folder: Path, rows: int) -> set[str]:
    """Returns the hashes that the module of a build gives; one, where all is well."""
    package = folder / "package"
    shutil.copytree(source / "mrl_db", package / "mrl_db", dirs_exist_ok=True)
    (module,) = folder.glob("_kernels*.so")
    shutil.copy(module, package / "mrl_db")
    path = os.pathsep.join([str(package), *filter(None, sys.path)])  # -S: no editable install
    program = source / "tests/packaging/answers.py"
    printed = run(sys.executable, "-S", program, rows, PYTHONPATH=path)
    print(printed, end="", flush=True)
    return {line.split()[0] for line in printed.splitlines()}


def main() -> None:
    """Tries the kits that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--work", type=Path, help="where builds stay; else a folder that goes")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("kits", nargs="*", default=list(KITS), metavar="NAME")
    given = parser.parse_args()
    hashes: set[str] = set()
    absent, failed = [], []
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        shutil.rmtree(work / "sdist", ignore_errors=True)
        run(sys.executable, "-m", "build", "-q", "-n", "--sdist", "--outdir", work / "sdist", ROOT)
        (archive,) = (work / "sdist").glob("*.tar.gz")
        source = work / "sdist" / archive.name.removesuffix(".tar.gz")
        shutil.unpack_archive(archive, work / "sdist")
        for name in given.kits:
            kit = KITS[name]
            shutil.rmtree(work / name, ignore_errors=True)
            programs = tools(kit, work / name / "tools")
            if programs is None:
                absent.append(name)
                continue
            began = time.monotonic()
            try:
                build(kit, programs, source, work / name / "build")
                if kit.module:
                    hashes |= answers(source, work / name / "build", given.rows)
            except SystemExit as error:
                failed.append(name)
                print(error, file=sys.stderr)
                continue
            done = "built, tests run" if kit.tests else "compiled and linked"
            print(f"{name}: {done} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"not here: {', '.join(absent) or 'none'}")
    if failed or len(hashes) > 1:
        raise SystemExit(f"failed: {', '.join(failed) or 'none'}; hashes: {hashes}")
    print(f"one hash: {', '.join(hashes) or 'none'}")


if __name__ == "__main__":
    main()
