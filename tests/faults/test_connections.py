"""Lines and servers that are cut, deaf or slow: what a call says happened is what there is."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psycopg
import pytest
from proxy import Proxy
from psycopg import conninfo

import mrl_db
from mrl_db.postgres import rows

CUTS = int(os.environ.get("MRL_DB_CUTS", "60"))
DIMS = 16


@pytest.fixture
def proxy(dsn, tmp_path):
    folder = tmp_path / "proxy"
    folder.mkdir()
    proxy = Proxy(folder, conninfo.conninfo_to_dict(dsn)["host"])
    yield proxy
    proxy.close()


@pytest.fixture
def through(dsn, proxy):
    return conninfo.make_conninfo(dsn, host=proxy.folder)


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=DIMS, columns={"batch": "integer"})


def rows_of(execute, batch):
    return execute("SELECT count(*) FROM docs WHERE batch = %s", (batch,))[0][0]


def test_a_line_cut_at_any_byte_ends_in_committed_rolled_back_or_uncertain(
    docs, through, proxy, execute, rng
):
    """Each call is cut once, at some byte; sent again under its batch_id it is there once."""
    sizes = {}
    outcomes = {"written": 0, "refused": 0, "uncertain": 0}
    with mrl_db.connect(through, pool_size=1, connect_timeout=30) as db:
        mine = db.open("docs")
        for number in range(-3, CUTS):
            count = int(rng.integers(1, 400))
            keys = np.arange(count) + 1000 * (number + 10)
            vectors = rng.standard_normal((count, DIMS)).astype(np.float32)
            how = ("add", "upsert", "delete")[number % 3]
            if how == "delete":
                docs.add(keys, vectors, batch=np.full(count, number))

            def call(how=how, keys=keys, vectors=vectors, count=count, number=number):
                if how == "delete":
                    return mine.delete(keys, batch_id=f"batch {number}")
                return getattr(mine, how)(
                    keys, vectors, batch=np.full(count, number), batch_id=f"batch {number}"
                )

            before = proxy.passed
            if number >= 0 and number % 4 == 0:
                proxy.arm("commit", int(rng.integers(1, 20)) if number % 8 == 0 else 10_000)
            elif number >= 0:
                fixed, a_row = sizes[how]
                proxy.arm("cut", int(rng.integers(1, fixed + a_row * count)))
            outcome = "written"
            try:
                assert call() == count
            except mrl_db.CommitUncertain:
                outcome = "uncertain"
            except mrl_db.ConnectError:
                outcome = "refused"
            if number < 0:  # how many bytes such a call takes
                sizes[how] = (400, max(1, (proxy.passed - before - 400) // count))
                continue
            proxy.disarm()
            outcomes[outcome] += 1
            written = {"add": count, "upsert": count, "delete": 0}[how]
            unwritten = count - written
            found = rows_of(execute, number)
            assert (
                found
                in {
                    "written": {written},
                    "refused": {unwritten},
                    "uncertain": {written, unwritten},
                }[outcome]
            )
            assert call() == count
            assert rows_of(execute, number) == written
    print(outcomes)
    assert outcomes["refused"] > CUTS / 4
    assert outcomes["uncertain"] > 0


def test_uncertain_is_said_when_the_answer_to_commit_is_lost(docs, through, proxy, execute):
    """Bytes of the COMMIT pass, all at last, but no answer: nobody knows whether the row is there."""
    there = {}
    with mrl_db.connect(through, pool_size=1, connect_timeout=30) as db:
        mine = db.open("docs")
        for key, byte in enumerate([1, 3, 6, 9, 10_000]):
            mine.count()  # by a line that is whole
            proxy.arm("commit", byte)
            with pytest.raises(mrl_db.CommitUncertain):
                mine.add([key], np.ones((1, DIMS), dtype=np.float32))
            assert proxy.disarm()
            deadline = time.monotonic() + (5 if byte == 10_000 else 0)  # the server may still write
            while True:
                there[byte] = execute("SELECT count(*) FROM docs WHERE id = %s", (key,))[0][0]
                if there[byte] == 1 or time.monotonic() > deadline:
                    break
    assert there[1] == 0
    assert there[10_000] == 1


def test_a_search_that_loses_its_line_at_the_end_is_no_uncertain_write(docs, through, proxy):
    """Exact searches read in a transaction, whose COMMIT may be cut; they can be made again."""
    docs.add(np.arange(3), np.eye(3, DIMS, dtype=np.float32))
    with mrl_db.connect(through, pool_size=1, connect_timeout=30) as db:
        mine = db.open("docs")
        for byte in (1, 10_000):
            mine.count()
            proxy.arm("commit", byte)
            with pytest.raises(mrl_db.ConnectError, match="lost"):
                mine.search(np.eye(1, DIMS, dtype=np.float32)[0], exact=True)
            assert proxy.disarm()
        assert mine.search(np.eye(1, DIMS, dtype=np.float32)[0], k=1, exact=True).ids[0] == 0


def test_a_deaf_line_is_given_up(docs, through, proxy, rng):
    with mrl_db.connect(through, pool_size=1, connect_timeout=30, statement_timeout=0.5) as db:
        mine = db.open("docs")
        mine.add([1], np.ones((1, DIMS), dtype=np.float32))
        proxy.arm("deaf", 40)
        began = time.monotonic()
        with pytest.raises(mrl_db.ConnectError):
            mine.add([2], np.ones((1, DIMS), dtype=np.float32))
        assert time.monotonic() - began < 30
        assert mine.count() == 1


def test_a_slow_line_is_waited_for(docs, through, proxy):
    with mrl_db.connect(through, pool_size=1) as db:
        proxy.arm("slow", 30)
        assert db.open("docs").add([1], np.ones((1, DIMS), dtype=np.float32)) == 1


def test_a_native_reader_finds_its_way_back(docs, through, proxy, execute, rng):
    vectors = rng.standard_normal((120, DIMS)).astype(np.float32)
    docs.add(np.arange(60), vectors[:60])
    with mrl_db.connect(through, connect_timeout=30) as db:
        mine = db.open("docs")
        mine.load(cache=False)
        for i in range(60, 120):
            docs.add([i], vectors[i : i + 1])
            proxy.arm("cut", int(rng.integers(1, 600)))
            try:
                assert mine.search(vectors[i], k=1).ids[0] == i
            except mrl_db.ConnectError:
                proxy.disarm()
                assert mine.search(vectors[i], k=1).ids[0] == i
        proxy.disarm()
        assert sorted(mine.search(vectors[0], k=200).ids.tolist()) == list(range(120))


def test_a_native_reader_whose_connection_is_closed_makes_another(docs, rng):
    docs.add([1], rng.standard_normal((1, DIMS)))
    docs.load(cache=False)
    docs.loaded.sync()
    docs.loaded._live._link.connection().close()
    docs.add([2], rng.standard_normal((1, DIMS)))

    def follow(connection):
        connection.close()  # as what ends a process does, while a statement is on its way
        connection.execute("SELECT 1")

    with pytest.raises(mrl_db.ConnectError):
        docs.loaded._live._link.use(follow)

    assert set(docs.search(np.ones(DIMS), k=2).ids) == {1, 2}


def test_a_statement_that_takes_too_long_is_given_up(dsn, docs, execute):
    docs.add([1], np.ones((1, DIMS), dtype=np.float32))
    with mrl_db.connect(dsn, statement_timeout=0.3) as db, psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(mrl_db.CancelledError, match="nothing was written"):
            db.open("docs").add([2], np.ones((1, DIMS), dtype=np.float32))
        other.rollback()
        assert db.open("docs").add([2], np.ones((1, DIMS), dtype=np.float32)) == 1


def test_ctrl_c_cancels_the_servers_statement(dsn, docs, execute):
    docs.add([1], np.ones((1, DIMS), dtype=np.float32))
    code = (
        "import signal, sys, mrl_db\n"
        # A parent in the background may have it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with mrl_db.connect(sys.argv[1]) as db:\n"
        "    docs = db.open('docs')\n"
        "    print('ready', flush=True)\n"
        "    try:\n"
        "        docs.delete([1])\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', flush=True)\n"
        "    docs.count()\n"
    )
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE docs IN SHARE MODE")  # the deletion waits
        client = subprocess.Popen(
            [sys.executable, "-c", code, dsn], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout.readline() == "ready\n"
        waiting = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        deadline = time.monotonic() + 30
        while execute(waiting)[0][0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == "interrupted\n"
        assert client.wait(timeout=30) == 0
        client.stdout.close()
        assert execute(waiting)[0][0] == 0
    assert docs.count() == 1


def test_a_backend_that_is_ended_is_a_connect_error_and_the_next_call_works(docs, execute, rng):
    ours = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    end, others = f"SELECT pg_terminate_backend(pid) {ours}", f"SELECT count(*) {ours}"
    for key in range(5):
        execute(end)
        while execute(others)[0][0] != 0:  # it is told, and then ends
            time.sleep(0.01)
        docs.add(
            [key], np.ones((1, DIMS), dtype=np.float32)
        )  # an idle connection's end is noticed before it is used
    assert docs.count() == 5


def test_a_stopped_backend_is_given_up_in_time(dsn, docs, execute):
    docs.add([1], np.ones((1, DIMS), dtype=np.float32))
    with mrl_db.connect(
        conninfo.make_conninfo(dsn, application_name="stopped"), pool_size=1, statement_timeout=0.5
    ) as db:
        mine = db.open("docs")
        pid = execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'stopped'")
        assert len(pid) == 1
        os.kill(pid[0][0], signal.SIGSTOP)
        try:
            with pytest.raises(mrl_db.ConnectError):
                mine.count()
        finally:
            os.kill(pid[0][0], signal.SIGCONT)
        assert mine.count() == 1


def test_waiting_for_a_connection_says_whether_all_are_busy_or_none_can_be_made(
    docs, through, proxy
):
    with mrl_db.connect(through, pool_size=1, connect_timeout=1.0) as db:
        mine = db.open("docs")
        with db._session.connection(), pytest.raises(mrl_db.ConnectError, match="raise pool_size"):
            mine.count()
    with (
        mrl_db.connect(through, pool_size=3, connect_timeout=1.0) as db,
        contextlib.ExitStack() as lent,
    ):

        def lend(count):
            for _ in range(count):
                lent.enter_context(db._session.connection())

        lend(1)
        proxy.close()
        with pytest.raises(mrl_db.ConnectError, match="could be made") as caught:
            lend(2)  # it may have made a second one before
    assert "pool_size" not in str(caught.value)


@pytest.mark.superuser
def test_deadlocks_and_serialization_failures_are_conflicts(docs, dsn, rng):
    docs.add([1, 2], rng.standard_normal((2, DIMS)).astype(np.float32))
    started, raised = threading.Event(), []
    with psycopg.connect(dsn) as other:
        other.execute("SET deadlock_timeout = '10s'")
        other.execute("UPDATE docs SET batch = 1 WHERE id = 2")

        def upsert():
            started.set()
            try:  # takes row 1, and waits for row 2
                docs.upsert([1, 2], rng.standard_normal((2, DIMS)).astype(np.float32))
            except mrl_db.ConflictError as error:
                raised.append(error)

        thread = threading.Thread(target=upsert)
        thread.start()
        started.wait()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with psycopg.connect(dsn, autocommit=True) as watch:
                if watch.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
                    break
        other.execute("UPDATE docs SET batch = 1 WHERE id = 1")
        other.commit()
        thread.join()
    assert len(raised) == 1
    assert "tried again" in str(raised[0])


def test_no_error_shows_the_password(dsn):
    secret = "s3cret-word"
    for bad in (
        conninfo.make_conninfo(dsn, host="/nonexistent", password=secret),
        f"postgresql://user:{secret}@host:not-a-port/x",
    ):
        with pytest.raises(mrl_db.ConnectError) as caught:
            mrl_db.connect(bad, connect_timeout=2)
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None


# Written once


def test_a_batch_is_written_once_whoever_sends_it_again(docs, db, rng, execute):
    vectors = rng.standard_normal((10, DIMS)).astype(np.float32)
    assert docs.add(np.arange(10), vectors, batch_id="first") == 10
    assert docs.add(np.arange(10), vectors, batch_id="first") == 10
    assert db.open("docs").upsert(np.arange(10), vectors, batch_id="first") == 10
    assert docs.delete(np.arange(3), batch_id="second") == 3
    docs.add([0], vectors[:1])
    assert docs.delete(np.arange(3), batch_id="second") == 3
    assert docs.count() == 8
    assert docs.ingest(np.arange(20, 25), vectors[:5], batch_id="third", index=False) == 5
    assert docs.ingest(np.arange(20, 25), vectors[:5], batch_id="third", index=False) == 5
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add(np.arange(20, 25), vectors[:5], batch_id="fails")
    assert (
        docs.add(np.arange(30, 35), vectors[:5], batch_id="fails") == 5
    )  # what was rolled back was not written
    for wrong in ("", "x" * 201, 5, "a\0b", "line\nline"):
        with pytest.raises(mrl_db.ValueRangeError, match="batch_id"):
            docs.add([99], vectors[:1], batch_id=wrong)


def test_the_same_batch_from_many_threads_is_written_once(docs, dsn, rng):
    vectors = rng.standard_normal((50, DIMS)).astype(np.float32)
    counts = []

    def send():
        with mrl_db.connect(dsn) as db:
            counts.append(db.open("docs").add(np.arange(50), vectors, batch_id="one"))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [50] * 6
    assert docs.count() == 50


# Tables that are altered


def test_columns_altered_by_another_client_are_read_as_they_are(docs, execute, rng):
    """A plan that PostgreSQL keeps for a connection is of the column's type as it was."""
    docs.add(np.arange(3), np.ones((3, DIMS), dtype=np.float32), batch=np.arange(3))
    query = np.ones(DIMS, dtype=np.float32)

    def read():
        got = docs.get([2], columns=["batch"]).columns["batch"][0]
        hits = docs.search(query, k=3, columns=["batch"], engine="sql")
        return got, hits.columns["batch"].tolist()

    for _ in range(12):
        assert read() == (2, [0, 1, 2])
    execute("ALTER TABLE docs ALTER COLUMN batch TYPE text")
    for _ in range(12):
        assert read() == ("2", ["0", "1", "2"])
    execute("ALTER TABLE docs ALTER COLUMN batch TYPE bigint USING batch::bigint")
    with docs._opened.session.transaction() as connection:
        assert rows.count_in(connection, docs._opened.request()) == 3
    assert read() == (2, [0, 1, 2])


def test_a_collection_made_anew_under_its_name_is_another_one(db, rng):
    for dims in (4, 6, 4):
        docs = db.create_collection("again", dims=dims)
        vectors = rng.standard_normal((20, dims)).astype(np.float32)
        docs.add(np.arange(20), vectors)
        for key in range(12):
            assert docs.search(vectors[key], k=1, engine="sql").ids.tolist() == [key]
            assert docs.search(vectors[key], k=1, exact=True).ids.tolist() == [key]
            np.testing.assert_array_equal(docs.get([key]).vectors[0], vectors[key])
        db.drop("again")
