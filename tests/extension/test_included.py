"""INCLUDE columns: filters that the index answers, with equal answers."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from extension.tables import clustered, composed, fill, plan, text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DIMS = 32
ROWS = clustered(2000, DIMS)
QUERIES = clustered(2000, DIMS, seed=0)[::200] + 0.05
CREATE = (
    "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops) "
    "INCLUDE (kind, small, large, day, label, ident, score, flag, tags, zone, mac)"
)
# Every type that is kept in its own way, NULL in some rows, text that is short and too long.
COLUMNS = """
    ALTER TABLE docs ADD small smallint, ADD large bigint, ADD day date, ADD label text,
        ADD ident uuid, ADD score real, ADD flag boolean, ADD tags text[],
        ADD zone timetz, ADD mac macaddr;
    UPDATE docs SET
        small = (id * 31 % 500 - 250)::smallint,
        large = CASE WHEN id % 9 > 0 THEN (id::bigint - 1000) * 3000000000 END,
        day = date '2020-01-01' + id % 700,
        label = CASE id % 4 WHEN 0 THEN 'group ' || id % 40 WHEN 1 THEN repeat('long ', 9) || id % 40
            WHEN 2 THEN '' END,
        ident = md5((id % 300)::text)::uuid,
        score = (id % 77) / 7.0,
        flag = CASE WHEN id % 3 > 0 THEN id % 2 = 0 END,
        tags = ARRAY['a' || id % 5, 'b' || id % 7],
        zone = timetz '00:00+00' + id % 90 * interval '1 minute',
        mac = ('08:00:2b:01:02:' || lpad(to_hex(id % 50), 2, '0'))::macaddr
"""

integers = st.sampled_from(["<", "<=", "=", ">=", ">", "<>"])
comparisons = st.one_of(
    st.builds("kind {} {}".format, integers, st.integers(-1, 1000)),
    st.builds("{} {} kind".format, st.integers(-1, 1000), integers),
    st.builds("small {} {}".format, integers, st.integers(-300, 300)),
    st.builds("small {} '-9223372036854775808'::bigint".format, integers),
    st.builds("large {} {}".format, integers, st.integers(-(2**63), 2**63 - 1)),
    st.builds(
        "large {} {}".format, integers, st.integers(-1000, 1000).map(lambda n: n * 3 * 10**9)
    ),
    st.builds("day {} date '2020-01-01' + {}".format, integers, st.integers(-1, 701)),
    st.builds("day {} timestamp '2021-01-01 12:00'".format, integers),
    st.builds("label {} '{}'".format, integers, st.sampled_from(["group 4", "long ", "", "x"])),
    st.builds("label {} repeat('long ', 9) || {}".format, integers, st.integers(0, 40)),
    st.builds("ident = md5('{}')::uuid".format, st.integers(0, 310)),
    st.builds("zone {} timetz '00:40+00'".format, integers),
    st.builds("mac {} macaddr '08:00:2b:01:02:1{}'".format, integers, st.integers(0, 9)),
    st.builds("score {} {}::real".format, integers, st.integers(0, 12)),
    st.builds("kind = ANY ('{{{},{},{}}}')".format, *[st.integers(0, 1000)] * 3),
    st.builds(
        "{} IS {}NULL".format, st.sampled_from(["large", "label"]), st.sampled_from(["", "NOT "])
    ),
    st.sampled_from(["flag", "NOT flag", "flag IS NOT TRUE", "flag = (kind < 500)", "kind = NULL"]),
    st.builds("tags @> ARRAY['a{}']".format, st.integers(0, 5)),
    st.builds("kind % {} = 0".format, st.integers(1, 400)),  # not leakproof: the executor's
    st.builds("id < {}".format, st.integers(0, 2000)),  # not included
)
filters = composed(comparisons, 4)


@pytest.fixture
def docs(connection):
    """A table of 2,000 rows with an index that includes all columns but one."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(COLUMNS)
    connection.execute(CREATE)
    connection.execute("VACUUM ANALYZE docs")
    connection.execute("SET mrl.effort = 4000")
    return connection


def add(session, rows, first):
    """Puts further rows in the table, with a label and NULL in the other columns."""
    fill(session, rows, table="late", column=f"vector({DIMS})", first=first)
    session.execute(
        "INSERT INTO docs (id, kind, embedding, label) SELECT *, 'added' FROM late; DROP TABLE late"
    )


def distances(session, statement):
    return [row[0] for row in session.execute(statement)]


def by_scan(session, statement):
    """The same by a sequential scan."""
    session.execute("SET enable_indexscan = off; SET enable_seqscan = on")
    try:
        return distances(session, statement)
    finally:
        session.execute("RESET enable_indexscan; SET enable_seqscan = off")


def search(where, query, k=10):
    distance = f"embedding <=> '{text(query)}'"
    return f"SELECT {distance} FROM docs WHERE {where} ORDER BY {distance} LIMIT {k}"


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=filters,
    query=st.sampled_from(list(QUERIES)),
    k=st.sampled_from([1, 10, 40, 2000]),
    access=st.sampled_from(["unpinned", "pinned"]),
)
def test_any_filter_is_answered_as_by_a_sequential_scan(docs, where, query, k, access):
    docs.execute(f"SET mrl.page_access = {access}")

    by_index = distances(docs, search(where, query, k))

    assert by_index == by_scan(docs, search(where, query, k))


@pytest.mark.parametrize("where", ["kind < 700", "kind < 300", "kind < 50 OR small = 7", "flag"])
def test_walks_return_k_rows_that_pass(docs, where):
    docs.execute("SET mrl.effort = 48")
    hits = 0

    for query in QUERIES:
        by_index = distances(docs, search(where, query))

        assert len(by_index) == 10
        hits += len(set(by_index) & set(by_scan(docs, search(where, query))))

    assert hits >= 95


def test_values_follow_their_rows(docs):
    """Inserted, updated, deleted, slots used again, another graph."""
    rng = np.random.default_rng(3)
    for number in range(4):
        docs.execute(f"UPDATE docs SET kind = kind + 1, label = 'moved' WHERE id % 5 = {number}")
        docs.execute(f"DELETE FROM docs WHERE id % 4 = {number}")
        add(docs, ROWS[rng.integers(0, 2000, 500)], 4000 + 500 * number)
        if number % 2:
            docs.execute("VACUUM docs")

        for query in QUERIES[:3]:
            for where in ("kind < 20", "label = 'moved' AND kind < 300", "label = 'added'"):
                by_index = distances(docs, search(where, query, 25))
                assert by_index == by_scan(docs, search(where, query, 25))
        docs.execute("SELECT mrl_check_index('docs_mrl', heap => true)")


def test_a_value_that_a_statement_is_given(docs):
    statement = (
        "PREPARE asked(integer, text, date) AS SELECT id FROM docs WHERE kind < $1 AND label = $2 "
        f"AND day >= $3 ORDER BY embedding <=> '{text(QUERIES[0])}' LIMIT 10"
    )
    docs.execute(f"{statement}; SET plan_cache_mode = force_generic_plan")

    for number in (1000, 200, None):
        given_ = "NULL" if number is None else str(number)
        asked = f"EXECUTE asked({given_}, 'group 4', '2020-02-01')"
        got = distances(docs, asked)
        assert got == by_scan(docs, asked)
        assert bool(got) == (number is not None)


def test_each_row_of_a_join_asks_with_its_own_value(docs):
    docs.execute("CREATE TABLE tenants AS SELECT g AS kind FROM generate_series(0, 60, 3) AS g")
    statement = (
        "SELECT t.kind * 10000 + d.id FROM tenants AS t CROSS JOIN LATERAL (SELECT id FROM docs "
        f"WHERE docs.kind = t.kind ORDER BY embedding <=> '{text(QUERIES[1])}' LIMIT 2) AS d"
    )

    by_index = sorted(distances(docs, statement))

    assert len(by_index) > 20
    assert by_index == sorted(by_scan(docs, statement))


def test_a_policy_on_an_included_column_is_answered(docs):
    docs.execute("CREATE ROLE tenant; GRANT SELECT ON docs TO tenant")
    warnings = []
    docs.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
    try:
        docs.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        docs.execute(
            "CREATE POLICY own ON docs FOR SELECT TO tenant "
            "USING (small = current_setting('app.tenant')::smallint)"
        )
        docs.execute("SET ROLE tenant")
        for tenant in (7, -30, 400):
            docs.execute(f"SET app.tenant = {tenant}")
            for where in ("true", "flag", "kind % 2 = 0", "label = 'group 4' OR large > 0"):
                by_index = distances(docs, search(where, QUERIES[5]))
                assert by_index == by_scan(docs, search(where, QUERIES[5]))
        docs.execute("SET app.tenant = 7")
        lines = docs.execute(f"EXPLAIN (ANALYZE) {search('true', QUERIES[5])}").fetchall()
        assert any("Rows Removed by Filter: 1996" in line for (line,) in lines)
        assert warnings == []
    finally:
        docs.execute("RESET ROLE; DROP OWNED BY tenant; DROP ROLE tenant")


def test_what_may_fail_is_not_asked_of_rows_that_are_gone(docs):
    docs.execute("INSERT INTO docs (id, kind, embedding) SELECT -1, 0, embedding FROM docs LIMIT 5")
    docs.execute("DELETE FROM docs WHERE kind = 0")

    rows = distances(docs, search("1000 / kind > 20 AND kind < 900", QUERIES[2], 5000))

    assert len(rows) == len(
        by_scan(docs, search("1000 / kind > 20 AND kind < 900", QUERIES[2], 5000))
    )


def test_few_rows_that_pass_are_found_without_walking(docs):
    """The planner takes the index for them, and no row that fails is read."""
    docs.execute("RESET enable_seqscan; RESET mrl.effort")
    statement = search("kind BETWEEN 100 AND 109", QUERIES[3])

    lines = docs.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement}"
    ).fetchall()

    assert any("Index Scan using docs_mrl" in line for (line,) in lines)
    assert any("Rows Removed by Filter: 1980" in line for (line,) in lines)
    pages = docs.execute("SELECT relpages FROM pg_class WHERE relname = 'docs'").fetchone()[0]
    hit = next(line for (line,) in lines if "Buffers: shared hit=" in line)
    assert int(hit.split("hit=")[1].split()[0]) < 2 * pages


def test_the_definition_is_kept(docs):
    definition = docs.execute("SELECT pg_get_indexdef('docs_mrl'::regclass)").fetchone()[0]
    assert "INCLUDE (kind, small, large" in definition
    docs.execute("ALTER TABLE docs ALTER kind TYPE bigint")  # writes table and index anew
    docs.execute("REINDEX INDEX CONCURRENTLY docs_mrl")

    statement = search("kind < 20", QUERIES[4])
    assert "docs_mrl" in plan(docs, statement)
    assert distances(docs, statement) == by_scan(docs, statement)


def test_many_columns_fit_and_expressions_are_refused(connection):
    columns = ", ".join(f"c{n} name" for n in range(31))
    connection.execute(f"CREATE TABLE wide (embedding vector(8), {columns})")
    included = ", ".join(f"c{n}" for n in range(31))
    connection.execute(
        f"CREATE INDEX ON wide USING mrl (embedding vector_l2_ops) INCLUDE ({included})"
    )
    connection.execute("INSERT INTO wide (embedding, c30) VALUES ('[1,2,3,4,5,6,7,8]', 'last')")
    assert connection.execute(
        "SELECT c30 FROM wide WHERE c30 = 'last' ORDER BY embedding <-> '[1,1,1,1,1,1,1,1]' LIMIT 1"
    ).fetchone() == ("last",)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="expressions"):
        connection.execute(
            "CREATE INDEX ON wide USING mrl (embedding vector_l2_ops) INCLUDE ((c1 || 'x'))"
        )


def test_after_a_crash_values_are_those_of_their_rows(docs, extension_server, new_database):
    add(docs, ROWS[:600], 3000)
    docs.execute("UPDATE docs SET label = 'late' WHERE id >= 3300")

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off; SET mrl.effort = 4000")
        session.execute("SELECT mrl_check_index('docs_mrl', heap => true)")
        for query in QUERIES[:3]:
            statement = search("label = 'late' AND kind < 400", query, 20)
            assert distances(session, statement) == by_scan(session, statement)


@pytest.mark.parametrize("share", [2, 12])
def test_a_filter_that_has_to_do_with_the_vectors_costs_no_recall(connection, share):
    """Half of the queries lie where hardly a row passes, though the planner expects every second or twelfth: all values are asked once."""
    dims, n = 32, 6000
    rows = clustered(n, dims)
    fill(connection, rows, table="plain", column=f"vector({dims})")
    along = np.argsort(np.argsort(rows @ np.linalg.svd(rows, full_matrices=False)[2][0]))
    connection.execute("CREATE TABLE place (id integer, along integer)")
    with connection.cursor().copy("COPY place FROM STDIN") as copy:
        for i, place in enumerate(along):
            copy.write_row((i, int(place)))
    connection.execute(
        "CREATE TABLE docs AS SELECT * FROM plain JOIN place USING (id);"
        "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops) INCLUDE (along)"
    )
    connection.execute("VACUUM ANALYZE docs")
    far = rows[np.argsort(-along)[:400:20]] + 0.02
    where = f"along < {n // share}"

    found, removed = 0, []
    for query in far:
        statement = search(where, query)
        nearest = distances(connection, statement)
        assert len(nearest) == 10
        worst = by_scan(connection, statement)[-1]
        found += sum(distance <= worst for distance in nearest)
        lines = connection.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}")
        removed += [int(line.split(":")[1]) for (line,) in lines if "Removed by Filter" in line]

    assert found >= 0.95 * 10 * len(far)
    assert np.median(removed) == n - n // share
    assert max(removed) < 1.1 * (n - n // share)
