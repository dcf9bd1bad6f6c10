"""Processes that end, fork and are interrupted while the engine is at work (`lives.py`).

MRL_DB_FORKS forks and MRL_DB_EXITS exits of each kind: 200 in `make soak`.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import lives
import numpy as np
import pytest

import mrl_db

EXITS = int(os.environ.get("MRL_DB_EXITS", "3"))
FORKS = int(os.environ.get("MRL_DB_FORKS", "4"))
SCRIPT = Path(lives.__file__)


def live(name, dsn, number=0, seconds=60):
    """Runs a life; it ends with code 0, and has nothing to say beside its last words."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SCRIPT), name, dsn, str(number)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "the end\n")


@pytest.fixture
def docs(db):
    docs = db.create_collection("docs", dims=lives.DIMS)
    docs.add(np.arange(lives.ROWS), lives.vectors_of(range(lives.ROWS)))
    return docs


@pytest.mark.parametrize("number", range(EXITS))
def test_a_script_ends_while_new_rows_are_linked(dsn, db, number):
    live("end_while_linking", dsn, number)


@pytest.mark.parametrize("number", range(max(1, EXITS // 3)))
def test_a_script_ends_while_its_threads_search_write_and_load(dsn, docs, number):
    live("end_while_threads_search", dsn, number)


@pytest.mark.parametrize("number", range(max(1, EXITS // 3)))
def test_a_script_ends_while_an_index_is_built_anew(dsn, db, number):
    live("end_while_building_anew", dsn, number)


@pytest.mark.parametrize("name", ["end_within_a_call", "end_by_a_handler_that_joins"])
def test_threads_of_the_callers_are_let_out_of_their_calls_at_the_end(dsn, docs, name):
    live(name, dsn)


@pytest.mark.parametrize("number", range(max(2, EXITS // 2)))
def test_a_terminated_process_goes_and_leaves_nothing_half_made(dsn, docs, number):
    """At once without a handler; by way of one that exits like a script that is over."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "busy_until_terminated", dsn, str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(np.random.default_rng(number).uniform(0, 0.7))

    process.terminate()

    said = process.communicate(timeout=60)
    assert (process.returncode, *said) == (143 if number % 2 else -signal.SIGTERM, "", "")
    queries = lives.vectors_of(range(0, lives.ROWS, 50))
    for cache in (True, False):
        docs.load(cache=cache)
        native, exact = (docs.search(queries, k=3, exact=exact) for exact in (False, True))
        assert (
            native.ids[:, 0].tolist() == exact.ids[:, 0].tolist() == list(range(0, lives.ROWS, 50))
        )
        assert docs.loaded.rows == docs.count()
        docs.unload()


def test_children_forked_under_load_answer_and_so_does_their_parent(dsn, docs):
    live("forks_under_load", dsn, FORKS, seconds=60 + 10 * FORKS)


@pytest.mark.parametrize(
    "name",
    [
        "a_child_that_closes",
        "a_child_of_a_sleeping_parent",
        "a_child_that_refreshes_first",
        "multiprocessing_fork",
        "multiprocessing_spawn",
    ],
)
def test_a_child_has_its_own_connections_threads_and_locks(dsn, docs, name):
    live(name, dsn)


def test_an_embedded_server_stays_for_a_child_that_outlives_its_parent(tmp_path):
    live("a_child_that_outlives_its_parent", str(tmp_path / "home"))


def test_a_process_with_many_open_files_connects_searches_and_is_watched(dsn, docs):
    """select() knows files below 1,024 only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with mrl_db.connect(dsn, pool_size=2, statement_timeout=5.0) as db:
            mine = db.open("docs")
            mine.load(cache=False)
            assert mine.count() == lives.ROWS
            assert mine.search(lives.vectors_of([3])[0], k=1).ids.tolist() == [3]
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
