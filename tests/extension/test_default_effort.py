"""How far searches walk where nobody says it: measured when an index's graph is made, shown, kept to."""

from __future__ import annotations

import numpy as np
import pytest
from extension.tables import clustered, fill, recall

DIMS = 64
FRIENDLY = clustered(1500, 30, seed=4) @ np.random.default_rng(1).standard_normal((30, DIMS))
HARD = np.random.default_rng(2).uniform(-1, 1, (4000, DIMS)).astype(np.float32)
CREATE = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)"


def info(session):
    """effort, default_effort, default_recall and default_queries."""
    return session.execute(
        "SELECT effort, default_effort, default_recall, default_queries "
        "FROM mrl_index_info('docs_mrl')"
    ).fetchone()


@pytest.fixture
def docs(connection):
    connection.execute(f"CREATE TABLE docs (id integer, kind integer, embedding vector({DIMS}))")
    return connection


@pytest.mark.parametrize("n", [0, 40, 499])
def test_few_rows_are_not_measured(docs, n):
    fill(docs, HARD[:n])
    docs.execute(CREATE)

    assert info(docs) == (64, 64, None, None)


def test_friendly_rows_keep_the_least(docs):
    fill(docs, FRIENDLY)
    docs.execute(CREATE)

    effort, default, recall, queries = info(docs)

    assert (effort, default, queries) == (64, 64, 1500 // 16)
    assert recall >= 0.96


def test_a_setting_a_parameter_and_a_promise_go_before(docs):
    fill(docs, HARD)
    docs.execute(CREATE)
    effort, default, recall, queries = info(docs)
    assert effort == default > 64
    assert recall >= 0.96
    assert queries == 128

    docs.execute("SET mrl.effort = 64")
    assert info(docs)[:2] == (64, default)
    docs.execute("SET mrl.effort = 0")
    assert info(docs)[:2] == (default, default)
    for least, effort in ((1, default), (default + 9, default + 9)):
        docs.execute(f"SET mrl.least_effort = {least}")
        assert info(docs)[:2] == (effort, default)
    docs.execute("SET mrl.effort = 64")
    assert info(docs)[:2] == (64, default)
    docs.execute("RESET mrl.effort")
    docs.execute("ALTER INDEX docs_mrl SET (effort = 21)")
    assert info(docs)[:2] == (21, default)
    docs.execute("ALTER INDEX docs_mrl RESET (effort); RESET mrl.least_effort")
    assert info(docs)[:2] == (default, default)

    docs.execute("DROP INDEX docs_mrl")
    docs.execute(f"{CREATE} WITH (effort = 30)")
    assert info(docs) == (30, 64, None, None)
    docs.execute("DROP INDEX docs_mrl; DELETE FROM docs WHERE id >= 600")
    docs.execute(f"{CREATE} WITH (recall = 0.5)")
    promised = info(docs)
    docs.execute("ALTER INDEX docs_mrl SET (recall = 0)")
    assert info(docs)[0] == info(docs)[1] >= promised[0]
    assert info(docs)[2] >= 0.96


def test_the_insert_that_makes_the_graph_and_the_vacuum_that_makes_another_measure(docs):
    docs.execute(CREATE)
    fill(docs, FRIENDLY[:1100])
    assert info(docs)[1:2] == (64,)
    assert info(docs)[3] == 1024 // 16

    fill(docs, HARD, first=2000)
    docs.execute("DELETE FROM docs WHERE id < 2000")
    docs.execute("VACUUM docs")

    assert info(docs)[1] > 64
    assert info(docs)[3] == 128


def test_an_index_whose_default_is_a_scan_goes_on_scanning_as_it_grows(docs):
    fill(docs, HARD[:3000])
    docs.execute(CREATE)
    effort = info(docs)[1]
    assert effort == 3000 // 40 + 1  # by which a search looks at all lines

    fill(docs, HARD[3000:], first=3000)

    assert info(docs)[1] == 4000 // 40 + 1


@pytest.mark.parametrize("kind", ["one row far away", "waves"])
def test_where_short_codes_say_little_long_ones_are_looked_at_and_it_is_said(connection, kind):
    if kind == "one row far away":
        rows = np.random.default_rng(5).uniform(-1, 1, (3000, 16)).astype(np.float32)
        rows[7] *= 1e6
        operator, create = "<->", CREATE
    else:  # a projection keeps those of high frequency, and they do not say what is near
        rows = np.sin(np.outer(np.arange(1, 1501), np.arange(1, 701))).astype(np.float32)
        rows[:, 2::3] = 0.5
        operator, create = "<=>", CREATE.replace("l2", "cosine")
    fill(connection, rows, column=f"vector({rows.shape[1]})")
    said = []
    connection.add_notice_handler(lambda notice: said.append(notice.message_primary))
    connection.execute(create)

    effort, default, measured, _ = info(connection)
    assert effort == default > 64
    assert measured >= 0.96
    assert "cannot tell rows apart" in said[0]
    assert recall(connection, rows[100:130], operator=operator) >= 0.95

    if kind == "one row far away":
        said.clear()
        connection.execute("DELETE FROM docs WHERE id = 7")
        connection.execute("VACUUM docs")
        connection.execute("REINDEX INDEX docs_mrl")
        assert info(connection)[1] == 64
        assert not said
