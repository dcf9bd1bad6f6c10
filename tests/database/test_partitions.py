"""Partitioned tables as collections: followed whoever writes where, whatever becomes of a partition."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
from psycopg import conninfo

import mrl_db

DIMS = 8
TREES = {
    "hash": (
        "PARTITION BY HASH (id)",
        [
            f"CREATE TABLE docs_{i} PARTITION OF docs FOR VALUES WITH (MODULUS 3, REMAINDER {i})"
            for i in range(3)
        ],
    ),
    "range": (
        "PARTITION BY RANGE (id)",
        [
            "CREATE TABLE docs_0 PARTITION OF docs FOR VALUES FROM (0) TO (100)",
            "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (100) TO (1000) PARTITION BY HASH (id)",
            "CREATE TABLE docs_2 PARTITION OF docs_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "CREATE TABLE docs_3 PARTITION OF docs_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ],
    ),
    "list": (
        "PARTITION BY LIST (id)",
        [
            f"CREATE TABLE docs_0 PARTITION OF docs FOR VALUES IN ({', '.join(map(str, range(50)))})",
            "CREATE TABLE docs_1 PARTITION OF docs DEFAULT",
        ],
    ),
}
ROWS = "INSERT INTO {} (id, embedding, year) SELECT i, array_fill((i / 10.0)::real, ARRAY[8])::vector, i % 4 FROM generate_series({}, {}) AS i"
HELD = "SELECT integers FROM mrl.change ORDER BY xid, integers"
CALLED = (
    "SELECT count(DISTINCT tgrelid), count(*) FROM pg_trigger WHERE tgname LIKE 'mrl\\_log\\_%'"
)


def made(db, execute, tree, low_dim="column"):
    by, partitions = TREES[tree]
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), year integer) {by}"
    )
    for statement in partitions:
        execute(statement)
    return db.attach("docs", metric="l2", nesting_dims=(4, DIMS), low_dim=low_dim)


@pytest.fixture
def docs(db, execute):
    """Partitioned by hash."""
    return made(db, execute, "hash")


def same_as_the_database(docs):
    """All rows, by every engine."""
    query = np.full(DIMS, 2.97, dtype=np.float32)
    k = docs.count() + 1
    exact = docs.search(query, k=k, exact=True)
    for engine in ("native", "sql"):
        hits = docs.search(query, k=k, engine=engine)
        assert hits.ids.tolist() == exact.ids.tolist(), engine
        np.testing.assert_allclose(hits.distances, exact.distances, atol=1e-5)
    return set(exact.ids.tolist())


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


RANGES = "CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector(8), year integer) PARTITION BY RANGE (id)"
LEAF = "CREATE TABLE docs_{0} PARTITION OF docs FOR VALUES FROM ({0}) TO ({0} + 100)"
LOOSE = "CREATE TABLE docs_{0} (LIKE docs INCLUDING ALL); "


@pytest.fixture
def ranges(db, execute):
    """Partitioned by ranges of a hundred keys; loaded."""
    execute(RANGES)
    for first in (0, 100, 200):
        execute(LEAF.format(first))
    docs = db.attach("docs", metric="l2", nesting_dims=(4, DIMS))
    execute(ROWS.format("docs", 0, 249))
    docs.load(cache=False)
    assert same_as_the_database(docs) == set(range(250))
    return docs


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
