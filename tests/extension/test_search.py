"""Searches by the index against sequential scans of the same table."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import (
    OPERATORS,
    clustered,
    exact,
    fill,
    nearest,
    plan,
    recall,
    text,
)

DIMS = 64
ROWS = clustered(6000, DIMS)
QUERIES = clustered(6000, DIMS, seed=0)[::150] + np.float32(0.05)


@pytest.fixture
def docs(connection):
    """A table of 6,000 rows with an index for cosine."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    return connection


@pytest.mark.parametrize("metric", OPERATORS)
@pytest.mark.parametrize("type_name", ["vector", "halfvec"])
def test_every_operator_class_finds_what_a_sequential_scan_finds(connection, type_name, metric):
    fill(connection, ROWS, column=f"{type_name}({DIMS})")
    connection.execute(f"CREATE INDEX ON docs USING mrl (embedding {type_name}_{metric}_ops)")
    options = {"operator": OPERATORS[metric], "type_name": type_name}

    assert "Index Scan" in plan(
        connection,
        f"SELECT id FROM docs ORDER BY embedding {OPERATORS[metric]} '{text(QUERIES[0])}' LIMIT 10",
    )
    assert recall(connection, QUERIES, **options) >= 0.97


def test_distances_come_in_order_and_are_the_operators(docs):
    statement = f"SELECT id, embedding <=> '{text(QUERIES[0])}' AS d FROM docs ORDER BY d LIMIT 15"

    by_index = docs.execute(statement).fetchall()

    distances = [row[1] for row in by_index]
    assert distances == sorted(distances)
    ids = [row[0] for row in by_index]
    stored = dict(
        docs.execute(
            f"SELECT id, embedding <=> '{text(QUERIES[0])}' FROM docs WHERE id = ANY(%s)", (ids,)
        ).fetchall()
    )
    assert [stored[i] for i in ids] == distances


def test_effort_buys_recall_up_to_all_of_it(docs):
    found = []
    for effort in (4, 64, 4000):
        docs.execute(f"SET mrl.effort = {effort}")
        found.append(recall(docs, QUERIES))

    assert found == sorted(found)
    assert found[-1] >= 0.999


@pytest.mark.parametrize("access", ["pinned", "unpinned"])
def test_pages_read_in_place_answer_as_copies_do(docs, access):
    docs.execute("SET mrl.page_access = pinned")
    copied = [nearest(docs, q, 25) for q in QUERIES]

    docs.execute(f"SET mrl.page_access = {access}")

    assert [nearest(docs, q, 25) for q in QUERIES] == copied


@pytest.mark.parametrize("matching", [500, 100, 10, 1])
def test_a_filter_leaves_k_rows_when_k_match(docs, matching):
    where = f"kind < {matching}"

    for query in QUERIES[:8]:
        by_index, by_scan = (find(docs, query, 5, where=where) for find in (nearest, exact))

        assert len(by_index) == len(by_scan)
        assert len(set(by_index) & set(by_scan)) >= len(by_scan) - 1


def test_without_a_limit_every_row_comes_once(docs):
    ids = nearest(docs, QUERIES[0], k=10_000)

    assert sorted(ids) == list(range(len(ROWS)))


def test_all_rows_come_once_when_walks_and_lines_are_cut_short(docs):
    docs.execute("SET mrl.max_scan_tuples = 300")

    assert sorted(nearest(docs, QUERIES[0], k=10_000)) == list(range(len(ROWS)))


def test_strict_order_never_goes_back(docs):
    docs.execute("SET mrl.strict_order = on; SET mrl.effort = 8")

    rows = docs.execute(
        f"SELECT embedding <=> '{text(QUERIES[0])}' FROM docs ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 300"
    )
    distances = [row[0] for row in rows]

    assert len(distances) == 300
    assert distances == sorted(distances)


def distances_of(session, query, k, where="true", operator="<=>"):
    """The distances of the nearest rows as they come."""
    distance = f"embedding {operator} '{text(query)}'"
    rows = session.execute(
        f"SELECT {distance} FROM docs WHERE {where} ORDER BY {distance} LIMIT {k}"
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_rows_of_all_lengths_come_in_order(connection, metric):
    """The longer a row, the less its code says of its distance."""
    lengths = np.exp(np.random.default_rng(4).normal(0, 1.5, (1500, 1)))
    fill(connection, ROWS[:1500] * lengths, column=f"vector({DIMS})")
    connection.execute(f"CREATE INDEX ON docs USING mrl (embedding vector_{metric}_ops)")
    connection.execute("SET mrl.effort = 4000")

    for query in QUERIES[:20]:
        distances = distances_of(connection, query, 200, operator=OPERATORS[metric])

        assert distances == sorted(distances)


def test_all_rows_come_in_order_among_many_that_are_dead(connection):
    fill(connection, ROWS[:2000], column=f"vector({DIMS})")
    connection.execute("CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops)")
    for _ in range(4):
        connection.execute("UPDATE docs SET embedding = embedding + embedding")
    connection.execute("SET mrl.effort = 100000")

    distances = distances_of(connection, QUERIES[0], 100_000)

    assert len(distances) == 2000
    assert distances == sorted(distances)


@pytest.mark.parametrize("k", [50, 100, 300])
def test_a_wide_limit_is_answered_in_order_by_one_walk(docs, k):
    assert recall(docs, QUERIES[:20], k) >= 0.95
    for query in QUERIES[:20]:
        distances = distances_of(docs, query, k)

        assert len(distances) == k
        assert distances == sorted(distances)


def test_rows_come_in_order_under_a_filter_that_the_planner_knows(docs):
    docs.execute("ANALYZE docs")

    for query in QUERIES[:20]:
        distances = distances_of(docs, query, 20, where="kind < 200")

        assert len(distances) == 20
        assert distances == sorted(distances)


def test_a_limit_that_is_a_parameter_widens_the_walk(docs):
    docs.execute("SET plan_cache_mode = force_generic_plan")
    docs.execute(
        "PREPARE wide (vector, int) AS SELECT id FROM docs ORDER BY embedding <=> $1 LIMIT $2"
    )

    for query in QUERIES[:10]:
        rows = docs.execute(f"EXECUTE wide ('{text(query)}', 100)").fetchall()

        assert [row[0] for row in rows] == nearest(docs, query, 100)


def test_null_and_zero_vectors_are_left_to_the_sequential_scan(connection):
    rows = [*ROWS[:100], None, np.zeros(DIMS, np.float32)]
    fill(connection, rows, column=f"vector({DIMS})")
    connection.execute("CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops)")
    fill(connection, [None, np.zeros(DIMS, np.float32)], first=102)

    assert sorted(nearest(connection, QUERIES[0], 1000)) == list(range(100))
    assert len(exact(connection, QUERIES[0], 1000)) == 104


@pytest.mark.parametrize("query", [f"'{text(np.zeros(DIMS))}'", "NULL"])
def test_a_query_without_direction_returns_all_rows(docs, query):
    rows = docs.execute(f"SELECT id FROM docs ORDER BY embedding <=> {query}::vector LIMIT 9000")

    assert len(rows.fetchall()) == len(ROWS)


def test_each_rescan_asks_anew(docs):
    docs.execute(f"CREATE TABLE queries (id integer, q vector({DIMS}))")
    for i, query in enumerate(QUERIES[:10]):
        docs.execute("INSERT INTO queries VALUES (%s, %s)", (i, text(query)))

    rows = docs.execute(
        "SELECT q.id, n.id FROM queries q, LATERAL (SELECT id FROM docs ORDER BY embedding <=> q.q LIMIT 10) n"
    ).fetchall()

    for i, query in enumerate(QUERIES[:10]):
        assert [row[1] for row in rows if row[0] == i] == nearest(docs, query)


def test_two_scans_of_one_index_do_not_meet(docs):
    a, b = (nearest(docs, q, 400) for q in QUERIES[:2])

    with docs.transaction():
        for name, query in (("a", QUERIES[0]), ("b", QUERIES[1])):
            docs.execute(
                f"DECLARE {name} CURSOR FOR SELECT id FROM docs ORDER BY embedding <=> '{text(query)}' LIMIT 400"
            )
        got = {"a": [], "b": []}
        for _ in range(40):
            for name in got:
                got[name] += [row[0] for row in docs.execute(f"FETCH 10 FROM {name}")]

    assert got == {"a": a, "b": b}


def test_rows_are_seen_as_of_the_snapshot(docs, new_database):
    expected = nearest(docs, QUERIES[0])
    with psycopg.connect(new_database) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SET enable_seqscan = off")
        assert nearest(old, QUERIES[0]) == expected
        docs.execute("DELETE FROM docs WHERE id = ANY(%s)", (expected[:5],))
        docs.execute(f"INSERT INTO docs VALUES (77777, 1, '{text(QUERIES[0])}')")

        assert nearest(old, QUERIES[0]) == expected
        now = nearest(docs, QUERIES[0])

    assert now[0] == 77777
    assert not set(now) & set(expected[:5])


@pytest.mark.parametrize("dims", [1, 2, 3, 240, 241, 768, 2500, 4100])
def test_any_width_is_searched(connection, dims):
    rows = clustered(400 if dims < 2000 else 200, dims)
    leading = ""
    if dims > 4000:  # to fit a projection takes some seconds
        leading = "WITH (dims = 256)"
        rows[:, 256:] *= 0.05
    fill(connection, rows, column=f"vector({dims})")
    connection.execute(f"CREATE INDEX ON docs USING mrl (embedding vector_l2_ops) {leading}")

    assert recall(connection, rows[::40] + np.float32(0.01), operator="<->") >= 0.95


def test_a_column_of_any_width_needs_one_to_be_named(connection):
    fill(connection, ROWS[:500])
    create = "CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops)"

    with pytest.raises(psycopg.Error, match="does not have dimensions"):
        connection.execute(create)
    with pytest.raises(psycopg.Error, match="different vector dimensions 63 and 64"):
        connection.execute(f"{create} WITH (width = 63)")
    connection.execute(f"{create} WITH (width = {DIMS})")

    assert recall(connection, QUERIES[:10]) >= 0.97
    with pytest.raises(psycopg.Error, match="different vector dimensions 64 and 3"):
        fill(connection, [np.ones(3)])
    with pytest.raises(psycopg.Error, match="different vector dimensions 64 and 3"):
        nearest(connection, np.ones(3))


def test_leading_dims_are_walked_by_when_they_are_named(connection):
    rows = clustered(4000, 128)
    rows[:, 32:] *= 0.3  # nested: the leading dims say most
    fill(connection, rows, column="vector(128)")
    connection.execute(
        "CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops) WITH (dims = 32)"
    )

    assert recall(connection, rows[::100] + np.float32(0.02)) >= 0.9
    with pytest.raises(psycopg.Error, match="dims = 200 of vectors of 128"):
        connection.execute(
            "CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops) WITH (dims = 200)"
        )


def test_a_build_that_outgrows_its_memory_inserts_the_rest(connection):
    """In a quarter of the memory that a graph of all rows takes."""
    rows = clustered(6000, 256)
    fill(connection, rows, column="vector(256)")
    create = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    connection.execute("SET maintenance_work_mem = '1MB'")
    with pytest.raises(psycopg.Error, match="must be 2 MB at least"):
        connection.execute(create)

    connection.execute("SET maintenance_work_mem = '1700kB'")
    connection.execute(create)

    assert notices == [
        'index "docs_mrl": maintenance_work_mem is full with 1024 rows; '
        "those that follow are inserted one after another"
    ]
    assert connection.execute("SELECT mrl_check_index('docs_mrl', true)").fetchone() == (6000,)
    connection.execute("SET mrl.effort = 24")
    queries = rows[::60] + np.float32(0.05)
    in_parts = recall(connection, queries)
    connection.execute("RESET maintenance_work_mem; REINDEX INDEX docs_mrl")
    assert in_parts >= recall(connection, queries) - 0.01
