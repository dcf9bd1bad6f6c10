"""What statements may do around an index: filters with plans of their own, isolation, tables that are altered."""

from __future__ import annotations

import psycopg
import pytest
from extension.tables import both_answers, clustered, exact, fill, nearest, plan, text
from psycopg import conninfo

DIMS = 16
ROWS = clustered(1500, DIMS, seed=1)
ORDERED = f"ORDER BY embedding <=> '{text(ROWS[3])}'"


@pytest.fixture
def docs(connection):
    """A table with an index."""
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("VACUUM ANALYZE docs")
    connection.execute("SET enable_sort = off")
    return connection


def test_a_filter_that_opens_more_indexes_than_are_kept(connection):
    """What a scan knows of its index is let go meanwhile, and a toasted vector is read after that."""
    connection.execute("CREATE TABLE many (id integer, v vector(3)) PARTITION BY LIST (id)")
    for i in range(260):
        connection.execute(f"CREATE TABLE many_{i} PARTITION OF many FOR VALUES IN ({i})")
    connection.execute("INSERT INTO many SELECT g, '[1,2,3]' FROM generate_series(0, 259) AS g")
    connection.execute("CREATE INDEX ON many USING mrl (v vector_l2_ops)")
    connection.execute(
        "CREATE FUNCTION opens_all(i integer) RETURNS boolean STABLE LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM id FROM many ORDER BY v <-> '[0,0,0]' LIMIT 1; RETURN i % 2 = 0; END $$"
    )
    fill(connection, [], column="vector(600)")
    connection.execute("ALTER TABLE docs ALTER embedding SET STORAGE EXTERNAL")
    fill(connection, clustered(1200, 600), column="vector(600)")
    connection.execute("CREATE INDEX ON docs USING mrl (embedding vector_l2_ops)")
    connection.execute("VACUUM ANALYZE docs")
    connection.execute("SET enable_sort = off")
    ordered = "ORDER BY embedding <-> array_fill(0.1, ARRAY[600])::vector LIMIT 10"
    for where in ("id % 2 = 0", "id % 2 = 0", "opens_all(id)", "opens_all(id)"):
        ids = connection.execute(f"SELECT id FROM docs WHERE {where} {ordered}").fetchall()
        assert len(ids) == 10
        assert all(i % 2 == 0 for (i,) in ids)


@pytest.mark.parametrize("included", ["", "INCLUDE (kind)"])
def test_serializable_transactions_that_would_not_have_seen_each_other_fail(
    docs, new_database, included
):
    """Rows that a filter rejects are locked as well: each session makes one of them pass."""
    docs.execute("DROP INDEX docs_mrl; UPDATE docs SET kind = id % 2")
    docs.execute("ALTER TABLE docs SET (fillfactor = 50)")  # room for versions beside their rows
    docs.execute("VACUUM FULL docs")
    docs.execute(f"CREATE INDEX ON docs USING mrl (embedding vector_cosine_ops) {included}")
    docs.execute("VACUUM ANALYZE docs")
    rejected = nearest(docs, ROWS[3], k=2, where="kind = 0")
    statement = f"SELECT id FROM docs WHERE kind = 1 {ORDERED} LIMIT 3"
    sessions = [psycopg.connect(new_database) for _ in rejected]
    with sessions[0], sessions[1]:
        for session in sessions:
            session.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            session.execute("SET enable_seqscan = off; SET enable_sort = off")
            session.commit()
            for _ in range(5):  # its pages are known by then
                session.execute(statement)
                session.commit()
            session.execute(statement)
        ctids = [
            docs.execute(f"SELECT ctid::text FROM docs WHERE id = {i}").fetchone()[0]
            for i in rejected
        ]
        for session, ctid in zip(sessions, ctids, strict=True):
            session.execute(f"UPDATE docs SET kind = 1 WHERE ctid = '{ctid}'")
        sessions[0].commit()
        with pytest.raises(psycopg.errors.SerializationFailure):
            sessions[1].commit()


@pytest.mark.parametrize(
    "subquery",
    [
        "(SELECT nextval('asked') + docs.id * 0 FROM one) > 0",
        "(SELECT max(n) FROM (SELECT nextval('asked') AS n FROM one WHERE docs.id >= 0) AS a) > 0",
        "EXISTS (SELECT FROM one AS a JOIN one AS b ON nextval('asked') > docs.id * 0)",
        "docs.id * 0 + 1 IN (SELECT nextval('asked') * 0 + 1 + docs.id * 0 FROM one LIMIT 1)",
    ],
)
def test_a_volatile_function_of_a_subquery_is_called_once_for_each_row(docs, subquery):
    docs.execute("CREATE SEQUENCE asked; CREATE TABLE one AS SELECT 1 AS n")
    statement = f"SELECT id FROM docs WHERE {subquery} {ORDERED}"
    assert "docs_mrl" in plan(docs, statement)
    assert len(docs.execute(statement).fetchall()) == len(ROWS)
    assert docs.execute("SELECT last_value FROM asked").fetchone() == (len(ROWS),)


def test_a_second_key_orders_rows_that_are_as_near(connection):
    connection.execute(
        "CREATE TABLE grid AS SELECT x * 100 + y * 10 + z AS id, "
        "ARRAY[x - 5, y - 5, z - 5]::vector(3) AS v FROM generate_series(0, 9) AS x, "
        "generate_series(0, 9) AS y, generate_series(0, 9) AS z"
    )
    for opclass, operator in (("l2", "<->"), ("ip", "<#>"), ("cosine", "<=>")):
        connection.execute(f"CREATE INDEX grid_mrl ON grid USING mrl (v vector_{opclass}_ops)")
        keys = f"v {operator} '[1,2,3]', v {operator} '[3,1,0]'"
        statement = f"SELECT {keys} FROM grid WHERE id <> 555 ORDER BY {keys} LIMIT 60"
        connection.execute("SET mrl.effort = 200; SET enable_sort = off")
        assert "Sort" not in plan(connection, statement)
        by_index = connection.execute(statement).fetchall()
        connection.execute("DROP INDEX grid_mrl; RESET enable_sort")
        assert by_index == connection.execute(statement).fetchall()


def test_a_width_of_the_index_that_was_altered_holds_from_its_next_build(connection):
    fill(connection, ROWS, column="vector")
    connection.execute(
        f"CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops) WITH (width = {DIMS})"
    )
    connection.execute("ALTER INDEX docs_mrl SET (width = 8)")
    with pytest.raises(psycopg.errors.DataException, match=f"dimensions {DIMS} and 8"):
        fill(connection, ROWS[:1, :8])
    fill(connection, clustered(2000, DIMS, seed=2), first=5000)
    connection.execute("VACUUM docs")
    assert nearest(connection, ROWS[7]) == exact(connection, ROWS[7])
    with pytest.raises(psycopg.errors.DataException, match="8"):
        connection.execute("REINDEX INDEX docs_mrl")


def test_a_column_that_lost_its_width_is_written_to_as_before(docs):
    docs.execute("ALTER TABLE docs ALTER embedding TYPE vector")
    fill(docs, clustered(2000, DIMS, seed=2), first=5000)
    docs.execute("VACUUM docs")
    by_index, by_scan = both_answers(docs, ROWS[7])
    assert by_index == by_scan
    with pytest.raises(psycopg.errors.DataException, match=f"dimensions {DIMS} and 8"):
        fill(docs, ROWS[:1, :8])


@pytest.mark.parametrize("rows", [0, 900])
def test_leading_dims_that_there_are_not_stop_no_writer(connection, rows):
    fill(connection, ROWS[:rows], column=f"vector({DIMS})")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
    connection.execute("ALTER INDEX docs_mrl SET (dims = 99)")
    fill(connection, ROWS[rows:], first=rows)
    connection.execute("VACUUM docs")
    assert nearest(connection, ROWS[7]) == exact(connection, ROWS[7])
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="dims = 99"):
        connection.execute("REINDEX INDEX docs_mrl")


def test_how_a_column_is_stored_changes_no_index(connection):
    fill(connection, ROWS, column=f"vector({DIMS})")
    connection.execute(
        "ALTER TABLE docs ADD label text; UPDATE docs SET label = 'group ' || id % 9"
    )
    connection.execute(
        "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops) INCLUDE (label)"
    )
    connection.execute("ALTER TABLE docs ALTER label SET STORAGE plain")
    connection.execute(f"INSERT INTO docs VALUES (9000, 1, '{text(ROWS[7])}', 'group 4')")
    where = "label = 'group 4'"
    assert nearest(connection, ROWS[7], where=where) == exact(connection, ROWS[7], where=where)


@pytest.mark.superuser
def test_a_function_that_the_statement_does_not_name_needs_no_right(docs, new_database):
    docs.execute(
        "CREATE ROLE carl LOGIN; GRANT SELECT ON docs TO carl; "
        'REVOKE EXECUTE ON FUNCTION mrl_known_distance("any", "any") FROM PUBLIC'
    )
    try:
        statement = f"SELECT id, embedding <=> '{text(ROWS[3])}' FROM docs {ORDERED} LIMIT 3"
        with psycopg.connect(new_database) as session:
            session.execute("SET ROLE carl; SET enable_seqscan = off")
            assert len({tuple(session.execute(statement).fetchall()) for _ in range(3)}) == 1
    finally:
        docs.execute("DROP OWNED BY carl; DROP ROLE carl")


def test_a_log_that_is_not_ours_is_refused(connection):
    connection.execute("CREATE TABLE written (id integer); CREATE SCHEMA mrl")
    connection.execute(
        "CREATE TRIGGER logs AFTER INSERT ON written REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT EXECUTE FUNCTION mrl_log_change('id', 'integers')"
    )
    for log, kind in (
        ("TABLE mrl.change (a text, b text, c text, d text, e text)", "TABLE"),
        ("VIEW mrl.change AS SELECT 1 AS a, 2 AS b, 3 AS c, 4 AS d, 5 AS e", "VIEW"),
    ):
        connection.execute(f"CREATE {log}")
        with pytest.raises(psycopg.errors.DatatypeMismatch, match="this version"):
            connection.execute("INSERT INTO written VALUES (1)")
        connection.execute(f"DROP {kind} mrl.change")


@pytest.mark.superuser
def test_errors_are_said_in_any_encoding(extension_server):
    with psycopg.connect(extension_server.dsn, autocommit=True) as session:
        session.execute("CREATE DATABASE in_japan ENCODING 'EUC_JP' LOCALE 'C' TEMPLATE template0")
        dsn = conninfo.make_conninfo(extension_server.dsn, dbname="in_japan")
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("SET client_encoding = UTF8; CREATE EXTENSION mrl_db CASCADE")
            other.execute("CREATE TABLE docs (embedding vector)")
            with pytest.raises(psycopg.Error, match="does not have dimensions"):
                other.execute("CREATE INDEX ON docs USING mrl (embedding vector_l2_ops)")
        session.execute("DROP DATABASE in_japan")
