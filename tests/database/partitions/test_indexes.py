"""Partitioned tables: an index for each partition, beside writers if asked for."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from database.partitions.tables import DIMS, LEAF, made, same_as_the_database
from psycopg import conninfo

import mrl_db

INDEXES = (
    "SELECT count(*) FILTER (WHERE r.relkind = 'I'), count(*) FILTER (WHERE r.relkind = 'i'), "
    "bool_and(i.indisvalid) FROM pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid "
    "JOIN pg_am AS m ON m.oid = r.relam WHERE m.amname = '{}'"
)
SETS = {"hash": (1, 3, True), "range": (2, 3, True), "list": (1, 2, True)}


@pytest.mark.parametrize(
    ("tree", "index", "concurrently"),
    [
        ("range", "hnsw", False),
        ("range", "mrl", False),
        ("range", "mrl", True),
        ("list", "hnsw", True),
        ("hash", "mrl", True),
    ],
)
def test_every_partition_has_its_index(db, dsn, execute, rng, tree, index, concurrently):
    docs = made(db, execute, tree, "index")
    vectors = rng.standard_normal((900, DIMS)).astype(np.float32)
    docs.add(np.arange(900), vectors)

    docs.create_index(kind=index, concurrently=concurrently)
    docs.create_index(kind=index, concurrently=concurrently)

    assert execute(INDEXES.format(index)) == [SETS[tree]]
    assert docs.index_kind == index
    execute("ANALYZE docs")
    by_index = conninfo.make_conninfo(dsn, options="-c enable_seqscan=off")  # so few rows are read
    with mrl_db.connect(by_index) as theirs:
        stages = theirs.open("docs").explain(vectors[0], k=5, shortlist=50).stages
        assert stages[0].name.startswith(index)
        assert len(theirs.open("docs").search(vectors[0], k=900).ids) == 900
    exact = docs.search(vectors[:30], k=10, exact=True)
    hits = docs.search(vectors[:30], k=10, shortlist=300)
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact.ids, hits.ids, strict=True)]) > 0.9
    assert docs.search(vectors[0], k=900).ids.shape == (900,)
    db.drop("docs")
    assert execute(INDEXES.format(index)) == [(0, 0, None)]


def test_a_build_that_was_cut_goes_on_and_a_partition_made_meanwhile_has_an_index(
    ranges, db, execute, dsn, monkeypatch
):
    """The second partition's build fails, for its index's name is taken."""

    steps = execute("SELECT step FROM mrl.partition_index_steps('docs', 'hnsw')")
    assert len(steps) == 1
    execute(steps[0][0])
    steps = [
        row[0] for row in execute("SELECT step FROM mrl.partition_index_steps('docs', 'hnsw')")
    ]
    assert len(steps) == 6
    execute(steps[0])
    execute(steps[1])
    with psycopg.connect(dsn, autocommit=True) as client, psycopg.connect(dsn) as writing:
        writing.execute("UPDATE docs_100 SET year = 1")
        client.execute("SET statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute(steps[2])
    assert execute(INDEXES.format("hnsw")) == [(1, 2, False)]
    execute(LEAF.format(300))
    assert not db.open("docs").indexed

    ranges.create_index(kind="hnsw", concurrently=True)

    assert execute(INDEXES.format("hnsw")) == [(1, 4, True)]
    assert execute("SELECT step FROM mrl.partition_index_steps('docs', 'hnsw')") == []
    assert db.open("docs").index_kind == "hnsw"
    assert same_as_the_database(ranges) == set(range(250))


def test_partitions_of_odd_names_and_elsewhere_have_their_indexes(db, execute, rng):
    execute("""CREATE SCHEMA "Odd Schema"; CREATE SCHEMA "a.b" """)
    execute(
        f"""CREATE TABLE "Odd Schema"."We ird" ("the id" bigint PRIMARY KEY, embedding vector({DIMS})) PARTITION BY HASH ("the id")"""
    )
    for i in range(2):
        execute(
            f"""CREATE TABLE "a.b"."le'af {i}" PARTITION OF "Odd Schema"."We ird" FOR VALUES WITH (MODULUS 2, REMAINDER {i})"""
        )
    docs = db.attach('"Odd Schema"."We ird"', key="the id")
    docs.add(np.arange(50), rng.standard_normal((50, DIMS)).astype(np.float32))
    docs.load(cache=False)

    docs.create_index(kind="hnsw", concurrently=True)
    execute("""DELETE FROM "a.b"."le'af 1" """)

    assert execute(INDEXES.format("hnsw")) == [(1, 2, True)]
    assert same_as_the_database(docs)


def test_two_who_build_beside_writers_build_one_index(db, dsn, execute, rng):
    docs = made(db, execute, "range")
    docs.add(np.arange(1000), rng.standard_normal((1000, DIMS)).astype(np.float32))

    def build(_):
        with mrl_db.connect(dsn) as theirs:
            theirs.open("docs").create_index(kind="hnsw", concurrently=True)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(build, range(2))) == [None, None]

    assert execute(INDEXES.format("hnsw")) == [SETS["range"]]


def test_a_build_beside_writers_that_was_cut_is_done_anew_by_one_that_is_not(ranges, execute):
    for _ in range(2):
        for row in execute("SELECT step FROM mrl.partition_index_steps('docs', 'hnsw') LIMIT 2"):
            execute(row[0])

    ranges.create_index(kind="hnsw")

    assert execute(INDEXES.format("hnsw")) == [(1, 3, True)]
