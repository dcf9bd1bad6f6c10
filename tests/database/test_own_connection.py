"""The caller's connection: part of its transaction, and nothing of it is changed."""

import uuid

import numpy as np
import psycopg
import pytest
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

import mrl_db

DIMS = 8


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


@pytest.fixture
def docs(db):
    collection = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    collection.add(range(10), vectors(10), year=[2000 + key for key in range(10)])
    return collection


@pytest.fixture
def connection(dsn):
    with psycopg.connect(dsn) as connection:
        yield connection
        if not connection.closed:
            connection.rollback()


def state(docs, connection=None):
    rows = docs.scan(vectors=True, connection=connection).records()
    return rows.ids.tolist(), rows.columns["year"], rows.vectors.tobytes()


def test_every_write_waits_for_the_callers_commit(docs, connection):
    before = state(docs)

    docs.add([20, 21], vectors(2, 1), year=[1, 2], connection=connection)
    docs.add([20, 22], vectors(2, 2), on_conflict="skip", connection=connection)
    docs.upsert([0, 23], vectors(2, 3), connection=connection)
    docs.update([1, 2], year=[7, 8], connection=connection)
    docs.update(where={"year": 7}, year=9, connection=connection)
    docs.delete([3], connection=connection)
    docs.delete(where={"year": 2004}, connection=connection)
    docs.ingest([{"id": 24, "embedding": [1.0] * DIMS}], connection=connection)
    inside = state(docs, connection)

    assert state(docs) == before
    assert inside[0] == [0, 1, 2, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24]
    assert inside[1][:4] == [2000, 9, 8, 2005]
    connection.commit()
    assert state(docs) == inside


def test_reads_see_what_the_transaction_wrote(docs, connection):
    query = vectors(1, seed=5)[0]
    docs.add([77], [query], year=[3], connection=connection)

    for further in ({}, {"exact": True}, {"where": {"year": 3}}, {"columns": ["year"]}):
        assert docs.search(query, k=1, connection=connection, **further).ids.tolist() == [77]
    assert docs.search(like=77, k=1, connection=connection).ids.tolist() != [77]
    assert docs.search(query, k=1, group_by="year", connection=connection).ids.tolist() == [77]
    assert docs.search(np.stack([query] * 3), k=1, connection=connection).ids.tolist() == [[77]] * 3
    assert docs.get(77, connection=connection).columns == {"year": [3]}
    assert docs.count({"year": 3}, connection=connection) == 1
    assert docs.search(query, k=1).ids.tolist() != [77]
    connection.rollback()
    assert docs.count(connection=connection) == 10


def test_many_rows_are_merged_twice_in_one_transaction(docs, connection):
    for seed in range(2):
        docs.upsert(range(20_000), vectors(20_000, seed), connection=connection)

    connection.commit()
    assert docs.count() == 20_000
    np.testing.assert_allclose(docs.get(19_999).vectors, vectors(20_000, 1)[-1:])


def test_what_fails_is_undone_alone(docs, connection):
    docs.add([20], vectors(1), connection=connection)

    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([21, 0], vectors(2), connection=connection)
    with pytest.raises(mrl_db.ValueRangeError):
        docs.add([22], vectors(1) * np.nan, connection=connection)
    connection.execute("INSERT INTO docs (id, embedding) SELECT 23, embedding FROM docs LIMIT 1")
    connection.commit()

    assert docs.get([20, 21, 22, 23]).ids.tolist() == [20, 23]


def test_savepoints_of_the_caller_hold_ours(docs, connection):
    with connection.transaction():
        docs.add([20], vectors(1), connection=connection)
        with connection.transaction(force_rollback=True):
            docs.add([21], vectors(1), connection=connection)
            assert docs.count(connection=connection) == 12
        docs.add([22], vectors(1), connection=connection)

    assert docs.get([20, 21, 22]).ids.tolist() == [20, 22]


def test_with_autocommit_each_call_is_a_transaction(docs, connection):
    connection.autocommit = True

    docs.add([20], vectors(1), connection=connection)
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([21, 0], vectors(2), connection=connection)

    assert docs.count() == 11
    assert connection.info.transaction_status.name == "IDLE"


def test_the_transaction_has_the_callers_isolation(docs, connection, execute):
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True

    assert docs.count(connection=connection) == 10
    execute("DELETE FROM docs WHERE id = 1")
    assert docs.count(connection=connection) == 10
    with pytest.raises(mrl_db.ReadOnlyError, match="that is read-only.; write over another"):
        docs.delete([2], connection=connection)
    assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)


def test_nothing_of_the_connection_is_changed(docs, connection):
    register_vector(connection)
    connection.row_factory = dict_row
    connection.prepare_threshold = 0
    heard = []
    connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
    theirs = "SELECT embedding FROM docs WHERE id = 1"
    before = connection.execute(theirs).fetchone()

    for seed in range(8):
        docs.search(vectors(1, seed)[0], k=3, connection=connection)
        docs.upsert([1], vectors(1), connection=connection)
    connection.execute("DO $$ BEGIN RAISE NOTICE 'heard'; END $$")

    after = connection.execute(theirs).fetchone()
    assert type(before["embedding"]) is type(after["embedding"]) is not np.float32
    assert heard == ["heard"]
    assert (
        connection.execute("SELECT count(*) AS n FROM pg_prepared_statements").fetchone()["n"] > 0
    )


def test_a_scan_reads_in_the_transaction_that_is_open_then(docs, connection):
    scan = docs.scan(page=4, connection=connection)
    docs.delete([0], connection=connection)

    assert [len(page) for page in scan] == [4, 4, 1]
    connection.rollback()
    assert len(scan.records()) == 10


def test_a_batch_is_written_once_if_its_transaction_is_committed(docs, connection):
    batch = str(uuid.UUID(int=1))
    docs.add([20], vectors(1), batch_id=batch, connection=connection)
    connection.rollback()

    assert docs.add([20], vectors(1), batch_id=batch, connection=connection) == 1
    connection.commit()
    assert docs.add([20], vectors(1), batch_id=batch, connection=connection) == 1
    assert docs.count() == 11


def test_the_loaded_rows_see_what_was_committed(docs, connection):
    docs.load(route="flat")
    query = vectors(1, seed=5)[0]
    docs.add([77], [query], connection=connection)

    assert docs.search(query, k=1, connection=connection).ids.tolist() == [77]
    assert docs.search(query, k=1, engine="native").ids.tolist() != [77]
    with pytest.raises(mrl_db.ValueRangeError, match="leave engine= out"):
        docs.search(query, k=1, engine="native", connection=connection)
    connection.commit()
    assert docs.search(query, k=1, engine="native").ids.tolist() == [77]


def test_what_is_no_connection_to_this_database_is_refused(docs, db, connection, server):
    with pytest.raises(mrl_db.DtypeError, match=r"wanted a psycopg\.Connection"):
        docs.count(connection=object())
    with (
        psycopg.connect(server.dsn) as elsewhere,
        pytest.raises(mrl_db.ValueRangeError, match="is to database 'postgres'"),
    ):
        docs.count(connection=elsewhere)
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT 1/0")
    with pytest.raises(mrl_db.DatabaseError, match="has failed already"):
        docs.count(connection=connection)
    connection.rollback()
    with connection.pipeline(), pytest.raises(mrl_db.DatabaseError, match="pipeline"):
        docs.count(connection=connection)
    connection.close()
    with pytest.raises(mrl_db.ConnectError):
        docs.count(connection=connection)


@pytest.fixture
def pool(dsn):
    with ConnectionPool(dsn, kwargs={"row_factory": dict_row}, min_size=1, max_size=3) as pool:
        yield pool


def test_the_callers_pool_serves_all(docs, pool):
    with mrl_db.connect(pool=pool) as db:
        theirs = db.open("docs")
        theirs.add([20], vectors(1))
        theirs.load(route="flat")
        docs.add([21], vectors(1, seed=5))

        assert theirs.search(vectors(1, seed=5)[0], k=1, engine="native").ids.tolist() == [21]
        assert theirs.search(vectors(1, seed=5)[0], k=1, engine="sql").ids.tolist() == [21]
        with pytest.raises(mrl_db.DuplicateKeyError):
            theirs.add([20], vectors(1))
        assert "password" not in db.dsn
        theirs.unload()

    assert docs.count() == 12
    with pool.connection() as connection:
        assert connection.execute(sql.SQL("SELECT 1 AS one")).fetchone() == {"one": 1}
        assert not connection.autocommit
    assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]


def test_a_pool_of_another_kind_is_refused(dsn, pool):
    with pytest.raises(mrl_db.ValueRangeError, match=r"wanted a psycopg_pool\.ConnectionPool"):
        mrl_db.connect(pool=object())
    with pytest.raises(mrl_db.ValueRangeError, match="both given"):
        mrl_db.connect(dsn, pool=pool)
