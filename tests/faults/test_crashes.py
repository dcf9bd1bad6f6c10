"""Law 5: servers and clients killed in mid-write: nothing acknowledged is lost, nothing is half."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.postgres.server import embedded

CYCLES = int(os.environ.get("MRL_DB_CRASHES", "6"))
KILLS = int(os.environ.get("MRL_DB_KILLS", "6"))
DIMS, LOW, BATCH = 32, 8, 20


def postmaster(home):
    return int((home / "data" / "postmaster.pid").read_text().split()[0])


def vectors_of(batch):
    return np.random.default_rng(batch).standard_normal((BATCH, DIMS)).astype(np.float32)


class Writer(threading.Thread):
    """Adds batches, each again under its batch_id until it is acknowledged; counts these."""

    def __init__(self, dsn, number, stop):
        super().__init__(daemon=True)
        self.dsn, self.number, self.stopping = dsn, number, stop
        self.acknowledged, self.uncertain, self.errors = [], 0, []

    def run(self):
        db = docs = None
        batch = self.number * 1_000_000
        while not self.stopping.is_set():
            try:
                if docs is None:
                    db = mrl_db.connect(self.dsn, connect_timeout=5, pool_size=1)
                    docs = db.open("docs")
                docs.add(
                    np.arange(BATCH) + batch * BATCH,
                    vectors_of(batch),
                    batch_id=f"batch {batch}",
                    batch=np.full(BATCH, batch),
                )
                self.acknowledged.append(batch)
                batch += 1
                time.sleep(0.01)
            except mrl_db.CommitUncertain:
                self.uncertain += 1
            except mrl_db.ConnectError:
                time.sleep(0.02)
            except Exception as error:
                self.errors.append(error)
                return
        if db is not None:
            db.close()


def connected(docs, dsn):
    """A connection to the server that is back; a backend may outlive its postmaster a little."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            with contextlib.suppress(mrl_db.ConnectError):
                docs.count()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_postmaster_killed_in_mid_write_loses_nothing_and_leaves_no_half(
    tmp_path, postgres_version, rng, monkeypatch
):
    """Four writers and a native reader, through `kill -9` of the postmaster again and again."""
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "home"
    db = mrl_db.connect(
        home=home,
        postgres_version=postgres_version,
        settings={"shared_buffers": "64MB", "restart_after_crash": "off"},
    )
    docs = db.create_collection("docs", dims=DIMS, shortlist_dims=LOW, columns={"batch": "bigint"})
    docs.load()
    stop = threading.Event()
    writers = [Writer(db.dsn, number, stop) for number in range(1, 5)]
    restarts = []
    for writer in writers:
        writer.start()
    for _ in range(CYCLES):
        before = sum(len(writer.acknowledged) for writer in writers)
        deadline = time.monotonic() + 60
        while (
            sum(len(writer.acknowledged) for writer in writers) < before + 8
            and time.monotonic() < deadline
        ):
            assert [error for writer in writers for error in writer.errors] == []
            time.sleep(0.01)
        time.sleep(float(rng.uniform(0, 0.1)))
        os.kill(postmaster(home), signal.SIGKILL)
        began = time.monotonic()
        while True:  # the reader brings its server back
            acknowledged = [batch for writer in writers for batch in list(writer.acknowledged)]
            try:
                found = {
                    writer: docs.search(vectors_of(writer)[3], k=1).ids[0]
                    for writer in acknowledged[-5:]
                }
                break
            except mrl_db.ConnectError:
                assert time.monotonic() - began < 60
        restarts.append(time.monotonic() - began)
        assert found == {batch: batch * BATCH + 3 for batch in found}
        with connected(docs, db.dsn) as connection:
            counts = dict(
                connection.execute("SELECT batch, count(*) FROM docs GROUP BY batch").fetchall()
            )
            assert set(counts.values()) <= {BATCH}
            assert set(acknowledged) <= set(counts)
            wrong = (
                "SELECT count(*) FROM docs WHERE embedding_8 "
                "IS DISTINCT FROM l2_normalize(subvector(embedding, 1, 8))::halfvec(8)"
            )
            assert connection.execute(wrong).fetchone() == (0,)
    stop.set()
    for writer in writers:
        writer.join(timeout=60)
        assert writer.errors == []
    for batch in rng.choice([batch for writer in writers for batch in writer.acknowledged], 20):
        native = docs.search(vectors_of(int(batch))[:5], k=docs.count(), engine="native")
        exact = docs.search(vectors_of(int(batch))[:5], k=docs.count(), exact=True)
        np.testing.assert_array_equal(np.sort(native.ids), np.sort(exact.ids))
        np.testing.assert_allclose(native.distances, exact.distances, atol=2e-6)
    uncertain = sum(writer.uncertain for writer in writers)
    print(
        f"{CYCLES} crashes, {docs.count() // BATCH} batches, {uncertain} uncertain, "
        f"restart {np.median(restarts):.2f} s (most {max(restarts):.2f})"
    )
    db.close()


CLIENT = """
import sys, numpy as np, mrl_db
db = mrl_db.connect(sys.argv[1])
docs = db.open("docs")
def batches(first):
    for part in range(40):
        keys = first + 100 * part + np.arange(100)
        yield keys, np.ones((100, docs.dims), dtype=np.float32) + keys[:, None].astype(np.float32)
        if part == 10:
            print("copying", flush=True)
for first in range(int(sys.argv[2]), int(sys.argv[2]) + 80000, 4000):
    docs.ingest(batches(first), index=False, upsert=bool(first // 4000 % 2))
    print("written", flush=True)
"""


def test_a_client_killed_in_mid_copy_leaves_no_part_and_no_lock(db, dsn, execute, rng):
    docs = db.create_collection("docs", dims=DIMS)
    written = 0
    for number in range(KILLS):
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, dsn, str(number * 80_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout.readline() == "copying\n"
        time.sleep(float(rng.uniform(0, 0.15)))
        client.kill()
        client.wait()
        acknowledged = client.stdout.read().count("written")
        client.stdout.close()
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state <> 'idle' AND pid <> pg_backend_pid()"
        )
        deadline = time.monotonic() + 30
        while execute(others)[0][0] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert execute(others)[0][0] == 0
        count = docs.count()
        assert count % 4000 == 0
        assert count >= written + 4000 * acknowledged
        written = count
        with psycopg.connect(dsn, autocommit=True) as connection:  # nothing waits for the dead
            connection.execute("SET lock_timeout = '5s'")
            connection.execute("VACUUM FULL docs")
    assert docs.add([10**9], np.ones((1, DIMS), dtype=np.float32)) == 1


def test_a_client_of_an_embedded_server_killed_in_mid_copy_leaves_no_orphan(
    tmp_path, postgres_version, rng
):
    home = tmp_path / "home"
    with mrl_db.connect(home=home, postgres_version=postgres_version) as db:
        db.create_collection("docs", dims=DIMS)
    code = CLIENT.replace("mrl_db.connect(sys.argv[1])", "mrl_db.connect(home=sys.argv[1])")
    for number in range(max(2, KILLS // 5)):
        client = subprocess.Popen(
            [sys.executable, "-c", code, str(home), str(number * 80_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout.readline() == "copying\n"
        client.kill()
        client.wait()
        client.stdout.close()
    with mrl_db.connect(home=home) as db:
        assert db.open("docs").count() % 4000 == 0
        server = postmaster(home)
    for _ in range(500):
        if (
            not Path(f"/proc/{server}").exists()
            or Path(f"/proc/{server}/stat").read_text().split()[2] == "Z"
        ):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the server outlived its last user")
    assert not (home / "data" / "postmaster.pid").exists()


def test_a_full_disk_loses_nothing_and_goes_when_there_is_room(tmp_path, postgres_version):
    """On a small tmpfs, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=220m,mode=700", "none", str(disk)],
            check=False,
            capture_output=True,
        ).returncode
    ):
        pytest.skip("mounting a tmpfs takes root")
    try:
        settings = {"shared_buffers": "16MB", "max_wal_size": "64MB", "min_wal_size": "32MB"}
        with mrl_db.connect(
            home=disk / "home", postgres_version=postgres_version, settings=settings
        ) as db:
            docs = db.create_collection("docs", dims=512)
            ballast = disk / "ballast"
            docs.add(np.arange(100), np.ones((100, 512), dtype=np.float32))
            free = os.statvfs(disk)
            ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - (40 << 20)))
            with pytest.raises(mrl_db.MrlDbError) as caught:
                docs.add(np.arange(1000, 60_000), np.ones((59_000, 512), dtype=np.float32))
            assert "space" in str(caught.value) or isinstance(caught.value, mrl_db.ConnectError)
            ballast.unlink()
            for _ in range(50):
                try:
                    assert docs.count() == 100
                    break
                except mrl_db.ConnectError:
                    time.sleep(0.1)
            assert docs.add([100], np.ones((1, 512), dtype=np.float32)) == 1
            assert docs.count() == 101
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_stopped_postmaster_is_not_taken_for_a_dead_one(tmp_path, postgres_version):
    with mrl_db.connect(home=tmp_path / "home", postgres_version=postgres_version) as db:
        db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])
        server = postmaster(tmp_path / "home")
        os.kill(server, signal.SIGSTOP)
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(mrl_db.connect(home=tmp_path / "home"))
        )
        thread.start()
        time.sleep(0.5)
        os.kill(server, signal.SIGCONT)
        thread.join(timeout=60)
        assert answers[0].open("docs").count() == 1
        assert postmaster(tmp_path / "home") == server
        answers[0].close()


def test_schema_changes_and_vacuum_beside_writers_and_a_reader(db, dsn, rng):
    """The table is altered, vacuumed, rewritten, indexed while two clients write and one reads."""
    docs = db.create_collection("docs", dims=DIMS, shortlist_dims=LOW)
    docs.add(np.arange(100), rng.standard_normal((100, DIMS)).astype(np.float32))
    docs.load(cache=False)
    stop, problems = threading.Event(), []

    def write(first):
        with mrl_db.connect(dsn, pool_size=1) as mine:
            other, key = mine.open("docs"), first
            while not stop.is_set():
                try:
                    other.add([key], vectors_of(key)[:1])
                    if docs.search(vectors_of(key)[0], k=1).ids[0] != key:
                        problems.append(("missed", key))
                    if key % 3 == 0:
                        other.delete([key])
                        if docs.search(vectors_of(key)[0], k=1).ids[0] == key:
                            problems.append(("stale", key))
                    key += 1
                except mrl_db.ConflictError:
                    continue
                except Exception as error:
                    problems.append(error)
                    return

    threads = [threading.Thread(target=write, args=(first,)) for first in (1000, 2_000_000)]
    for thread in threads:
        thread.start()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for round_ in range(6):
            for statement in (
                f"ALTER TABLE docs ADD COLUMN extra_{round_} integer",
                "VACUUM docs",
                "ANALYZE docs",
                f"CREATE INDEX later_{round_} ON docs (extra_{round_})",
                "VACUUM FULL docs",
                f"ALTER TABLE docs DROP COLUMN extra_{round_}",
                "SELECT mrl.trim_changes()",
            ):
                connection.execute(statement)
                time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    exact = docs.search(vectors_of(1)[0], k=docs.count(), exact=True)
    assert docs.search(vectors_of(1)[0], k=docs.count()).ids.tolist() == exact.ids.tolist()


def test_the_embedded_server_is_there_again_within_seconds_of_a_crash(tmp_path, postgres_version):
    """Every way back works: a new connection, an old database object, another process."""
    home = tmp_path / "home"
    db = mrl_db.connect(home=home, postgres_version=postgres_version)
    docs = db.create_collection("docs", dims=2)
    docs.add([1], [[1.0, 0.0]])
    for _ in range(3):
        os.kill(postmaster(home), signal.SIGKILL)
        for attempt in range(100):
            try:
                assert docs.count() == 1
                break
            except mrl_db.ConnectError:
                assert attempt < 99
    os.kill(postmaster(home), signal.SIGKILL)
    embedded.EmbeddedServer(home).release()
    assert (
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, mrl_db; print(mrl_db.connect(home=sys.argv[1]).open('docs').count())",
                str(home),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        == "1\n"
    )
    db.close()
    assert conninfo.conninfo_to_dict(db.dsn)["host"]
