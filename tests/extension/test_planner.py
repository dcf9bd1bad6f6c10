"""Which plan the planner takes by itself, and settings beyond their ranges."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import clustered, fill, plan, text


def test_two_thousand_rows_are_enough_for_the_index(connection):
    connection.execute("RESET enable_seqscan")
    made = clustered(2000, 384)
    fill(connection, made, column="vector(384)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)")
    connection.execute("ANALYZE docs")
    distance = f"embedding <-> '{text(made[3])}'"

    assert "docs_mrl" in plan(connection, f"SELECT id FROM docs ORDER BY {distance} LIMIT 10")
    assert "docs_mrl" in plan(
        connection, f"SELECT id FROM docs WHERE {distance} < 1 ORDER BY {distance} LIMIT 10"
    )


def test_filters_joins_and_limits(connection):
    connection.execute("RESET enable_seqscan")
    made = np.random.default_rng(3).random((10_000, 3))
    fill(connection, made, column="vector(3)")
    connection.execute(
        "CREATE TABLE kinds AS SELECT i AS kind, i % 5 = 0 AS good FROM generate_series(0, 999) AS i"
    )
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)")
    connection.execute("ALTER TABLE kinds ADD PRIMARY KEY (kind); ANALYZE docs; ANALYZE kinds")
    distance = f"embedding <-> '{text(made[5])}'"
    ordered = f"ORDER BY {distance} LIMIT 20"
    by_index = [
        "docs",
        "docs WHERE kind <> 7",
        "docs WHERE kind >= 20",
        f"docs WHERE {distance} < 1",
        "docs JOIN kinds USING (kind)",
        "docs JOIN kinds USING (kind) WHERE good",
    ]
    by_scan = ["docs WHERE kind = 7", "docs WHERE kind < 4"]

    for tables in by_index:
        assert "docs_mrl" in plan(connection, f"SELECT id FROM {tables} {ordered}"), tables
    for tables in by_scan:
        assert "docs_mrl" not in plan(connection, f"SELECT id FROM {tables} {ordered}"), tables
    assert "docs_mrl" not in plan(connection, f"SELECT id FROM docs WHERE {distance} < 1")

    connection.execute("CREATE INDEX docs_kind ON docs (kind)")
    connection.execute(
        "CREATE INDEX docs_seven ON docs USING mrl (embedding vector_l2_ops) WHERE kind < 100"
    )
    assert "docs_kind" in plan(connection, f"SELECT id FROM docs WHERE kind = 7 {ordered}")
    assert "docs_seven" in plan(connection, f"SELECT id FROM docs WHERE kind < 100 {ordered}")


@pytest.mark.parametrize(
    "statement",
    [
        "SET mrl.effort = -1",
        "SET mrl.effort = 100001",
        "SET mrl.least_effort = -1",
        "SET mrl.least_effort = 100001",
        "SET mrl.recall = 1",
        "SET mrl.max_scan_tuples = 0",
        "SET mrl.page_access = never",
        "SET mrl.strict_order = sometimes",
        "SET mrl.other = 1",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops) WITH (effort = -1)",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops) WITH (dims = 8001)",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops) WITH (recall = 1)",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops) WITH (m = 16)",
        "CREATE INDEX ON docs USING mrl (embedding)",
        "CREATE UNIQUE INDEX ON docs USING mrl (embedding vector_l2_ops)",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops, embedding vector_ip_ops)",
        "CREATE INDEX ON docs USING mrl (embedding vector_l2_ops DESC)",
    ],
)
def test_what_cannot_be_is_refused(connection, statement):
    connection.execute("CREATE TABLE docs (id integer, embedding vector(3))")
    connection.execute("CREATE INDEX ON docs USING mrl (embedding vector_l2_ops)")  # loads it

    with pytest.raises(psycopg.Error):
        connection.execute(statement)
