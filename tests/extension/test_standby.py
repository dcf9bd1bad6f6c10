"""A streaming standby: equal answers, and promotion while its primary is written to."""

from __future__ import annotations

import os

import numpy as np
import psycopg
import pytest
import standbys
from extension.clients import session_on, wait_for, working
from extension.conftest import check_indexes
from extension.tables import both_answers, clustered, fill, nearest, plan, text
from standbys import catch_up, promote, standby_of

DIMS = 32
ROWS = clustered(1500, DIMS)
QUERIES = ROWS[::50] + np.float32(0.03)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"
PROMOTIONS = int(os.environ.get("MRL_DB_PROMOTIONS", "1"))


@pytest.fixture
def primary(tmp_path_factory, postgres_version):
    """A server whose WAL others may follow, with a table and its index."""
    server = standbys.new_primary(tmp_path_factory.mktemp("primary"), postgres_version)
    with session_on(server.dsn) as session:
        session.execute("CREATE EXTENSION mrl_db CASCADE")
        fill(session, ROWS[:1000], column=f"vector({DIMS})")
        session.execute(CREATE)
    yield server
    server.embedded.release()


def assert_answers_are_exact(session, queries):
    """By an effort that looks at every code."""
    session.execute("SET mrl.effort = 100000")
    for query in queries:
        by_index, by_scan = both_answers(session, query, 30)
        assert by_index == by_scan
    by_index, by_scan = both_answers(session, queries[0], 100_000)
    assert sorted(by_index) == by_scan
    session.execute("RESET mrl.effort")


def assert_exact_in_recovery(dsn, queries):
    """The same, again where the recovery needed what a search had locked."""
    while True:
        try:
            with session_on(dsn) as standby:
                return assert_answers_are_exact(standby, queries)
        except psycopg.OperationalError as error:
            if "conflict with recovery" not in str(error):
                raise


def test_a_standby_answers_as_its_primary_and_goes_on_when_promoted(primary):
    with (
        session_on(primary.dsn) as session,
        standby_of(primary) as copy,
        session_on(copy.dsn) as standby,
    ):
        fill(session, ROWS[1000:], first=1000)
        session.execute("DELETE FROM docs WHERE id % 7 = 0")
        session.execute("VACUUM docs")
        session.execute("REINDEX INDEX docs_mrl")
        fill(session, ROWS[:50] + np.float32(0.01), first=2000)
        catch_up(session, standby)

        answers = [nearest(session, query) for query in QUERIES]
        assert [nearest(standby, query) for query in QUERIES] == answers

        promote(standby)
        fill(standby, ROWS[:300] + np.float32(0.02), first=5000)
        standby.execute("VACUUM docs")
        assert_answers_are_exact(standby, QUERIES[:3])


@pytest.mark.parametrize(("concurrently", "feedback"), [("", "off"), ("CONCURRENTLY", "on")])
def test_an_index_younger_than_a_snapshot_is_left_alone(primary, concurrently, feedback):
    """The primary's build leaves out rows that only a standby's snapshot sees."""
    settings = {"hot_standby_feedback": feedback, "max_standby_streaming_delay": "-1"}
    with (
        session_on(primary.dsn) as session,
        standby_of(primary, **settings) as copy,
        session_on(copy.dsn) as standby,
        session_on(copy.dsn) as prepared,
    ):
        session.execute("ALTER TABLE docs SET (fillfactor = 50)")  # nothing is pruned on access
        session.execute("VACUUM FULL docs")
        catch_up(session, standby)
        statement = f"SELECT id FROM docs ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 10"
        prepared.execute(f"PREPARE search AS {statement}")
        prepared.execute("SET plan_cache_mode = force_generic_plan")
        snapshots = (standby, prepared)
        for one in snapshots:
            one.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            one.execute("SELECT FROM pg_class LIMIT 1")
        before = nearest(session, QUERIES[0])
        session.execute("DELETE FROM docs WHERE id % 2 = 0")
        session.execute(f"REINDEX INDEX {concurrently} docs_mrl")
        after = nearest(session, QUERIES[0])
        catch_up(session, standby)

        assert before != after
        assert "docs_mrl" not in plan(standby, statement)
        assert nearest(standby, QUERIES[0]) == before
        assert [row[0] for row in prepared.execute("EXECUTE search")] == before
        for one in snapshots:
            one.execute("COMMIT")
        assert "docs_mrl" in plan(standby, statement)
        assert nearest(standby, QUERIES[0]) == after
        assert [row[0] for row in prepared.execute("EXECUTE search")] == after
        assert "docs_mrl" in plan(prepared, "EXECUTE search")


def test_a_scan_that_has_come_to_a_younger_index_is_cancelled(primary):
    """By a plan of before: its snapshot is that of another session, which has held it for longer."""
    settings = {"hot_standby_feedback": "on", "max_standby_streaming_delay": "-1"}
    with (
        session_on(primary.dsn) as session,
        standby_of(primary, **settings) as copy,
        session_on(copy.dsn) as holder,
        session_on(copy.dsn) as standby,
    ):
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        held = holder.execute("SELECT pg_export_snapshot()").fetchone()[0]
        session.execute("DELETE FROM docs WHERE id % 2 = 0")
        session.execute("REINDEX INDEX CONCURRENTLY docs_mrl")
        catch_up(session, standby)
        standby.execute("SET plan_cache_mode = force_generic_plan")
        standby.execute(
            f"PREPARE search AS SELECT id FROM docs ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 3"
        )
        standby.execute("EXECUTE search")
        standby.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        standby.execute(f"SET TRANSACTION SNAPSHOT '{held}'")
        with pytest.raises(psycopg.errors.SerializationFailure, match='Index "docs_mrl" was made'):
            standby.execute("EXECUTE search")


def test_a_standby_is_promoted_while_its_primary_is_written_to(primary, rng):
    number = iter(range(10_000, 10_000_000))

    def insert(session, step):
        fill(session, ROWS[step % 1400 :][:40], first=40 * next(number))

    def delete(session, step):
        session.execute(f"DELETE FROM docs WHERE id % 61 = {step % 61}")
        number = text(ROWS[step % len(ROWS)])
        session.execute(f"UPDATE docs SET embedding = '{number}' WHERE id % 67 = {step % 67}")

    def maintain(session, step):
        session.execute("VACUUM (INDEX_CLEANUP on) docs")
        if step % 3 == 2:
            session.execute("REINDEX INDEX CONCURRENTLY docs_mrl")

    for _ in range(PROMOTIONS):
        with standby_of(primary) as copy:
            dsn = copy.dsn
            with working(primary.dsn, insert, delete, maintain) as clients:
                for _ in range(3):
                    assert_exact_in_recovery(dsn, QUERIES[rng.integers(0, 30, 4)])
                wait_for(lambda: all(client.answers for client in clients))
                with session_on(dsn) as standby:
                    promote(standby)
                    assert_answers_are_exact(standby, QUERIES[:4])
            with session_on(dsn) as standby:
                check_indexes(standby)
                fill(standby, ROWS[:300] + np.float32(0.02), first=5000)
                standby.execute("VACUUM (INDEX_CLEANUP on) docs")
                assert_answers_are_exact(standby, QUERIES[4:8])
                check_indexes(standby)
        with session_on(primary.dsn) as session:
            session.execute("DELETE FROM docs WHERE id % 3 = 0")
