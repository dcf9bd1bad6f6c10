"""Filtered searches: equal answers, who is asked of which row, and which plan is taken."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import both_answers, clustered, composed, fill, plan, recall, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DIMS = 32
ROWS = clustered(3000, DIMS)
QUERIES = clustered(3000, DIMS, seed=0)[::300] + 0.05

comparisons = st.one_of(
    st.builds("kind < {}".format, st.integers(0, 1000)),
    st.builds("kind >= {}".format, st.integers(0, 1000)),
    st.builds("kind % {} = 0".format, st.integers(1, 400)),
    st.builds("id BETWEEN {0} AND {0} + {1}".format, st.integers(0, 2999), st.integers(0, 800)),
    st.builds("kind IN (SELECT g FROM generate_series(0, {}) AS g)".format, st.integers(0, 300)),
    st.builds(
        "EXISTS (SELECT FROM allowed AS a WHERE a.kind = docs.kind AND a.kind > {})".format,
        st.integers(0, 100),
    ),
    st.builds("embedding <-> '{}' < {}".format, st.just(text(ROWS[7])), st.integers(1, 9)),
    st.just("kind IS NULL"),
)
filters = composed(comparisons, 3)


@pytest.fixture
def docs(connection):
    """A table of 3,000 rows with an index, whose searches look at every code."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("CREATE TABLE allowed AS SELECT g AS kind FROM generate_series(0, 150) AS g")
    connection.execute("ANALYZE docs; ANALYZE allowed; SET mrl.effort = 4000")
    return connection


def distances(session, statement):
    return [row[0] for row in session.execute(statement)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=filters,
    query=st.sampled_from(list(QUERIES)),
    k=st.sampled_from([1, 10, 40, 3000]),
    offset=st.sampled_from([0, 0, 15]),
)
def test_any_filter_is_answered_as_by_a_sequential_scan(docs, where, query, k, offset):
    distance = f"embedding <=> '{text(query)}'"
    statement = (
        f"SELECT {distance} FROM docs WHERE {where} ORDER BY {distance} LIMIT {k} OFFSET {offset}"
    )

    by_index = distances(docs, statement)

    docs.execute("SET enable_indexscan = off; SET enable_seqscan = on")
    assert by_index == distances(docs, statement)
    docs.execute("RESET enable_indexscan; SET enable_seqscan = off")


def test_rows_that_fail_are_counted_and_never_come_back(docs):
    statement = f"SELECT id FROM docs WHERE kind < 100 ORDER BY embedding <=> '{text(QUERIES[0])}'"

    lines = docs.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}").fetchall()

    removed = [row[0] for row in lines if "Rows Removed by Filter" in row[0]]
    assert [int(line.rpartition(":")[2]) for line in removed] == [2700]
    assert len({row[0] for row in docs.execute(statement)}) == 300


def test_a_volatile_filter_is_asked_once_of_each_row_that_is_returned(docs):
    docs.execute("CREATE SEQUENCE asked")
    query = text(QUERIES[0])

    docs.execute(
        f"SELECT id FROM docs WHERE nextval('asked') > 0 ORDER BY embedding <=> '{query}' LIMIT 7"
    ).fetchall()

    assert docs.execute("SELECT last_value FROM asked").fetchone() == (7,)


def test_a_filter_of_the_user_does_not_see_what_a_policy_hides(docs):
    docs.execute("CREATE ROLE reader; GRANT SELECT ON docs TO reader")
    try:
        docs.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        docs.execute("CREATE POLICY few ON docs FOR SELECT TO reader USING (kind < 50)")
        docs.execute(
            "CREATE FUNCTION tell(kind integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE "
            "COST 0.000001 AS $$ BEGIN RAISE NOTICE '%', kind; RETURN true; END $$"
        )
        seen = []
        docs.add_notice_handler(lambda notice: seen.append(int(notice.message_primary)))
        docs.execute("SET ROLE reader")

        rows = docs.execute(
            f"SELECT kind FROM docs WHERE tell(kind) ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 20"
        ).fetchall()

        assert len(rows) == 20
        assert seen
        assert max(seen) < 50
    finally:
        docs.execute("RESET ROLE; DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.parametrize(
    ("matching", "index"), [(1, "docs_kind"), (5, "docs_kind"), (500, "docs_mrl")]
)
def test_the_planner_takes_the_index_that_visits_fewer_rows(docs, matching, index):
    docs.execute("CREATE INDEX docs_kind ON docs (kind)")
    docs.execute("ANALYZE docs; RESET enable_seqscan; SET mrl.effort = 64")
    ordered = f"ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 10"

    assert index in plan(docs, f"SELECT id FROM docs WHERE kind < {matching} {ordered}")


def test_a_filter_may_search_other_indexes(docs):
    fill(docs, ROWS[:600], table="others", column=f"vector({DIMS})")
    docs.execute("CREATE INDEX ON others USING mrl (embedding vector_cosine_ops)")
    docs.execute(
        "CREATE FUNCTION nearest_other(query vector) RETURNS integer LANGUAGE plpgsql STABLE AS $$ "
        "BEGIN RETURN (SELECT id FROM others ORDER BY embedding <=> query LIMIT 1); END $$"
    )
    statement = (
        "SELECT id FROM docs WHERE nearest_other(embedding) < 300 "
        f"ORDER BY embedding <=> '{text(QUERIES[1])}' LIMIT 12"
    )

    by_index = distances(docs, statement)

    docs.execute("SET enable_indexscan = off; SET enable_seqscan = on")
    assert len(by_index) == 12
    assert by_index == distances(docs, statement)


def test_a_filter_is_not_asked_of_rows_that_the_snapshot_does_not_see(docs):
    """Rows are read in place: their own headers say whether they are seen."""
    ordered = f"ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 10"
    statement = f"SELECT id FROM docs WHERE 1000 / (kind - 2000) < 0 {ordered}"
    dsn = docs.info.dsn
    with psycopg.connect(dsn, autocommit=True) as writer, psycopg.connect(dsn) as early:
        early.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM docs LIMIT 1")
        early.execute("SET LOCAL enable_seqscan = off; SET LOCAL mrl.effort = 4000")
        expected = docs.execute(statement).fetchall()
        insert = f"INSERT INTO docs VALUES (9000, 2000, '{text(QUERIES[0])}')"
        for end in ("ROLLBACK", "COMMIT"):
            writer.execute(f"BEGIN; {insert}")
            for _ in range(2):
                assert docs.execute(statement).fetchall() == expected
            writer.execute(end)
        with pytest.raises(psycopg.errors.DivisionByZero):
            docs.execute(statement)
        for session in (docs, writer):  # whoever looks at a row notes on it that it was committed
            session.execute("SELECT count(*) FROM docs")
        for _ in range(3):
            assert early.execute(statement).fetchall() == expected
        writer.execute("DELETE FROM docs WHERE kind = 2000")
        for _ in range(3):
            assert docs.execute(statement).fetchall() == expected
            assert early.execute(statement).fetchall() == expected


def test_filtered_rows_are_read_in_place_too(docs):
    """A search asks the buffer manager for the rows that it returns, not for all that it looks at."""
    statement = (
        "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT id FROM docs WHERE kind < 500"
        f" ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 10"
    )
    docs.execute("VACUUM docs")
    docs.execute("SET mrl.effort = 64")
    pages = {}
    for access in ("unpinned", "pinned"):
        docs.execute(f"SET mrl.page_access = {access}")
        for _ in range(2):
            (said,) = docs.execute(statement).fetchone()
        pages[access] = said[0]["Plan"]["Shared Hit Blocks"] + said[0]["Plan"]["Shared Read Blocks"]

    assert pages["unpinned"] < 10 + 15 < pages["pinned"]


def test_as_large_a_share_of_many_rows_is_found_as_of_ten(connection):
    made = np.random.default_rng(3).standard_normal((30_060, 200)).astype(np.float32)
    made /= np.sqrt(1 + np.arange(200) / 4)
    fill(connection, made[60:], column="vector(200)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("ANALYZE docs; SET mrl.effort = 64")
    queries = made[:60]

    ten = recall(connection, queries, 10)

    assert 0.85 < ten < 0.95
    assert recall(connection, queries, 30) >= ten
    assert recall(connection, queries, 10, where="kind < 500") >= ten


def test_an_effort_that_looks_at_all_rows_orders_them_whatever_the_planner_expects(connection):
    """It takes hardly any row to pass, and a third does."""
    made = np.random.default_rng(3).standard_normal((11_005, 300)).astype(np.float32)
    fill(connection, made[5:], column="vector(300)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("ANALYZE docs; SET mrl.effort = 100000")

    for query in made[:5]:
        by_index, by_scan = both_answers(connection, query, 200, "id % 3 = 0")
        assert by_index == by_scan
