"""Packages of any release of Debian, by apt, into a folder; what this machine has stays as it is.

    python .ci/debian.py FOLDER SUITE PACKAGE... [--architecture arm64]

Unpacks the packages, which are named one by one: none brings others with it. So a compiler of an
older release is had beside this one's (FOLDER/usr/bin into PATH), or the C library of another
machine. The mirror is the one that this machine's own lists name, the lists are the folder's.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Archive:
    """Releases of Debian as apt knows them, its lists and files in a folder."""

    def __init__(self, folder: Path, kind: str, suites: tuple[str, ...], architecture: str) -> None:
        self.folder = folder.resolve()
        self.architecture = architecture
        for name in ("lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        lines = [f"{kind} [signed-by={KEYS}] {mirror()} {suite} main\n" for suite in suites]
        (self.folder / "sources.list").write_text("".join(lines))
        self.run("update")

    def run(self, *arguments: str, folder: Path | None = None) -> None:
        """Runs apt-get, in a folder."""
        options = {
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "root",  # into folders of ours
        }
        settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        subprocess.run(["apt-get", "-qq", *settings, *arguments], check=True, cwd=folder)

    def source(self, package: str) -> Path:
        """Returns the folder with the sources of a package."""
        folder = self.folder / package
        if not folder.exists():
            files = self.folder / "files"
            files.mkdir(exist_ok=True)
            try:
                self.run("source", "--download-only", package, folder=files)
            except subprocess.CalledProcessError:
                raise SystemExit(
                    f"the mirror has not all of {package} that its list names, as for days after a "
                    f"release; an older one's sources, unpacked in {folder}, do as well"
                ) from None
            (tarball,) = files.glob(f"{package}_*.orig.tar.*[!c]")
            folder.mkdir()
            subprocess.run(["tar", "xf", tarball, "-C", folder, "--strip-components=1"], check=True)
        return folder


def mirror() -> str:
    """Returns where this machine has Debian from."""
    asked = ("Created-By: Packages", "Origin: Debian", "Label: Debian")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *asked]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    if not found:
        raise SystemExit("no list of Debian's packages is here: apt-get update")
    return found[0]


def unpack(folder: Path, suite: str, packages: list[str], architecture: str) -> None:
    """Unpacks packages of a release into a folder."""
    archive = Archive(folder / ".apt", "deb", (suite,), architecture)
    files = archive.folder / "files"
    files.mkdir(exist_ok=True)
    archive.run("download", *packages, folder=files)
    for file in sorted(files.glob("*.deb")):
        subprocess.run(["dpkg", "-x", file, folder], check=True)


def main() -> None:
    """Unpacks what the command line names."""
    here = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("suite")
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    parser.add_argument("--architecture", default=here)
    given = parser.parse_args()
    unpack(given.folder, given.suite, given.packages, given.architecture)
    print(f"{given.folder}: {', '.join(given.packages)} of {given.suite}", flush=True)


if __name__ == "__main__":
    main()
