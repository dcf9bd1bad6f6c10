"""Distances that a plan computes of the rows that an index brought: those that nobody asks for, and
those that the index knows."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import OPERATORS, clustered, fill, text

DIMS = 600  # toasted: some 2,400 bytes
ROWS = clustered(1500, DIMS)
QUERIES = clustered(1500, DIMS)[::300] + np.float32(0.05)


@pytest.fixture
def docs(connection):
    """A table of toasted vectors with an index, whose searches look at every code."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("ANALYZE docs; SET mrl.effort = 4000")
    return connection


def outputs(session, statement):
    """What the scan by an index computes for each row."""
    (said,) = session.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) {statement}").fetchone()
    nodes, found = [said[0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Index Name") == "docs_mrl":
            found.append(node["Output"])
    return found


def test_a_distance_that_nobody_asks_for_is_not_computed(docs):
    distance = f"embedding <=> '{text(ROWS[0])}'"
    ordered = f"ORDER BY {distance}"

    dropped = "NULL::double precision"
    for statement in (
        f"SELECT id FROM docs {ordered} LIMIT 5",
        f"SELECT * FROM (SELECT id FROM docs {ordered} LIMIT 5) AS d JOIN pg_am ON oid = d.id",
        f"SELECT (SELECT sum(d.id) FROM (SELECT id FROM docs {ordered} LIMIT 5) AS d)",
        f"(SELECT id FROM docs {ordered} LIMIT 5) UNION ALL (SELECT id FROM docs {ordered} LIMIT 5)",
    ):
        computed = outputs(docs, statement)
        assert computed, statement
        assert all(dropped in output for output in computed), statement
    for statement in (
        f"SELECT id, {distance} FROM docs {ordered} LIMIT 5",
        f"SELECT id FROM docs {ordered} FETCH FIRST 5 ROWS WITH TIES",
        f"SELECT id FROM docs {ordered}, id LIMIT 5",
        f"SELECT DISTINCT ON ({distance}) id FROM docs {ordered} LIMIT 5",
    ):
        assert not any(dropped in output for output in outputs(docs, statement)), statement
    statement = f"SELECT id FROM docs {ordered} LIMIT 5"
    assert docs.execute(statement).fetchall() == by_scan(docs, statement)


def pages_asked_for(session, statement):
    """How many pages a statement asks the buffer manager for, once places are remembered.

    Some show the clock sweep what is in use, not the same number each time; to read ten vectors
    takes thirty.
    """
    for _ in range(2):
        (said,) = session.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}"
        ).fetchone()
    return said[0]["Plan"]["Shared Hit Blocks"] + said[0]["Plan"]["Shared Read Blocks"]


def by_scan(session, statement):
    session.execute("SET enable_indexscan = off; SET enable_seqscan = on")
    try:
        return session.execute(statement).fetchall()
    finally:
        session.execute("RESET enable_indexscan; SET enable_seqscan = off")


def test_a_distance_that_is_returned_is_the_one_that_the_index_found(docs):
    near, far = (f"embedding <=> '{text(query)}'" for query in QUERIES[:2])
    bare = pages_asked_for(docs, f"SELECT id FROM docs ORDER BY {near} LIMIT 10")

    for columns in (f"id, {near}", f"id, {near} AS d", f"id, 1 - ({near}) AS similarity"):
        statement = f"SELECT {columns} FROM docs ORDER BY {near} LIMIT 10"
        assert abs(pages_asked_for(docs, statement) - bare) < 10
        assert docs.execute(statement).fetchall() == by_scan(docs, statement)
    other = f"SELECT id, {far}, {near} FROM docs ORDER BY {near} LIMIT 10"
    assert pages_asked_for(docs, other) >= bare + 10 * 3
    assert docs.execute(other).fetchall() == by_scan(docs, other)


def test_and_so_where_joins_stand_above_the_scan(docs):
    docs.execute("CREATE TABLE kinds AS SELECT DISTINCT kind, kind % 7 AS label FROM docs")
    docs.execute("ALTER TABLE kinds ADD PRIMARY KEY (kind); ANALYZE kinds")
    distance = f"embedding <=> '{text(QUERIES[2])}'"
    joined = f"FROM docs JOIN kinds USING (kind) ORDER BY {distance} LIMIT 10"

    pages = [
        pages_asked_for(docs, f"SELECT {columns} {joined}")
        for columns in ("id, label", f"id, label, {distance}")
    ]
    assert abs(pages[0] - pages[1]) < 10
    statement = f"SELECT id, label, {distance} {joined}"
    assert docs.execute(statement).fetchall() == by_scan(docs, statement)

    query = f"'{text(QUERIES[2])}'"
    neighbours = (  # of the same TOAST table, and met by no scan
        f"SELECT a.id, a.embedding <=> {query}, b.embedding <=> {query} FROM docs AS a"
        " JOIN docs AS b ON b.id = (a.id + 1) % 1500"
        f" ORDER BY a.embedding <=> {query} LIMIT 10"
    )
    assert docs.execute(neighbours).fetchall() == by_scan(docs, neighbours)


@pytest.mark.parametrize("type_name", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", OPERATORS)
def test_every_metric_and_type(connection, metric, type_name):
    dims = DIMS if type_name == "vector" else 2 * DIMS
    fill(connection, clustered(600, dims), column=f"{type_name}({dims})")
    connection.execute(
        f"CREATE INDEX docs_mrl ON docs USING mrl (embedding {type_name}_{metric}_ops)"
    )
    connection.execute("ANALYZE docs; SET mrl.effort = 4000")
    query = text(clustered(1, dims, seed=5)[0])
    bare = f"SELECT id FROM docs ORDER BY embedding {OPERATORS[metric]} '{query}' LIMIT 10"

    for distance in (
        f"embedding {OPERATORS[metric]} '{query}'",
        f"'{query}'::{type_name} {OPERATORS[metric]} embedding",
    ):
        statement = f"SELECT id, {distance} AS d FROM docs ORDER BY {distance} LIMIT 10"
        assert abs(pages_asked_for(connection, statement) - pages_asked_for(connection, bare)) < 10
        assert connection.execute(statement).fetchall() == by_scan(connection, statement)


def test_cursors_beside_each_other_keep_to_their_queries(docs):
    """Two scans that return the same rows: each of them has another distance."""
    queries = [QUERIES[0], QUERIES[0] + np.float32(0.01)]
    expected = [
        by_scan(
            docs,
            f"SELECT id, embedding <=> '{text(query)}' FROM docs"
            f" ORDER BY embedding <=> '{text(query)}' LIMIT 60",
        )
        for query in queries
    ]
    found = [[], []]
    with docs.transaction():
        for name, query in zip("ab", queries, strict=True):
            docs.execute(
                f"DECLARE {name} CURSOR FOR SELECT id, embedding <=> '{text(query)}' FROM docs"
                f" ORDER BY embedding <=> '{text(query)}' LIMIT 60"
            )
        for _ in range(60):
            for rows, name in zip(found, "ab", strict=True):
                rows += docs.execute(f"FETCH 1 FROM {name}").fetchall()
    assert found == expected
    assert {row[0] for row in found[0]} & {row[0] for row in found[1]}


def test_partitions_and_rows_that_change_under_the_scan(docs):
    docs.execute(
        f"CREATE TABLE parts (id integer, kind integer, embedding vector({DIMS})) PARTITION BY HASH (id)"
    )
    for part in range(3):
        docs.execute(
            f"CREATE TABLE parts_{part} PARTITION OF parts"
            f" FOR VALUES WITH (MODULUS 3, REMAINDER {part})"
        )
    docs.execute("INSERT INTO parts SELECT * FROM docs")
    docs.execute("CREATE INDEX ON parts USING mrl (embedding vector_cosine_ops); ANALYZE parts")
    distance = f"embedding <=> '{text(QUERIES[1])}'"
    statement = f"SELECT id, {distance} FROM parts ORDER BY {distance} LIMIT 30"
    expected = by_scan(docs, statement)
    assert docs.execute(statement).fetchall() == expected

    with docs.transaction():
        docs.execute(f"DECLARE c CURSOR FOR {statement}")
        found = docs.execute("FETCH 10 FROM c").fetchall()
        docs.execute(f"UPDATE parts SET embedding = '{text(ROWS[0])}'")
        docs.execute("DELETE FROM parts WHERE id % 2 = 0")
        assert found + docs.execute("FETCH ALL FROM c").fetchall() == expected


def test_what_plans_call_is_not_for_others(docs):
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="by plans alone"):
        docs.execute("SELECT mrl_known_distance(embedding, embedding) FROM docs")
    assert docs.execute("SELECT embedding <=> embedding FROM docs LIMIT 1").fetchone() == (0,)
