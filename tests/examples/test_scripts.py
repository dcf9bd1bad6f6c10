"""The examples that are scripts, each twice in a row on one database."""

import re
import subprocess

import mrl_db

from .conftest import EXAMPLES


def test_the_classifier_reads_few_dims_and_names_the_sections(run_script):
    printed = run_script("classify.py")

    accuracies = [int(share) for share in re.findall(r"500 new packages: (\d+)%", printed)]
    dims = [int(mean) for mean in re.findall(r"dims read: (\d+) of 384", printed)]
    assert (len(accuracies), len(dims)) == (2, 2)
    assert min(accuracies) >= 70
    assert max(dims) < 120


def test_psql_alone_makes_a_collection_and_searches_it(server, dsn, execute):
    psql = server.server.binaries.program("psql")
    for _ in range(2):
        done = subprocess.run(
            [psql, "--no-psqlrc", dsn, "-f", EXAMPLES / "plain.sql"],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
        by_vector, _, by_pgvector = done.stdout.partition("Plain pgvector SQL")
        assert "round to nearest integer" in by_vector
        assert "greatest common divisor" in by_pgvector

    [[rows]] = execute("SELECT count(*) FROM routines")
    with mrl_db.connect(dsn) as db:
        assert db["routines"].count() == rows > 2000


def test_models_and_migrations_live_beside_a_collection(run, execute):
    printed = run(
        """
import os, runpy, sys
import psycopg
from alembic.config import main
sys.path.insert(0, ".")
main(["upgrade", "head"])
runpy.run_path("app.py", run_name="__main__")
runpy.run_path("app.py", run_name="__main__")
with psycopg.connect(os.environ["MRL_DB_DSN"]) as connection:
    print(*connection.execute("SELECT attname FROM pg_attribute WHERE attname ~ '^embedding_'"))
main(["check"])  # fails where autogenerate would change anything
main(["downgrade", "base"])
""",
        folder=EXAMPLES / "orm",
    )

    assert printed.count("0.000 gimp: GNU Image Manipulation Program") == 2
    assert printed.count("not committed: ['gimp', 'mine']") == 2
    assert printed.count("in section python: ['") == 2
    assert "('embedding_128',)" in printed  # what autogenerate would drop without our hooks
    assert execute("SELECT to_regclass('packages'), count(*) FROM mrl.collection") == [(None, 0)]
