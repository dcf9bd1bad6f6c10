"""The command line as a person uses it: a process of its own, its output read."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def run(dsn):
    def call(*arguments, fails=False):
        environment = {**os.environ, "MRL_DB_DSN": dsn, "COLUMNS": "200", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "mrl_db.cli", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            cwd="/",
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return call


def test_the_demo_ends_with_recall_and_time(run):
    said = run("demo")

    assert "loaded 9,800 Debian packages" in said
    assert "GNU Image Manipulation Program" in said
    assert "one search, stage by stage" in said
    recall = float(said.split("mean ")[1].split(",")[0])
    assert recall > 0.95
    assert float(said.split("recall@10 ")[-1].split(",")[0]) > 0.95
    assert "one search" in said
    assert "9,800" in run("collections")


def test_doctor_is_well_and_says_what_is_here(run):
    said = run("doctor")

    for what in ("instruction set", "PostgreSQL", "pgvector", "schema mrl"):
        assert what in said
    assert "✗" not in said


def test_doctor_says_what_is_wrong():
    environment = {
        **os.environ,
        "MRL_DB_DSN": "host=127.0.0.1 port=1 password=S3CRET",
        "MRL_DB_SIMD": "sse9",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mrl_db.cli", "doctor"], capture_output=True, text=True, env=environment, check=False, cwd="/"
    )

    assert done.returncode == 1
    assert "✗" in done.stdout
    assert "sse9" in done.stdout
    assert "cannot connect" in done.stdout
    assert "S3CRET" not in done.stdout + done.stderr


def test_a_parquet_file_becomes_a_collection_and_is_searched(run, tmp_path, rng):
    vectors = rng.standard_normal((50, 8)).astype(np.float32)
    path = tmp_path / "rows.parquet"
    embedded = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
    pq.write_table(pa.table({"id": [f"k{i}" for i in range(50)], "embedding": embedded, "year": list(range(50))}), path)

    assert "50 rows" in run("ingest", "papers", str(path), "--nesting-dims", "4,8")
    said = run("search", "papers", "--like", "k7", "-k", "3", "--where", '{"year": {"$lt": 10}}')
    np.save(tmp_path / "q.npy", vectors[3])
    assert said.splitlines()[1].split()[0] == "k7"
    assert run("search", "papers", "--vector", str(tmp_path / "q.npy"), "-k", "1", "--exact").splitlines()[1].split()[0] == "k3"
    assert "DuplicateKeyError" in run("ingest", "papers", str(path), fails=True)
    assert "50 rows" in run("ingest", "papers", str(path), "--upsert")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "nothing", "--like", "x"), 'no collection "nothing"'),
        (("search", "docs"), "give --like or --vector"),
        (("search", "docs", "--like", "x"), "'x' is no bigint"),
        (("search", "docs", "--like", "9"), "has no row '9'"),
        (("search", "docs", "--like", "1", "--where", "{"), "--where is no JSON"),
        (("search", "docs", "--like", "1", "--where", '{"x": 1}'), "no column 'x'"),
        (("search", "docs", "--vector", "nowhere.npy"), "not a .npy file"),
        (("ingest", "new", "nowhere.parquet"), "no file"),
    ],
)
def test_mistakes_get_one_line(db, run, arguments, said):
    db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])

    shown = run(*arguments, fails=True)

    assert said in " ".join(shown.split())
