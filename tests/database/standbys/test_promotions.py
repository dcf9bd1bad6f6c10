"""Hot standbys that take another role, and other servers in their place."""

from dataclasses import replace

import psycopg
import pytest
import standbys
from followed import ROW, N, assert_equal_to_the_database, comparisons, nearest, text

import mrl_db
from mrl_db import parts

pytestmark = pytest.mark.carried


def test_a_standby_is_no_part_beside_its_primary_until_it_is_promoted(pair):
    server, copy = pair
    listed = [server.dsn, copy.dsn]
    for servers in (listed, listed[::-1]):
        with pytest.raises(mrl_db.ShapeError, match="server 1 is server 0 .*standby"):
            parts.open_servers(servers, "docs")

    with psycopg.connect(copy.dsn, autocommit=True) as there:
        standbys.promote(there)
    with parts.open_servers(listed, "docs") as docs:
        assert docs.count() == 2 * N


def test_a_reader_goes_over_when_its_standby_is_promoted(pair, vectors, monkeypatch):
    server, copy = pair
    with (
        mrl_db.connect(copy.dsn) as db,
        psycopg.connect(copy.dsn, autocommit=True) as there,
        psycopg.connect(server.dsn, autocommit=True) as session,
        psycopg.connect(server.dsn) as running,
        psycopg.connect(server.dsn, autocommit=True) as prepared,
    ):
        docs = db.open("docs")
        docs.load()
        nearest(docs, vectors[0])
        compared = comparisons(docs, monkeypatch)
        running.execute(ROW, (N + 8, text(vectors[N + 8])))
        prepared.execute("BEGIN")
        prepared.execute(ROW, (N + 1, text(vectors[N + 1])))
        prepared.execute("PREPARE TRANSACTION 'one'")
        session.execute(ROW, (N + 2, text(vectors[N + 2])))
        standbys.catch_up(session, there)
        assert nearest(docs, vectors[N + 2])[0] == N + 2
        session.execute(ROW, (N + 3, text(vectors[N + 3])))
        standbys.catch_up(session, there)

        standbys.promote(there)
        assert nearest(docs, vectors[N + 3])[0] == N + 3
        there.execute("COMMIT PREPARED 'one'")
        session.execute("ROLLBACK PREPARED 'one'")
        assert nearest(docs, vectors[N + 1])[0] == N + 1
        docs.add([N + 4], vectors[N + 4 : N + 5])
        there.execute("DELETE FROM docs WHERE id = 5")
        assert nearest(docs, vectors[N + 4])[0] == N + 4
        assert_equal_to_the_database(docs, vectors[:3])

        assert compared == []
        registered = "SELECT count(*) FROM mrl.reader WHERE id = %s"
        reader = docs.loaded._live._reader
        assert there.execute(registered, [reader.id]).fetchone() == (1,)
        docs.unload()
        assert there.execute(registered, [reader.id]).fetchone() == (0,)


def test_a_reader_compares_when_a_promoted_standbys_log_was_cut(pair, vectors, monkeypatch):
    server, copy = pair
    with (
        mrl_db.connect(copy.dsn) as db,
        psycopg.connect(copy.dsn, autocommit=True) as there,
        psycopg.connect(server.dsn, autocommit=True) as session,
    ):
        docs = db.open("docs")
        docs.load()
        nearest(docs, vectors[0])
        compared = comparisons(docs, monkeypatch)
        session.execute("DELETE FROM docs WHERE id = 5; DELETE FROM mrl.change")
        standbys.catch_up(session, there)
        standbys.promote(there)

        assert_equal_to_the_database(docs, vectors[:3])
        assert compared == [1]
        there.execute("DELETE FROM docs WHERE id = 6")
        assert_equal_to_the_database(docs, vectors[:3])
        assert compared == [1]


def test_a_standby_that_follows_another_primary_is_read_on(pair, vectors, monkeypatch):
    """It is not started again: what its old primary had not committed, the new one takes back."""
    server, one = pair
    where = psycopg.conninfo.conninfo_to_dict(one.dsn)
    with (
        standbys.standby_of(server, port=5435) as other,
        mrl_db.connect(other.dsn) as db,
        psycopg.connect(one.dsn, autocommit=True) as first,
        psycopg.connect(other.dsn, autocommit=True) as second,
        psycopg.connect(server.dsn, autocommit=True) as session,
        psycopg.connect(server.dsn) as running,
    ):
        docs = db.open("docs")
        docs.load(cache=False)
        nearest(docs, vectors[0])
        compared = comparisons(docs, monkeypatch)
        running.execute(ROW, (N + 8, text(vectors[N + 8])))
        session.execute("BEGIN")
        session.execute(ROW, (N + 1, text(vectors[N + 1])))
        session.execute("PREPARE TRANSACTION 'one'")
        session.execute(ROW, (N + 2, text(vectors[N + 2])))
        standbys.catch_up(session, first)
        standbys.catch_up(session, second)
        assert nearest(docs, vectors[N + 2])[0] == N + 2

        standbys.promote(first)
        second.execute(
            "ALTER SYSTEM SET primary_conninfo = "
            f"'host={where['host']} port={where['port']} user={where['user']}'"
        )
        second.execute("SELECT pg_reload_conf()")
        first.execute(ROW, (N + 3, text(vectors[N + 3])))
        first.execute("COMMIT PREPARED 'one'")
        first.execute("DELETE FROM docs WHERE id = 5")
        standbys.catch_up(first, second)
        session.execute("ROLLBACK PREPARED 'one'")

        assert nearest(docs, vectors[N + 3])[0] == N + 3
        assert nearest(docs, vectors[N + 1])[0] == N + 1
        assert_equal_to_the_database(docs, vectors[:3])
        standbys.promote(second)
        second.execute("DELETE FROM docs WHERE id = 6")
        assert_equal_to_the_database(docs, vectors[:3])
        assert compared == []


def test_a_standby_that_was_made_anew_is_noticed(
    copied, primary, standby, vectors, on_primary, replay, monkeypatch
):
    """It stands elsewhere, and may have replayed less: rows are compared, once."""
    copied.load()
    nearest(copied, vectors[0])
    compared = comparisons(copied, monkeypatch)

    standby.stop()
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    standby.make()
    standby.start()

    with psycopg.connect(standby.dsn, autocommit=True) as there:
        standbys.catch_up(on_primary, there)
        assert_equal_to_the_database(copied, vectors[:3])
        on_primary.execute("DELETE FROM docs WHERE id = 6")
        standbys.catch_up(on_primary, there)
        assert_equal_to_the_database(copied, vectors[:3])
    assert compared == [1]


@pytest.mark.parametrize(
    "was",
    [
        {"replayed": "FFFFFFF/0"},
        {"started": "another", "snapshot": "4000000000:4000000002:4000000000"},
    ],
    ids=["it went back", "another server"],
)
def test_what_does_not_continue_is_compared(copied, vectors, on_primary, replay, monkeypatch, was):
    copied.load()
    nearest(copied, vectors[0])
    compared = comparisons(copied, monkeypatch)
    live = copied.loaded._live
    live._position = replace(live._position, **was)
    on_primary.execute("DELETE FROM docs WHERE id = 5")
    replay()

    assert_equal_to_the_database(copied, vectors[:3])
    assert compared == [1]


def test_a_failover_by_a_list_of_hosts(pair, vectors, request):
    """What is written and searched goes on, over the same objects, at whoever is the primary."""
    server, copy = pair
    request.addfinalizer(server.embedded.revive)
    hosts = psycopg.conninfo.conninfo_to_dict(server.dsn)
    both = {"host": f"{hosts['host']},{hosts['host']}", "port": f"{hosts['port']},{copy.port}"}
    writing = psycopg.conninfo.make_conninfo(server.dsn, **both, target_session_attrs="read-write")
    reading = psycopg.conninfo.make_conninfo(
        server.dsn, **both, target_session_attrs="prefer-standby"
    )
    with (
        mrl_db.connect(writing) as primary,
        mrl_db.connect(reading) as replica,
        psycopg.connect(copy.dsn, autocommit=True) as there,
    ):
        docs, copied = primary.open("docs"), replica.open("docs")
        docs.load(cache=False)
        copied.load()
        docs.add([N], vectors[N : N + 1])
        token = docs.position()
        assert copied.search(vectors[N], k=1, after=token).ids.tolist() == [N]
        assert nearest(docs, vectors[N])[0] == N

        standbys.stop(server)
        standbys.promote(there)

        written = None
        while written is None:  # connections that were lost are said to be, once each
            try:
                written = docs.upsert([N + 1], vectors[N + 1 : N + 2])
            except mrl_db.ConnectError:
                continue
        assert nearest(docs, vectors[N + 1])[0] == N + 1
        assert nearest(copied, vectors[N + 1])[0] == N + 1
        there.execute("DELETE FROM docs WHERE id = 7")
        assert_equal_to_the_database(docs, vectors[:3])
        assert_equal_to_the_database(copied, vectors[:3])
