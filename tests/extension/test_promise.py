"""CREATE INDEX … WITH (recall = …): measured, kept, chosen by."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import fill, recall

DIMS = 32
# Without any structure: walks find it hard, and one that passes a row's own node does not.
MADE = np.random.default_rng(6).standard_normal((3100, DIMS)).astype(np.float32)
ROWS, FRESH = MADE[:3000], MADE[3000:]
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"


@pytest.fixture
def docs(connection):
    """A table of 3,000 rows, with an index that promises .95."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(f"{CREATE} WITH (recall = 0.95)")
    return connection


def promise(session):
    return session.execute("SELECT mrl_promise('docs_mrl')").fetchone()[0]


def effort_now(session):
    """The effort that a search takes, of which both functions say the same."""
    (effort,) = session.execute("SELECT effort FROM mrl_index_info('docs_mrl')").fetchone()
    assert promise(session)["effort"] == effort
    return effort


def least_proven(evidence, target):
    return next(m["effort"] for m in evidence["measured"] if m["lower_bound"] >= target)


def test_fresh_queries_find_what_was_promised_by_the_least_effort_that_is_proven(docs):
    evidence = promise(docs)

    assert (evidence["recall"], evidence["queries"]) == (0.95, 2000)
    assert evidence["effort"] == least_proven(evidence, 0.95)
    bounds = [m["lower_bound"] for m in evidence["measured"]]
    assert bounds == sorted(bounds)
    assert all(m["lower_bound"] < m["recall"] <= 1 for m in evidence["measured"])
    for target in (0.9, 0.95, 0.99):
        docs.execute(f"SET mrl.recall = {target}")
        assert recall(docs, FRESH) >= target


def test_hidden_rows_miss_what_fresh_queries_miss(docs):
    for measured in promise(docs)["measured"][:3]:
        docs.execute(f"SET mrl.effort = {measured['effort']}")
        missed = 1 - recall(docs, FRESH)

        assert missed > 0.03
        assert 0.8 * missed < 1 - measured["recall"] < 2 * missed


def test_a_session_chooses_another_recall_or_an_effort(docs):
    evidence = promise(docs)
    expected = {0.9: least_proven(evidence, 0.9), 0.99: least_proven(evidence, 0.99)}
    assert expected[0.9] < expected[0.99]

    for target, effort in expected.items():
        docs.execute(f"SET mrl.recall = {target}")
        assert effort_now(docs) == effort
    docs.execute("SET mrl.effort = 33")
    assert effort_now(docs) == 33
    docs.execute("RESET mrl.effort")
    assert effort_now(docs) == expected[0.99]
    with docs.transaction(force_rollback=True):
        docs.execute("SET LOCAL mrl.effort = 7")
        assert effort_now(docs) == 7
    assert effort_now(docs) == expected[0.99]
    docs.execute("ALTER INDEX docs_mrl SET (effort = 21)")
    assert effort_now(docs) == 21


def test_what_cannot_be_proven_is_said_and_the_most_is_done(connection):
    fill(connection, ROWS[:400], column=f"vector({DIMS})")
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))

    connection.execute(f"{CREATE} WITH (recall = 0.9999)")

    assert len(notices) == 1
    assert "was asked for recall 0.9999" in notices[0]
    evidence = promise(connection)
    assert evidence["effort"] == evidence["measured"][-1]["effort"]


def test_nothing_is_measured_unless_it_is_asked_for(connection):
    fill(connection, ROWS[:1000], column=f"vector({DIMS})")
    connection.execute(CREATE)
    assert promise(connection) is None

    connection.execute("ALTER INDEX docs_mrl SET (recall = 0.9)")
    assert promise(connection) is None
    connection.execute("REINDEX INDEX docs_mrl")

    assert promise(connection)["recall"] == 0.9


def test_an_index_that_grew_is_measured_when_its_graph_is_made(connection):
    connection.execute(f"CREATE TABLE docs (id integer, kind integer, embedding vector({DIMS}))")
    connection.execute(f"{CREATE} WITH (recall = 0.9)")
    assert promise(connection) is None

    fill(connection, ROWS[:1200])

    assert promise(connection)["rows"] >= 1024
    assert promise(connection)["queries"] == promise(connection)["rows"]


@pytest.mark.parametrize("column", ["vector(3)", "halfvec(3)"])
@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_every_operator_class_is_measured(connection, column, metric):
    rows = np.random.default_rng(5).standard_normal((700, 3)).astype(np.float32)
    fill(connection, rows, column=column)

    connection.execute(
        f"CREATE INDEX docs_mrl ON docs USING mrl (embedding {column[:-3]}_{metric}_ops) "
        "WITH (recall = 0.97)"
    )

    assert promise(connection)["measured"][-1]["recall"] >= 0.97


def test_other_relations_promise_nothing(docs):
    docs.execute("CREATE INDEX docs_id ON docs (id)")

    for name in ("docs", "docs_id"):
        with pytest.raises(psycopg.Error, match="is not an index of kind mrl"):
            docs.execute("SELECT mrl_promise(%s)", (name,))
