"""PostgreSQL and pgvector compiled of Debian's sources, with assertions, for long runs of tests.

    python .ci/asserting.py FOLDER

Becomes FOLDER/bin/pg_config, which `mrl-db extension install --pg-config` and
MRL_DB_TEST_PG_CONFIG take. One that is there already is left as it is. Needs Debian, and there
apt install gcc make dpkg-dev bison flex perl zlib1g-dev.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from debian import Archive
from wheels import run

STABLE = "trixie"
SOURCES = ("postgresql-17", "pgvector")  # as the release has them
FLAGS = "-O2 -g -fno-omit-frame-pointer"
LEFT_OUT = ("icu", "readline")  # nothing here asks for them


def main() -> None:
    """Makes the server and its extensions where they were not."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    if (folder / "share" / "postgresql" / "extension" / "vector.control").exists():
        return
    architecture = run("dpkg", "--print-architecture").strip()
    archive = Archive(folder / ".apt", "deb-src", (STABLE,), architecture)
    server, vector = map(archive.source, SOURCES)
    left_out = [f"--without-{name}" for name in LEFT_OUT]
    options = ("-q", f"--prefix={folder}", "--enable-cassert", *left_out, f"CFLAGS={FLAGS}")
    run("env", "-C", server, "./configure", *options)
    for target in ("world-bin", "install-world-bin"):  # with the extensions that come with it
        run("make", "-s", "-j2", "-C", server, target)
    options = (f"PG_CONFIG={folder}/bin/pg_config", "OPTFLAGS=")
    for target in ("all", "install"):
        run("make", "-s", "-j2", "-C", vector, *options, target)


if __name__ == "__main__":
    main()
