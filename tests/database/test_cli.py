"""The command line as a person uses it: a process of its own, its output read."""

import os
import re
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
            [sys.executable, "-m", "mrl_db.faces.cli", *arguments],
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

    assert "loaded 5,000 Debian packages" in said
    assert "GNU Image Manipulation Program" in said
    assert "one search, stage by stage" in said
    recall = float(said.split("mean ")[1].split(",")[0])
    assert recall > 0.95
    assert float(said.split("recall@10 ")[-1].split(",")[0]) > 0.95
    assert "one search" in said
    assert "5,000" in run("collections")


def test_doctor_is_well_and_says_what_is_here(run):
    said = run("doctor")

    for what in ("instruction set", "PostgreSQL", "pg_config", "pgvector", "schema mrl"):
        assert what in said
    assert "pages of format" in said  # of the library that the server has loaded
    assert "✗" not in said


def test_doctor_says_what_is_wrong():
    environment = {
        **os.environ,
        "MRL_DB_DSN": "host=127.0.0.1 port=1 password=S3CRET",
        "MRL_DB_SIMD": "sse9",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mrl_db.faces.cli", "doctor"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        cwd="/",
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
    pq.write_table(
        pa.table(
            {"id": [f"k{i}" for i in range(50)], "embedding": embedded, "year": list(range(50))}
        ),
        path,
    )

    assert "50 rows" in run("ingest", "papers", str(path), "--nesting-dims", "4,8")
    said = run("search", "papers", "--like", "k7", "-k", "3", "--where", '{"year": {"$lt": 10}}')
    np.save(tmp_path / "q.npy", vectors[3])
    assert said.splitlines()[1].split()[0] == "k7"
    assert (
        run("search", "papers", "--vector", str(tmp_path / "q.npy"), "-k", "1", "--exact")
        .splitlines()[1]
        .split()[0]
        == "k3"
    )
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
        (
            ("search", "docs", "--vector", "{folder}/TWO.npy"),
            "shape (2, 2), wanted one vector: (2,)",
        ),
        (("ingest", "new", "nowhere.parquet"), "no file"),
    ],
)
def test_mistakes_get_one_line(db, run, tmp_path, arguments, said):
    np.save(tmp_path / "TWO.npy", np.ones((2, 2), np.float32))
    db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])

    shown = run(*(each.replace("{folder}", str(tmp_path)) for each in arguments), fails=True)

    assert said in " ".join(shown.split())


@pytest.fixture
def demo(run, db):
    """A collection whose name would be markup wherever it is not escaped."""
    name = "<b>$x$</b>"
    docs = db.create_collection(name, dims=24, nesting_dims=(8, 16, 24), key_type="text")
    rng = np.random.default_rng(3)
    docs.add(
        [f"<i>{i}</i>" for i in range(600)],
        rng.standard_normal((600, 24)).astype(np.float32) / np.sqrt(1 + np.arange(24)),
    )
    docs.create_index()
    return name


def test_recall_is_declared_measured_and_explained(run, demo):
    assert "nothing is promised" in run("recall", demo, "--sample", "100")
    said = run("tune", demo, "--recall", "0.9")
    assert "chosen: " in said
    assert "promise: mean recall 0.9 at k = 10" in said
    assert "give --queries" in said
    assert "promise: mean recall 0.9" in run("recall", demo, "--sample", "100")
    assert "promise: mean recall 0.9" in run("doctor")
    said = run("explain", demo, "--like", "<i>7</i>", "--want", "<i>7</i>", "--want", "<i>9999</i>")
    assert "'<i>7</i>': found, rank 1" in said
    assert "'<i>9999</i>': not in the collection" in said
    assert "wanted sql or native" in run("recall", demo, "--engine", "gpu", fails=True)
    assert "recall= or p95_ms=" in run("tune", demo, fails=True)


def test_native_plans_are_tuned_and_followed(run, demo):
    assert "µs a search" in run("tune", demo, "--recall", "0.9", "--engine", "native")
    assert "mean recall 0.9" in run("recall", demo, "--engine", "native", "--sample", "50")


def test_the_report_is_one_page_without_markup_of_others(run, demo, tmp_path):
    run("tune", demo, "--recall", "0.9")

    said = run("report", demo, "--folder", str(tmp_path / "a report"))

    page = (tmp_path / "a report" / "report.html").read_text()
    assert "report.html" in said
    assert "<b>$x$</b>" not in page
    assert "&lt;b&gt;$x$&lt;/b&gt;" in page
    words, pictures = re.subn(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert pictures == 5
    assert "http" not in words.replace("http-equiv", "")  # self-contained
    for figure in ("dims", "plans", "recall", "energy", "stages"):
        assert (tmp_path / "a report" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (
            len((tmp_path / "a report" / f"{figure}.png").read_bytes()) > 10_000
        )  # not an empty plot
