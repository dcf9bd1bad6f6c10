"""Hot standbys: loaded collections follow there, too."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
import standbys
from extension import clients
from followed import (
    ROW,
    Clock,
    N,
    assert_equal_to_the_database,
    comparisons,
    load_following,
    nearest,
    text,
)

import mrl_db
from mrl_db import parts
from mrl_db.engines.native import engine as native

pytestmark = pytest.mark.carried


def test_a_collection_on_a_standby_follows_what_its_primary_commits(
    copied, vectors, on_primary, replay
):
    copied.load()
    assert copied.loaded.rows == N

    on_primary.execute(ROW, (N, text(vectors[N])))
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    replay()

    assert nearest(copied, vectors[N])[0] == N
    assert_equal_to_the_database(copied, vectors[:3])
    on_primary.execute("TRUNCATE docs")
    replay()
    assert len(copied.search(vectors[0], engine="native")) == 0
    assert on_primary.execute("SELECT count(*) FROM mrl.reader").fetchone() == (0,)


def test_what_a_transaction_has_not_committed_yet_is_not_taken_for_seen(
    copied, primary, vectors, on_primary, replay
):
    """The trap: snapshots of a standby do not name the transactions that run."""
    copied.load()
    with psycopg.connect(primary.dsn) as first, psycopg.connect(primary.dsn) as second:
        first.execute(ROW, (N, text(vectors[N])))
        second.execute(ROW, (N + 1, text(vectors[N + 1])))
        on_primary.execute(ROW, (N + 2, text(vectors[N + 2])))
        replay()
        assert nearest(copied, vectors[N + 2])[0] == N + 2
        second.commit()
        replay()
        assert nearest(copied, vectors[N + 1])[0] == N + 1
        first.commit()
    replay()

    assert nearest(copied, vectors[N])[0] == N
    assert_equal_to_the_database(copied, vectors[:3])


def test_what_was_read_is_not_read_again_beside_a_long_transaction(
    copied, primary, vectors, on_primary, replay, monkeypatch
):
    """Its number holds the oldest one that runs back, for as long as it lasts."""
    copied.load()
    live, fetched = copied.loaded._live, []
    apply = live._apply
    monkeypatch.setattr(
        live, "_apply", lambda c, n, *_: fetched.append(list(n.keys)) or apply(c, n)
    )
    with psycopg.connect(primary.dsn) as first:
        first.execute(ROW, (2 * N, text(vectors[0])))
        for i in range(10):
            on_primary.execute(ROW, (N + i, text(vectors[N + i])))
            on_primary.execute("SELECT pg_logical_emit_message(true, '', '')")  # not of ours
            replay()
            assert nearest(copied, vectors[N + i])[0] == N + i
        first.commit()
    replay()
    assert_equal_to_the_database(copied, vectors[:3])

    assert fetched == [[N + i] for i in range(10)] + [[2 * N]]


def test_what_others_on_the_standby_see_is_found_before_it_counts_as_replayed(
    copied, standby, primary, vectors, on_primary, replay
):
    """A commit that drops tables shows its rows first, then removes files, and is replayed then."""
    copied.load(cache=False)
    made = "".join(f"CREATE TABLE made_{number} ();" for number in range(500))
    dropped = "".join(f"DROP TABLE made_{number};" for number in range(500))
    present = "SELECT count(*) FROM docs WHERE id = %s"
    with (
        psycopg.connect(standby.dsn, autocommit=True) as there,
        psycopg.connect(primary.dsn) as one,
    ):
        for i in range(3):
            on_primary.execute(made)
            one.execute(ROW, (N + i, text(vectors[N + i])))
            one.execute(dropped)
            replay()
            nearest(copied, vectors[0])
            one.commit()
            while there.execute(present, [N + i]).fetchone() == (0,):
                pass
            assert nearest(copied, vectors[N + i])[0] == N + i
            replay()
        assert_equal_to_the_database(copied, vectors[:3])


def test_a_standby_is_followed_whatever_isolation_is_usual(
    copied, standby, primary, vectors, on_primary, replay
):
    """Then all statements of a function have the snapshot of the one that calls it."""
    usual = r"-c default_transaction_isolation=repeatable\ read"
    there = psycopg.conninfo.make_conninfo(standby.dsn, options=usual)
    with mrl_db.connect(there) as db, psycopg.connect(primary.dsn) as first:
        docs = db.open("docs")
        docs.load(cache=False)
        first.execute(ROW, (N, text(vectors[N])))
        on_primary.execute(ROW, (N + 1, text(vectors[N + 1])))
        replay()
        assert nearest(docs, vectors[N + 1])[0] == N + 1
        first.commit()
        replay()
        assert nearest(docs, vectors[N])[0] == N


def test_nothing_is_read_again_while_nothing_is_replayed(copied, vectors, monkeypatch):
    copied.load()
    nearest(copied, vectors[0])
    log = copied.loaded._live._log
    news, told = log.news, []
    monkeypatch.setattr(log, "news", lambda *args: told.append(news(*args)) or told[-1])

    nearest(copied, vectors[0])

    assert told == [None]


def test_nothing_is_tried_to_be_written_on_a_standby(copied, standby, vectors, on_primary, replay):
    """Also not when an index on a primary would acknowledge what it has, and trim the log."""
    log = standby.data / "log"
    before = log.read_text().count("cannot execute")
    clock = Clock()
    load_following(copied, clock=clock)
    for i in range(3):
        on_primary.execute(ROW, (N + i, text(vectors[N + i])))
        replay()
        clock.ahead += 61
        assert nearest(copied, vectors[N + i])[0] == N + i
    copied.refresh()
    copied.unload()

    assert log.read_text().count("cannot execute") == before


@pytest.mark.superuser
def test_a_role_that_may_only_read_follows_on_a_standby(
    copied, standby, vectors, on_primary, replay
):
    on_primary.execute("CREATE ROLE reader_of_docs")
    ours = ("collection", "plan", "migration", "promise", "change", "reader", "cut", "logged")
    tables = ", ".join(f"mrl.{name}" for name in ours)
    on_primary.execute(f"GRANT SELECT ON docs, {tables} TO reader_of_docs")
    replay()
    there = psycopg.conninfo.make_conninfo(standby.dsn, options="-c role=reader_of_docs")
    try:
        with mrl_db.connect(there) as db:
            docs = db.open("docs")
            docs.load()
            on_primary.execute(ROW, (N, text(vectors[N])))
            replay()
            assert nearest(docs, vectors[N])[0] == N
    finally:
        on_primary.execute("DROP OWNED BY reader_of_docs; DROP ROLE reader_of_docs")


def test_without_triggers_the_error_names_what_the_primary_is_to_do(
    copied, written, vectors, on_primary, replay
):
    on_primary.execute("SELECT mrl.unlog_changes('docs'::regclass)")
    replay()
    with pytest.raises(mrl_db.FreshnessError, match=r"primary its owner calls SELECT (.*?)\(") as e:
        copied.load()
    on_primary.execute(f"SELECT {e.value.args[0].split('SELECT ')[1].split(' (')[0]}")
    replay()
    copied.load()

    on_primary.execute("SELECT mrl.unlog_changes('docs'::regclass)")
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    replay()
    with pytest.raises(mrl_db.FreshnessError, match="log_for_standbys"):
        nearest(copied, vectors[5])
    written.open("docs").load(cache=False)
    replay()
    assert_equal_to_the_database(copied, vectors[:3])


# How long the primary keeps changes


def held(session):
    return session.execute("SELECT count(*) FROM mrl.change").fetchone()[0]


def test_the_primary_keeps_changes_until_they_are_old(
    copied, written, vectors, on_primary, replay, monkeypatch
):
    copied.load()
    nearest(copied, vectors[0])
    compared = comparisons(copied, monkeypatch)
    for role in ("NONE", "pg_signal_backend"):  # that one may not look at others' statistics
        on_primary.execute(f"SET ROLE {role}")
        assert on_primary.execute("SELECT mrl.has_standbys()").fetchone() == (True,)
    on_primary.execute("RESET ROLE")
    on_primary.execute(ROW, (N, text(vectors[N])))
    on_primary.execute("SELECT mrl.trim_changes()")
    on_primary.execute("SELECT mrl.trim_changes()")
    assert held(on_primary) >= 1
    replay()
    assert nearest(copied, vectors[N])[0] == N
    assert compared == []

    on_primary.execute("UPDATE mrl.moment SET at = at - interval '16 minutes'")
    on_primary.execute(ROW, (N + 1, text(vectors[N + 1])))
    on_primary.execute("SELECT mrl.trim_changes()")  # what is older than that moment is old
    assert held(on_primary) == 2
    on_primary.execute("UPDATE mrl.moment SET at = at - interval '16 minutes'")
    assert on_primary.execute("SELECT mrl.trim_changes()").fetchone() == (2,)
    replay()
    assert nearest(copied, vectors[N + 1])[0] == N + 1
    assert compared == [1]
    assert_equal_to_the_database(copied, vectors[:3])
    assert compared == [1]


@pytest.mark.parametrize("cut", ["DELETE FROM mrl.change", "TRUNCATE mrl.change"])
def test_a_log_that_was_cut_by_hand_is_noticed_on_the_standby(
    copied, vectors, on_primary, replay, cut
):
    copied.load()
    nearest(copied, vectors[0])
    on_primary.execute(ROW, (N, text(vectors[N])))
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    on_primary.execute(cut)
    replay()

    assert_equal_to_the_database(copied, vectors[:3])


def test_triggers_for_standbys_stay_though_nobody_reads_on_the_primary(
    on_primary, copied, replay, caplog
):
    on_primary.execute("SELECT mrl.log_for_standbys('docs', '1 hour')")
    on_primary.execute("UPDATE mrl.logged SET needed_until = now() - interval '1 day'")
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname ^@ 'mrl_log_'"

    assert on_primary.execute("SELECT mrl.unlog_unread()").fetchone() == (0,)
    assert on_primary.execute(triggers).fetchone() == (4,)

    replay()
    copied.load()
    assert "log_for_standbys" not in caplog.text
    on_primary.execute("SELECT mrl.log_for_standbys('docs', NULL)")
    replay()
    copied.load()
    assert "SELECT mrl.log_for_standbys('docs') there to keep it so" in caplog.text
    on_primary.execute("UPDATE mrl.logged SET needed_until = now() - interval '1 day'")
    assert on_primary.execute("SELECT mrl.unlog_unread()").fetchone() == (1,)
    assert on_primary.execute(triggers).fetchone() == (0,)


def test_a_note_of_another_servers_cut_is_none(copied, vectors, on_primary, replay, monkeypatch):
    """As after a dump was restored: transactions are numbered anew."""
    on_primary.execute("INSERT INTO mrl.cut VALUES ('docs'::regclass, '1000000000')")
    replay()
    copied.load()
    nearest(copied, vectors[0])
    compared = comparisons(copied, monkeypatch)
    on_primary.execute(ROW, (N, text(vectors[N])))
    replay()
    assert nearest(copied, vectors[N])[0] == N
    assert compared == []

    on_primary.execute("DELETE FROM docs WHERE id = 5; DELETE FROM mrl.change")
    replay()
    assert_equal_to_the_database(copied, vectors[:3])
    assert compared == [1]


# Files


def readings(monkeypatch):
    """The times at which all rows are read to build an index from now on."""
    noted, read = [], native.read
    monkeypatch.setattr(native, "read", lambda *args: noted.append(1) or read(*args))
    return noted


def test_what_was_built_on_a_standby_is_opened_there_again(
    copied, standby, vectors, on_primary, replay, monkeypatch
):
    """At once while its server runs on; with its rows compared after another start."""
    read = readings(monkeypatch)
    copied.load()
    copied.unload()
    on_primary.execute(ROW, (N, text(vectors[N])))
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    replay()
    copied.load()
    compared = comparisons(copied, monkeypatch)
    assert nearest(copied, vectors[N])[0] == N
    assert_equal_to_the_database(copied, vectors[:3])
    assert (read, compared) == ([1], [])

    copied.unload()
    standby.stop()
    standby.start()
    on_primary.execute("DELETE FROM docs WHERE id = 6")
    with psycopg.connect(standby.dsn, autocommit=True) as there:
        standbys.catch_up(on_primary, there)
    copied.load()
    compared = comparisons(copied, monkeypatch)
    assert_equal_to_the_database(copied, vectors[:3])
    assert (read, compared) == ([1], [1])


def test_files_of_a_primary_and_a_standby_are_of_use_to_both(
    copied, written, vectors, on_primary, replay, monkeypatch
):
    """As where both are on one machine, or a standby was promoted."""
    read = readings(monkeypatch)
    docs = written.open("docs")
    for name, (one, other) in {"docs": (docs, copied), "again": (copied, docs)}.items():
        one.load()
        one.unload()
        on_primary.execute("DELETE FROM docs WHERE id = %s", [len(name)])
        replay()
        other.load()
        compared = comparisons(other, monkeypatch)
        assert_equal_to_the_database(other, vectors[:3])
        on_primary.execute("DELETE FROM docs WHERE id = %s", [10 + len(name)])
        replay()
        assert_equal_to_the_database(other, vectors[:3])
        assert compared == [1]
        other.unload()
    assert read == [1]


# Reads that a standby cancels


def test_rows_that_the_standby_stops_reading_are_read_again(
    copied, hasty, vectors, on_primary, replay
):
    stopped = []

    def conflict(at_most):
        def report(*_):
            if len(stopped) < at_most:
                stopped.append(1)
                on_primary.execute(f"DELETE FROM docs WHERE id = {len(stopped)}")
                on_primary.execute("VACUUM docs")
                replay()

        return report

    copied.load(cache=False, progress=conflict(2))
    assert len(stopped) == 2
    assert_equal_to_the_database(copied, vectors[:3])

    with pytest.raises(mrl_db.RecoveryConflictError, match="hot_standby_feedback"):
        copied.load(cache=False, progress=conflict(1000))
    assert len(stopped) == 6


READS = {
    "native": lambda docs, where, query: docs.search(query, k=N, where=where).ids.tolist(),
    "sql": lambda docs, where, query: docs.search(query, k=N, where=where).ids.tolist(),
    "exact": lambda docs, where, query: docs.search(
        query, k=N, where=where, exact=True
    ).ids.tolist(),
    "count": lambda docs, where, query: docs.count(where),  # noqa: ARG005
    "scan": lambda docs, where, query: docs.scan(where).records().ids.tolist(),  # noqa: ARG005
    "servers": lambda docs, where, query: docs.count(where),  # noqa: ARG005
}


@pytest.mark.parametrize("read", READS)
def test_whatever_reads_is_read_again_where_the_standby_stopped_it(
    copied, hasty, vectors, on_primary, replay, monkeypatch, read
):
    """It is stopped as it waits for a lock, in its filter, and before it gets it.

    One server stands for two, which users may not have it do.
    """
    monkeypatch.setattr("mrl_db.parts.threads.check_apart", lambda opened: None)  # noqa: ARG005
    if read == "native":
        copied.load(cache=False)
    lock = "CASE WHEN row_.id = 3 THEN pg_advisory_xact_lock_shared(20) IS NOT NULL ELSE true END"
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with (
        parts.open_servers([hasty.dsn, hasty.dsn], "docs") as twice,
        psycopg.connect(hasty.dsn, autocommit=True) as gate,
        ThreadPoolExecutor(1) as threads,
    ):
        docs = twice if read == "servers" else copied
        call = partial(READS[read], docs, query=vectors[3])
        gate.execute("SELECT pg_advisory_lock(20)")
        reading = threads.submit(call, mrl_db.raw(psycopg.sql.SQL(lock)))
        clients.wait_for(lambda: gate.execute(waits).fetchone()[0] >= 1)
        # On another page than the one that waits: that would be in the way again and again.
        on_primary.execute("DELETE FROM docs WHERE id = %s", [N - 1])
        on_primary.execute("VACUUM docs")
        replay()
        gate.execute("SELECT pg_advisory_unlock(20)")

        assert reading.result() == call(None)
