"""Partitioned tables whose key no index can make unique."""

import threading

import numpy as np
import psycopg
import pytest
from database.partitions.tables import (
    DIMS,
    same_as_the_database,
)

import mrl_db


@pytest.fixture
def tenants(db, execute):
    """Partitioned by a tenant, beside whom no index makes the key unique."""
    execute(
        f"CREATE TABLE docs (id bigint, embedding vector({DIMS}), tenant integer NOT NULL, note text, "
        "PRIMARY KEY (id, tenant)) PARTITION BY LIST (tenant)"
    )
    for tenant in range(3):
        execute(f"CREATE TABLE docs_{tenant} PARTITION OF docs FOR VALUES IN ({tenant})")
    return db.attach("docs", metric="l2", nesting_dims=(4, DIMS), key_unique=True)


def test_keys_that_no_index_makes_unique_are_written_once(tenants, dsn, execute, rng):
    docs, vectors = tenants, rng.standard_normal((3000, DIMS)).astype(np.float32)
    tenant = np.arange(3000) % 3
    docs.load(cache=False)

    assert docs.add(np.arange(20), vectors[:20], tenant=tenant[:20]) == 20
    assert docs.add(np.arange(20, 2000), vectors[20:2000], tenant=tenant[20:2000]) == 1980
    for ids in ([7], np.arange(7, 1000)):
        with pytest.raises(mrl_db.DuplicateKeyError, match="upsert"):
            docs.add(ids, vectors[: len(ids)], tenant=tenant[: len(ids)])
        assert docs.add(ids, vectors[: len(ids)], tenant=[1] * len(ids), on_conflict="skip") == 0
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.ingest(
            [([5000], vectors[:1], {"tenant": [0]}), ([5000], vectors[:1], {"tenant": [1]})]
        )
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.ingest(
            [([5000], vectors[:1], {"tenant": [0]}), ([5000], vectors[:1], {"tenant": [1]})],
            upsert=True,
        )
    assert docs.add([5, 3000], vectors[:2], tenant=[1, 1], on_conflict="skip") == 1
    assert docs.upsert([5, 3001], vectors[:2], tenant=[0, 0]) == 2  # to another partition
    assert docs.upsert(np.arange(1000), vectors[:1000], tenant=[2] * 1000) == 1000
    assert docs.update([9], tenant=[0]) == 1

    assert execute("SELECT count(*), count(DISTINCT id) FROM docs") == [(2002, 2002)]
    assert execute("SELECT tenant FROM docs WHERE id IN (9, 10) ORDER BY id") == [(0,), (2,)]
    assert same_as_the_database(docs) == {*range(2000), 3000, 3001}
    execute("UPDATE docs SET tenant = 1, id = id + 10000 WHERE id < 5")
    assert same_as_the_database(docs) == {*range(5, 2000), 3000, 3001, *range(10000, 10005)}
    execute("DROP TABLE docs_2")
    assert same_as_the_database(docs) == {row[0] for row in execute("SELECT id FROM docs")}


@pytest.mark.parametrize("key_type", ["bigint", "uuid", "text"])
def test_a_key_that_stands_twice_after_all_is_not_loaded(db, execute, key_type):
    execute(
        f"CREATE TABLE docs (id {key_type}, embedding vector({DIMS}), tenant integer, PRIMARY KEY "
        "(id, tenant)) PARTITION BY LIST (tenant)"
    )
    for tenant in range(2):
        execute(f"CREATE TABLE docs_{tenant} PARTITION OF docs FOR VALUES IN ({tenant})")
    docs = db.attach("docs", key_unique=True, low_dim="index")
    key = "md5('a')::uuid" if key_type == "uuid" else "'7'"
    execute(f"INSERT INTO docs SELECT {key}, array_fill(1, ARRAY[{DIMS}])::vector, 0")
    docs.load(cache=False)
    execute(f"INSERT INTO docs SELECT {key}, array_fill(2, ARRAY[{DIMS}])::vector, 1")
    assert len(docs.search(np.ones(DIMS), k=9, engine="native").ids) == 1  # either

    with pytest.raises(mrl_db.DuplicateKeyError, match="1 keys of table"):
        docs.load(cache=False)

    execute("DELETE FROM docs")
    docs.load(cache=False)
    assert len(docs.search(np.ones(DIMS), k=9, engine="native").ids) == 0


def test_two_who_write_one_key_to_two_partitions_take_turns(tenants, dsn, execute):
    """The second waits for the first, and finds its key."""
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    said = []

    def write():
        with mrl_db.connect(dsn) as theirs, pytest.raises(mrl_db.DuplicateKeyError):
            theirs.open("docs").add([1], np.ones((1, DIMS)), tenant=[1])
        said.append("refused")

    with psycopg.connect(dsn) as mine:
        tenants.add([1], np.ones((1, DIMS)), tenant=[0], connection=mine)
        other = threading.Thread(target=write)
        other.start()
        while execute(waiting) == [(0,)]:
            continue
        mine.commit()
    other.join()

    assert said == ["refused"]
    with psycopg.connect(dsn) as mine:
        mine.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(mrl_db.ConflictError, match="read committed"):
            tenants.add([2], np.ones((1, DIMS)), tenant=[0], connection=mine)


@pytest.mark.parametrize(
    ("further", "given", "said"),
    [
        ("PRIMARY KEY (id, tenant)", {}, "key_unique=True"),
        ("PRIMARY KEY (tenant, id)", {"key_unique": True}, r"CREATE INDEX ON public.docs \(id\)"),
        ("PRIMARY KEY (id, tenant)", {"key_unique": True}, "1 keys stand on several rows"),
    ],
)
def test_a_key_that_may_not_be_unique_is_refused(db, execute, further, given, said):
    execute(
        f"CREATE TABLE docs (id bigint, embedding vector({DIMS}), tenant integer NOT NULL, {further})"
        " PARTITION BY LIST (tenant)"
    )
    execute("CREATE TABLE docs_0 PARTITION OF docs FOR VALUES IN (0)")
    execute("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1)")
    execute("INSERT INTO docs (id, tenant) VALUES (1, 0), (1, 1), (2, 0)")

    with pytest.raises(mrl_db.ValueRangeError, match=said):
        db.attach("docs", **given)
