"""What every benchmark records beside its figures: machine, commit, compiler, versions. And where the record goes."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

RECORD = Path(__file__).resolve().parent / "record"


def cpu() -> str:
    """Returns what the processor is called, with its family and model."""
    if not Path("/proc/cpuinfo").exists():
        return platform.processor() or platform.machine()
    lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines()]
    known = {pair[0].strip(): pair[1].strip() for pair in lines if len(pair) == 2}
    return (
        f"{known.get('model name')}, family {known.get('cpu family')}, model {known.get('model')}"
    )


def folder() -> Path:
    """Returns where the records of this kind of machine are: none of another is overwritten."""
    name = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\([^)]*\)", "", cpu()).lower()).strip("-")
    path = RECORD / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def describe(*packages: str) -> dict[str, object]:
    """Returns the machine, the commit and the versions of some packages."""

    def said(*command: str) -> str:
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=RECORD.parent
            ).stdout.strip()
        except OSError:
            return "unknown"

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    flags = ""
    if Path("/proc/cpuinfo").exists():
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines()]
        listed = {pair[0].strip(): pair[1] for pair in lines if len(pair) == 2}.get("flags", "")
        flags = " ".join(f for f in listed.split() if f.startswith(("avx", "f16c", "fma")))
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "flags": flags,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "commit": said("git", "rev-parse", "--short", "HEAD"),
        "modified": bool(
            said("git", "status", "--porcelain", "--", "../csrc", "../mrl_db", "../sql")
        ),
        "compiler": said("c++", "--version").splitlines()[:1],
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("mrl_db", "numpy", *packages)},
    }


def resume(name: str | None, *packages: str) -> dict[str, Any]:
    """Returns `describe`, and below it what the record of that name has: parts may be run one by one."""
    path = folder() / f"{name}.json"
    return {
        **(json.loads(path.read_text()) if name and path.exists() else {}),
        **describe(*packages),
    }


def keep(name: str | None, record: dict[str, Any], part: str, found: Any) -> None:
    """Puts a part's figures into the record, with the commit that they are from, and writes it."""
    print(part, found, flush=True)
    record[part] = found
    record["runs"] = {
        **record.get("runs", {}),
        part: {key: record[key] for key in ("date", "commit", "modified")},
    }
    if name:
        save(name, record)


def save(name: str, result: dict[str, object]) -> Path:
    """Writes a record and returns its path."""
    path = folder() / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """Keeps all cores from sleeping, by loops that give way to everything else (SCHED_IDLE).

    A client that waits for its server lets a core sleep, and in a virtual machine to wake it can
    take longer than a search. A busy server's cores do not sleep. What is measured pays the same
    for all rivals, but not for the host's way of waking a core.
    """
    spin = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    loops = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few points and rounds: does it run, are the answers right",
    )
    parser.add_argument("--name", help="name of the record; none is written without it")
    return parser
