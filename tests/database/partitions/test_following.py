"""Partitioned tables as collections: followed whoever writes where, whatever becomes of a partition."""

import numpy as np
import psycopg
import pytest
from database.partitions.tables import (
    CALLED,
    DIMS,
    HELD,
    LEAF,
    LOOSE,
    RANGES,
    ROWS,
    made,
    same_as_the_database,
)
from psycopg import conninfo

import mrl_db


@pytest.mark.parametrize(
    ("tree", "low_dim"), [("hash", "column"), ("range", "index"), ("list", "column")]
)
def test_a_partitioned_table_is_written_searched_and_let_go(db, execute, rng, tree, low_dim):
    docs = made(db, execute, tree, low_dim)
    vectors = rng.standard_normal((300, DIMS)).astype(np.float32)
    docs.add(np.arange(200), vectors[:200], year=np.arange(200) % 4)
    docs.load(cache=False)

    assert docs.upsert(np.arange(190, 300), vectors[190:]) == 110
    assert docs.ingest([(np.arange(300, 310), vectors[:10])]) == 310 - 300
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add([7], vectors[:1])
    assert docs.add([7, 310], vectors[:2], on_conflict="skip") == 1
    assert docs.update([7], year=[9]) == 1
    assert docs.get([7], columns=["year"]).columns["year"] == [9]
    assert docs.delete([7]) == 1
    assert docs.delete(where={"year": 3}) > 0
    assert same_as_the_database(docs) == {key for page in docs.scan() for key in page.ids.tolist()}
    docs.create_index()
    assert len(docs.search(vectors[0], k=150, engine="sql").ids) == 150
    db.drop("docs")
    assert execute(CALLED) == [(0, 0)]
    assert execute("SELECT count(*) FROM pg_attribute WHERE attgenerated <> ''") == [(0,)]


def test_each_statement_is_logged_once_with_the_right_keys(docs, execute, log_kind, dsn):
    docs.load(cache=False)
    assert execute(CALLED) == [(4, 16)]
    at = "SELECT id FROM docs_0 ORDER BY id LIMIT 2"

    def logged(statement):
        execute("DELETE FROM mrl.change")
        execute(statement)
        return [sorted(set(row[0])) for row in execute(HELD)]

    assert logged(ROWS.format("docs", 0, 9)) == [list(range(10))]
    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("DELETE FROM mrl.change")
        with client.cursor().copy("COPY docs (id, embedding) FROM STDIN") as copy:
            copy.write("10\t[1,2,3,4,5,6,7,8]\n11\t[1,2,3,4,5,6,7,8]\n")
    assert [sorted(row[0]) for row in execute(HELD)] == [[10, 11]]
    first, second = (row[0] for row in execute(at))
    assert logged(f"UPDATE docs_0 SET year = 5 WHERE id = {first}") == [[first]]
    assert logged(f"UPDATE docs SET year = 5 WHERE id IN ({first}, {second})") == [[first, second]]
    assert logged("UPDATE docs SET id = id + 100 WHERE id IN (4, 5)") == [[4, 5, 104, 105]]
    assert logged("DELETE FROM docs WHERE id IN (1, 2)") == [[1, 2]]
    kept = execute("SELECT id FROM docs_1 ORDER BY id LIMIT 1")[0][0]
    assert logged(f"DELETE FROM docs_1 WHERE id = {kept}") == [[kept]]
    assert logged(f"{ROWS.format('docs', 200, 201)} ON CONFLICT (id) DO UPDATE SET year = 1") in (
        [[200, 201]],
        [[], [200, 201]],
    )
    assert same_as_the_database(docs)


ATTACH = "ALTER TABLE docs ATTACH PARTITION docs_{0} FOR VALUES FROM ({0}) TO ({0} + 100)"
CHANGES = {
    "new, written to": [LEAF.format(300), ROWS.format("docs_300", 300, 303)],
    "attached with rows": [
        LOOSE.format(300),
        ROWS.format("docs_300", 300, 303),
        ATTACH.format(300),
    ],
    "attached with partitions": [
        "CREATE TABLE docs_300 (LIKE docs INCLUDING ALL) PARTITION BY HASH (id)",
        "CREATE TABLE docs_301 PARTITION OF docs_300 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE docs_302 PARTITION OF docs_300 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ROWS.format("docs_300", 300, 310),
        ATTACH.format(300),
    ],
    "detached": ["ALTER TABLE docs DETACH PARTITION docs_100"],
    "detached beside others": ["ALTER TABLE docs DETACH PARTITION docs_100 CONCURRENTLY"],
    "detached, written to, and back": [
        "ALTER TABLE docs DETACH PARTITION docs_100",
        "DELETE FROM docs_100 WHERE id < 150",
        "UPDATE docs_100 SET embedding = array_fill(1.5::real, ARRAY[8])::vector WHERE id < 160",
        ATTACH.format(100),
    ],
    "dropped": ["DROP TABLE docs_100"],
    "truncated": ["TRUNCATE docs_100"],
    "written anew": ["VACUUM FULL docs_100"],
    "replaced": [
        "DROP TABLE docs_100",
        LEAF.format(100),
        ROWS.format("docs_100", 120, 130),
    ],
    "its triggers off for a moment": [
        "ALTER TABLE docs_100 DISABLE TRIGGER ALL",
        "DELETE FROM docs_100 WHERE id < 120",
        *(
            f"ALTER TABLE docs_100 ENABLE ALWAYS TRIGGER mrl_log_{event}"
            for event in ("insert", "update", "delete", "truncate")
        ),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_becomes_of_a_partition_is_seen_by_the_next_search(
    ranges, execute, change, monkeypatch
):
    """Where it only came, the rows of the others are not read again."""
    for statement in CHANGES[change]:
        execute(statement)
    if change.startswith(("new", "attached")):
        monkeypatch.setattr("mrl_db.engines.native.following.compare", None)

    rows = same_as_the_database(ranges)

    assert rows == {row[0] for row in execute("SELECT id FROM docs")}
    if change.startswith(("new", "attached", "replaced")):
        execute(
            ROWS.format("docs_100" if change == "replaced" else "docs_300", 340, 340).replace(
                "340", "140" if change == "replaced" else "340"
            )
        )
        assert same_as_the_database(ranges) == rows | {140 if change == "replaced" else 340}


def test_what_is_written_to_a_partition_that_left_is_not_logged(ranges, execute, log_kind):
    ranges.load(cache=False)
    execute("ALTER TABLE docs DETACH PARTITION docs_100")
    execute("DELETE FROM mrl.change")

    execute("DELETE FROM docs_100 WHERE id < 120")

    assert execute(HELD) == []
    ranges.unload()
    execute("SELECT mrl.unlog_changes('docs')")
    if log_kind == "of the table":
        assert execute(CALLED) == [(0, 0)]
    execute("DELETE FROM docs_100")


def test_what_partitions_of_a_partition_that_left_log_is_thrown_away(db, execute, dsn):
    docs = made(db, execute, "range")
    docs.load(cache=False)
    execute("ALTER TABLE docs DETACH PARTITION docs_1")
    execute(ROWS.format("docs_1", 100, 110))
    execute(ROWS.format("docs", 0, 5))
    assert sorted(execute("SELECT relation::regclass::text FROM mrl.change")) == [
        ("docs",),
        ("docs_1",),
    ]

    mrl_db.connect(dsn).close()

    assert execute("SELECT relation::regclass::text FROM mrl.change") == [("docs",)]
    assert same_as_the_database(docs) == set(range(6))


@pytest.mark.parametrize("event", ["insert", "truncate"])
def test_a_trigger_that_is_missing_on_a_partition_is_an_error_until_load(ranges, execute, event):
    execute(f"ALTER TABLE docs_100 DISABLE TRIGGER mrl_log_{event}")

    with pytest.raises(mrl_db.FreshnessError, match="its owner may call load"):
        ranges.search(np.ones(DIMS), k=1, engine="native")

    assert ranges.log_health()[2] is False
    ranges.load(cache=False)
    assert ranges.log_health()[2] is True
    execute(ROWS.format("docs_100", 100, 105) + " ON CONFLICT (id) DO UPDATE SET year = 7")
    execute("TRUNCATE docs_100")
    assert same_as_the_database(ranges) == {*range(100), *range(200, 250)}


@pytest.mark.superuser
def test_a_reader_who_may_not_log_a_new_partition_says_who_must(ranges, dsn, execute):
    execute("DROP ROLE IF EXISTS leaf_reader; CREATE ROLE leaf_reader LOGIN")
    try:
        execute("GRANT SELECT ON docs TO leaf_reader; GRANT USAGE ON SCHEMA mrl TO leaf_reader")
        execute("GRANT ALL ON ALL TABLES IN SCHEMA mrl TO leaf_reader")
        with mrl_db.connect(conninfo.make_conninfo(dsn, user="leaf_reader")) as theirs:
            docs = theirs.open("docs")
            docs.load(cache=False)
            execute(LEAF.format(300))
            execute(ROWS.format("docs_300", 300, 303))

            with pytest.raises(mrl_db.FreshnessError, match=r"SELECT mrl.log_changes\('docs'\)"):
                docs.search(np.ones(DIMS), k=1)

            execute("SELECT mrl.log_changes('docs')")
            assert len(docs.search(np.ones(DIMS), k=300, engine="native").ids) == 254
            execute(f"{LEAF.format(400)}; SELECT mrl.log_changes('docs')")
            execute(ROWS.format("docs_400", 400, 403))  # which its role may not read by itself
            assert len(docs.search(np.ones(DIMS), k=300, engine="native").ids) == 258
            docs.unload()
    finally:
        execute("DROP OWNED BY leaf_reader; DROP ROLE leaf_reader")


def test_a_partition_that_is_being_attached_holds_nobody_up(ranges, dsn, execute):
    execute(f"{LOOSE.format(300)}; {ROWS.format('docs_300', 300, 303)}")
    with psycopg.connect(dsn) as attaching:
        attaching.execute(ATTACH.format(300))
        attaching.execute("SELECT pg_current_xact_id()")
        ranges.load(cache=False)
        execute("DELETE FROM docs WHERE id = 7")
        assert ranges.search(np.ones(DIMS), k=300, engine="native").ids.shape == (249,)
        attaching.commit()

    assert len(same_as_the_database(ranges)) == 253


def test_a_partition_with_most_of_the_rows_is_compared(ranges, execute, monkeypatch):
    """Its keys are no list any more: with the others' all rows are read."""
    from mrl_db.engines.native import following

    compared, compare = [], following.compare
    monkeypatch.setattr(following, "compare", lambda *given: compared.append(1) or compare(*given))
    execute("CREATE TABLE docs_1000 PARTITION OF docs FOR VALUES FROM (1000) TO (100000)")
    execute(ROWS.format("docs_1000", 1000, 12000))

    ranges.search(np.ones(DIMS), k=1, engine="native")

    assert compared
    assert ranges.loaded.rows == ranges.count() == 250 + 11_001


def test_keys_written_to_while_a_partition_came_are_not_forgotten(ranges, execute, monkeypatch):
    monkeypatch.setattr("mrl_db.engines.native.following.compare", None)
    execute("DELETE FROM docs WHERE id = 7")
    execute(f"{LOOSE.format(300)}; {ROWS.format('docs_300', 300, 303)}; {ATTACH.format(300)}")
    execute("DELETE FROM docs_300 WHERE id = 301")
    execute("UPDATE docs SET id = 350 WHERE id = 8")

    rows = same_as_the_database(ranges)

    assert rows == {*range(7), *range(9, 250), 300, 302, 303, 350}


def test_a_new_partition_leaves_the_triggers_of_the_others_alone(ranges, execute):
    triggers = (
        "SELECT oid, xmin::text FROM pg_trigger WHERE tgname LIKE 'mrl\\_log\\_%' ORDER BY oid"
    )
    before = execute(triggers)
    execute(LEAF.format(300))

    same_as_the_database(ranges)

    after = execute(triggers)
    assert len(after) == len(before) + 4
    assert set(before) <= set(after)


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (
            "CREATE TABLE up (id bigint, embedding vector(8), PRIMARY KEY (id)) PARTITION BY HASH (id);"
            "CREATE TABLE t PARTITION OF up FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            "the table that it is a partition of",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(8)); CREATE TABLE c () INHERITS (t)",
            "INHERITS",
        ),
    ],
)
def test_what_is_written_to_by_other_tables_is_refused(db, execute, create, said):
    execute(create)
    docs = db.attach("t", low_dim="index")
    with pytest.raises(mrl_db.FreshnessError, match=said):
        docs.load()
    docs.load(max_staleness=float("inf"))


def test_the_size_of_a_partitioned_table_is_that_of_its_partitions(db, execute, monkeypatch):
    import mrl_db.database

    execute(f"{RANGES}; {LEAF.format(0)}; {ROWS.format('docs', 0, 99)}")
    monkeypatch.setattr(mrl_db.rewriting, "_REWRITE_BYTES", 1000)

    with pytest.warns(mrl_db.LargeTableWarning, match="exclusive lock"):
        db.attach("docs")
