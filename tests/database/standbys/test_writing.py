"""Hot standbys: what is written is written elsewhere, and seen here."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import psycopg
import pytest
from extension import clients
from followed import DIMS, ROW, N, text

import mrl_db

pytestmark = pytest.mark.carried


def test_whatever_writes_is_refused_and_told_where_it_may(copied, standby, vectors):
    def refused():
        return pytest.raises(mrl_db.ReadOnlyError, match="standby, which only reads; write to the")

    with refused():
        copied.add([N], vectors[N : N + 1])
    with refused():
        copied.delete([1])
    with refused():
        copied.update([1], year=[3])
    with refused():
        copied.set_plan(None)
    with mrl_db.connect(standby.dsn) as db, refused():
        db.create_collection("others", dims=3)


@pytest.mark.parametrize("engine", ["sql", "native"])
def test_tune_is_refused_before_it_measures(copied, monkeypatch, engine):
    if engine == "native":
        copied.load()
    monkeypatch.setattr("mrl_db.recall.tuner.tune", lambda *_: pytest.fail("it measured"))

    with pytest.raises(mrl_db.ReadOnlyError, match="tune.. chooses would be written; .* standby"):
        copied.tune(recall=0.9, engine=engine)


def test_tune_over_a_read_only_connection_is_told_what_it_is(written, primary, vectors):
    written.create_collection("docs", dims=DIMS).add(np.arange(N), vectors[:N])
    reading = psycopg.conninfo.make_conninfo(
        primary.dsn, options="-c default_transaction_read_only=on"
    )
    with mrl_db.connect(reading) as db:
        with pytest.raises(mrl_db.ReadOnlyError, match="default_transaction_read_only, or"):
            db.open("docs").tune(recall=0.9)
        with pytest.raises(mrl_db.ReadOnlyError, match="default_transaction_read_only, or"):
            db.open("docs").add([N], vectors[N : N + 1])


def test_connect_before_the_primary_has_the_schema_names_the_primary(
    primary, standby, on_primary, replay
):
    on_primary.execute("CREATE DATABASE bare")
    bare = psycopg.conninfo.make_conninfo(primary.dsn, dbname="bare")
    there = psycopg.conninfo.make_conninfo(standby.dsn, dbname="bare")
    try:
        replay()
        with pytest.raises(mrl_db.ReadOnlyError, match="primary"):
            mrl_db.connect(there)
        with psycopg.connect(bare, autocommit=True) as session:
            session.execute("CREATE EXTENSION vector")
        replay()
        with pytest.raises(mrl_db.ReadOnlyError, match="schema mrl is not there.*primary once"):
            mrl_db.connect(there)
        mrl_db.connect(bare).close()
        replay()
        mrl_db.connect(there).close()
    finally:
        on_primary.execute("DROP DATABASE bare WITH (FORCE)")


# Own writes


@pytest.mark.parametrize("way", ["sql", "native", "stale", "exact"])
def test_a_search_after_a_write_sees_it_on_the_standby(copied, written, vectors, standby, way):
    if way in ("native", "stale"):
        copied.load(max_staleness=3600 if way == "stale" else 0)
    options = {"engine": "sql"} if way == "sql" else {"exact": True} if way == "exact" else {}
    docs = written.open("docs")
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        for i in range(3):
            session.execute("SELECT pg_wal_replay_pause()")
            docs.add([N + i], vectors[N + i : N + i + 1])
            token = docs.position()
            with pytest.raises(mrl_db.NotReplayedError, match=f"had not replayed {token}"):
                copied.search(vectors[N + i], after=token, after_timeout=0.01, **options)
            session.execute("SELECT pg_wal_replay_resume()")
            hits = copied.search(vectors[N + i], k=1, after=token, **options)
            assert hits.ids.tolist() == [N + i]
            copied.wait_for(token, timeout=0.001)


def test_positions_are_waited_for_though_nothing_more_is_written(copied, written, vectors):
    """Also those that lie behind the header of a page, where no record ends."""
    with psycopg.connect(written.dsn, autocommit=True) as session:
        for _ in range(20):
            session.execute("SELECT pg_switch_wal()")
            copied.wait_for(written.open("docs").position())


def test_a_position_is_sent_whatever_others_have_written_and_not_committed(
    copied, written, primary, vectors, on_primary
):
    """What is not flushed is sent to nobody, and of others' writes nothing is until they commit."""
    docs = written.open("docs")
    reading = psycopg.conninfo.make_conninfo(
        primary.dsn, options="-c default_transaction_read_only=on"
    )
    flushed = "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn"
    with psycopg.connect(primary.dsn) as other, mrl_db.connect(reading) as db:
        for i, whoever in enumerate((docs, db.open("docs"))):
            docs.add([N + i], vectors[N + i : N + i + 1])
            other.execute(ROW, (2 * N + i, text(vectors[0])))
            token = whoever.position()
            assert on_primary.execute(flushed, [token]).fetchone() == (True,)
            assert copied.search(vectors[N + i], k=1, after=token).ids.tolist() == [N + i]


def test_a_standby_that_stops_a_read_that_waits_for_it_is_waited_for(
    copied, hasty, written, vectors, on_primary
):
    docs = written.open("docs")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with (
        psycopg.connect(hasty.dsn, autocommit=True) as there,
        ThreadPoolExecutor(1) as threads,
    ):
        for i in range(3):
            there.execute("SELECT pg_wal_replay_pause()")
            docs.add([N + i], vectors[N + i : N + i + 1])
            on_primary.execute("DELETE FROM docs WHERE id = %s", [i])
            on_primary.execute("VACUUM docs")
            token = docs.position()
            waiting = threads.submit(copied.wait_for, token, timeout=60)
            clients.wait_for(lambda: there.execute(waits).fetchone() == (1,))
            with suppress(psycopg.errors.SerializationFailure):  # this, too, may be in the way
                there.execute("SELECT pg_wal_replay_resume()")
            waiting.result()
            assert copied.get([i, N + i]).ids.tolist() == [N + i]


def test_after_takes_positions_of_followed_collections_alone(copied, vectors):
    copied.load(max_staleness=float("inf"))
    token = copied.position()

    assert copied.search(vectors[3], k=1, after=token, engine="sql").ids.tolist() == [3]
    with pytest.raises(mrl_db.ValueRangeError, match="follow nothing"):
        copied.search(vectors[3], after=token)
    for wrong in ("", "5", 7, "0/0; DROP", "0/123456789"):
        with pytest.raises(mrl_db.ValueRangeError, match="position is"):
            copied.search(vectors[3], after=wrong)


def test_tasks_see_their_own_writes_on_a_standby(copied, primary, standby, vectors):
    async def main():
        async with (
            await mrl_db.connect_async(primary.dsn) as there,
            await mrl_db.connect_async(standby.dsn) as here,
        ):
            writing, reading = await there.open("docs"), await here.open("docs")
            await reading.load(cache=False)
            for i in range(N, N + 10):
                await writing.add([i], vectors[i : i + 1])
                token = await writing.position()
                hits = await reading.search(vectors[i], k=1, after=token)
                assert hits.ids.tolist() == [i]
            await reading.wait_for(token)

    asyncio.run(main())
