"""The extension mrl_db for the embedded servers: built into the package, a library a version.

PostgreSQL 18 looks for extensions where its settings say. PostgreSQL 16 looks beside the file of
the running program only; so it runs from a folder of its own in the server's home: a copy of that
one program, and links to everything else, ours among them. Nothing is written into the package
that the programs come from, and all of it is made anew at every start: it follows packages that
move.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

_FOLDER_16 = "postgres16"  # in the server's home


def library_folder(version: int) -> Path | None:
    """Returns the folder with the extension's `lib` and `share`; None where it is not built."""
    spec = find_spec("mrl_db")
    for package in (spec.submodule_search_locations if spec is not None else None) or ():
        folder = Path(package) / f"pg{version}"
        if (folder / "lib" / "mrl_db.so").exists() and ":" not in str(folder):
            return folder  # the settings separate their folders by colons
    return None


def settings(version: int) -> dict[str, str]:
    """Returns the settings by which a server finds the extension; none where it is not built."""
    folder = library_folder(version)
    if folder is None:
        return {}
    paths = {"dynamic_library_path": f"{folder}/lib:$libdir"}
    if version >= 18:
        paths["extension_control_path"] = f"{folder}/share:$system"
    return paths


def program(version: int, bin_folder: Path, home: Path) -> Path:
    """Returns the file of `postgres` that is to be run, which finds the extension.

    Args:
        version: PostgreSQL's.
        bin_folder: Of its programs, as installed.
        home: The server's folder.
    """
    folder = library_folder(version)
    if folder is None or version >= 18:
        return bin_folder / "postgres"
    install, linked = bin_folder.parent, home / _FOLDER_16
    shutil.rmtree(linked, ignore_errors=True)
    (linked / "bin").mkdir(parents=True)
    _link_or_copy(bin_folder / "postgres", linked / "bin" / "postgres")
    (linked / "lib").symlink_to(install / "lib")
    share = Path("share", "postgresql")
    _link_entries(install / share, linked / share, leave_out="extension")
    _link_entries(install / share / "extension", linked / share / "extension")
    _link_entries(folder / "share" / "extension", linked / share / "extension")
    return linked / "bin" / "postgres"


def _link_or_copy(source: Path, target: Path) -> None:
    """By a second name where the file system has it: a program must not be reached by a link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _link_entries(source: Path, target: Path, leave_out: str | None = None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name != leave_out:
            (target / entry.name).unlink(missing_ok=True)
            (target / entry.name).symlink_to(entry)
