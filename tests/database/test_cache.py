"""Loaded collections as files: as fresh as the database, shared, never believed when damaged."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

import mrl_db
from mrl_db import _kernels

DIMS, N = 24, 600


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((2 * N, DIMS)).astype(np.float32)


@pytest.fixture
def docs(db, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "a cache"))
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(np.arange(N), vectors[:N], year=np.arange(N) % 10)
    return docs


@pytest.fixture
def reads(monkeypatch):
    """Counts how often rows are read from the table and built."""
    counted = []
    read = mrl_db.engines.native.engine.read
    monkeypatch.setattr(
        "mrl_db.engines.native.engine.read",
        lambda *args, **options: counted.append(1) or read(*args, **options),
    )
    return counted


def files(tmp_path):
    return sorted((tmp_path / "a cache").glob("*.mrl"))


def assert_fresh(docs, queries):
    count = docs.count()
    for query in queries:
        native, exact = (
            docs.search(query, k=count, engine="native"),
            docs.search(query, k=count, exact=True),
        )
        assert native.ids.tolist() == exact.ids.tolist()


def test_the_second_load_maps_what_the_first_one_built(docs, db, vectors, reads, tmp_path, execute):
    docs.load()
    built = docs.search(vectors[:50], k=10)
    assert len(reads) == len(files(tmp_path)) == 1
    assert (tmp_path / "a cache").stat().st_mode & 0o777 == 0o700
    assert files(tmp_path)[0].stat().st_mode & 0o777 == 0o600
    docs.unload()
    execute("DELETE FROM docs WHERE id = 3")
    execute("UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 5) WHERE id = 4")

    again = db.open("docs")
    again.load()

    assert len(reads) == 1
    assert_fresh(again, vectors[:5])
    execute(
        "INSERT INTO docs SELECT 3, embedding FROM docs WHERE id = 5; DELETE FROM docs WHERE id = 3"
    )
    assert again.search(vectors[10:20], k=1).ids[:, 0].tolist() == built.ids[10:20, 0].tolist()


@pytest.mark.parametrize("options", [{"route": "flat"}, {"rows": "postgres"}, {"build": "fast"}])
def test_other_ways_to_load_have_files_of_their_own(docs, vectors, reads, tmp_path, options):
    docs.load()
    docs.load(**options)
    assert len(reads) == len(files(tmp_path)) == 2
    docs.load()
    docs.load(**options)
    docs.load(effort=200, **options) if "route" not in options else docs.load(**options)
    assert len(reads) == 2
    assert docs.search(vectors[7], k=1).ids[0] == 7


def test_changes_are_written_back_when_it_is_unloaded(docs, vectors, reads, tmp_path, execute):
    docs.load()
    docs.add(np.arange(N, N + 50), vectors[N : N + 50])
    docs.search(vectors[0])
    docs.unload()
    text = json.loads(_kernels.about_file(str(files(tmp_path)[0])))
    docs.load()
    assert docs.loaded.rows == N + 50  # before it has asked what is new
    assert_fresh(docs, vectors[:3])
    assert len(reads) == 1
    readers = {str(row[0]) for row in execute("SELECT id FROM mrl.reader")}
    assert text["reader"][0] in readers
    assert len(readers) == 2  # the file's, and this process's


def test_a_file_whose_log_was_cut_is_made_again(docs, vectors, reads, execute):
    docs.load()
    docs.unload()
    execute("UPDATE mrl.reader SET lease = clock_timestamp() - interval '1 s'")
    execute("DELETE FROM docs WHERE id = 8")
    execute("SELECT mrl.trim_changes()")

    docs.load()

    assert len(reads) == 2
    assert_fresh(docs, vectors[:3])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"something else entirely" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:-100] + b"x" + path.read_bytes()[-99:]),
        lambda path: path.write_bytes(path.read_bytes()[:8] + b"\x63" + path.read_bytes()[9:]),
        lambda path: os.chmod(path, 0o666),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_file_is_noticed_and_made_again(docs, vectors, reads, tmp_path, damage, caplog):
    docs.load()
    docs.unload()
    damage(files(tmp_path)[0])

    with caplog.at_level(logging.WARNING, logger="mrl_db"):
        docs.load()

    assert len(reads) == 2
    assert not files(tmp_path) or len(caplog.records) <= 1
    assert_fresh(docs, vectors[:3])
    docs.load()
    assert len(reads) == 2


def test_the_file_of_another_collection_is_not_taken(docs, db, vectors, reads, tmp_path):
    docs.load()
    docs.unload()
    mine = files(tmp_path)[0]
    other = db.create_collection("others", dims=DIMS)
    other.add([1], vectors[:1])
    other.load()
    theirs = next(path for path in files(tmp_path) if path != mine)
    other.unload()
    theirs.write_bytes(mine.read_bytes())

    other.load()

    assert len(reads) == 3
    assert other.search(vectors[0], k=5).ids.tolist() == [1]


def test_nothing_is_kept_where_that_is_not_wanted_or_cannot_be(
    docs, vectors, tmp_path, monkeypatch, caplog
):
    docs.load(cache=False)
    docs.load(max_staleness=float("inf"))
    assert files(tmp_path) == []
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("MRL_DB_CACHE", str(blocked / "below"))
    with caplog.at_level(logging.WARNING, logger="mrl_db"):
        docs.load()
    assert "MRL_DB_CACHE" in caplog.text
    assert docs.search(vectors[7], k=1).ids[0] == 7


def test_a_full_disk_is_no_error(docs, vectors, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with caplog.at_level(logging.WARNING, logger="mrl_db"):
        docs.load()
    assert "not cached" in caplog.text
    assert files(tmp_path) == []
    assert docs.search(vectors[7], k=1).ids[0] == 7


def test_files_that_nobody_opened_for_longer_than_their_lease_are_swept_away(
    docs, vectors, tmp_path
):
    docs.load()
    old, recent = tmp_path / "a cache" / "old-0.mrl", tmp_path / "a cache" / "recent-0.mrl"
    for path in (old, recent):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    docs.load(route="flat")
    assert not old.exists()
    assert recent.exists()


def test_refresh_builds_anew(docs, vectors, reads):
    docs.load()
    docs.refresh()
    assert len(reads) == 2
    docs.load()
    assert len(reads) == 2
    assert_fresh(docs, vectors[:3])


def load_and_search(dsn, query, results):
    with mrl_db.connect(dsn) as db:
        docs = db.open("docs")
        docs.load()
        results.put((docs.search(query, k=3).ids.tolist(), docs.loaded.rows))


def test_processes_that_load_at_once_build_it_once(docs, vectors, dsn, tmp_path):
    """All four wait for the first, and map its file."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=load_and_search, args=(dsn, vectors[7], results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    answers = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert len({str(answer) for answer in answers}) == 1
    assert answers[0][0][0] == 7
    assert len(files(tmp_path)) == 1


def test_a_process_killed_while_it_holds_the_lock_holds_nobody_up(docs, vectors, tmp_path):
    docs.load()
    lock = files(tmp_path)[0].with_suffix(".lock")
    docs.unload()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import fcntl, sys; f = open({str(lock)!r}, 'a'); fcntl.flock(f, 2); "
            "print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    docs.load()
    assert docs.search(vectors[7], k=1).ids[0] == 7
