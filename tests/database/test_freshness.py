"""Law 4: what any client committed is found by the next native search; the change log behind it."""

import os
import threading
import time
import uuid

import numpy as np
import psycopg
import pytest

import mrl_db
from mrl_db import graph_plan
from mrl_db.engines.native.engine import load
from mrl_db.engines.native.index import Loading
from mrl_db.engines.native.lease import Following, boot_time

DIMS, N = 24, 500
KEYS = {
    "bigint": int,
    "smallint": int,
    "uuid": lambda i: uuid.UUID(int=i + 1),
    "text": lambda i: f"key '{i}' é%s",
}
ROW = "INSERT INTO docs (id, embedding) VALUES (%s, %s::vector)"


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((2 * N, DIMS)).astype(np.float32)


@pytest.fixture
def docs(db, vectors):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(np.arange(N), vectors[:N], year=np.arange(N) % 10)
    docs.load(cache=False)
    return docs


class Clock:
    """The clock of leases, which a test puts forward."""

    ahead = 0.0

    def __call__(self):
        return boot_time() + self.ahead


def load_following(docs, **limits):
    """Loads as `docs.load(cache=False)` does, with other limits than its own."""
    opened = docs._opened
    docs.unload()
    loading = Loading(graph_plan(dims=DIMS), cache=False)
    engine = load(opened.session, opened.info, loading, following=Following(**limits))
    opened.engines["native"] = engine
    return engine


def text(vector):
    return "[" + ",".join(str(float(x)) for x in vector) + "]"


def nearest(docs, vector, **options):
    hits = docs.search(vector, k=1, engine="native", **options)
    return hits.ids[0], float(hits.distances[0])


def assert_equal_to_the_database(docs, queries):
    """The native engine's answers over all rows are those of PostgreSQL."""
    count = docs.count()
    for query in queries:
        native, exact = (
            docs.search(query, k=count + 5, engine="native"),
            docs.search(query, k=count + 5, exact=True),
        )
        assert native.ids.tolist() == exact.ids.tolist()
        np.testing.assert_allclose(native.distances, exact.distances, atol=1e-5)


def changes(execute):
    return execute("SELECT count(*) FROM mrl.change")[0][0]


# Writes by others


def test_a_row_that_another_client_writes_is_found_and_one_that_it_deletes_is_not(
    docs, vectors, execute
):
    for i in range(N, N + 20):
        execute(ROW, (i, text(vectors[i])))
        assert nearest(docs, vectors[i])[0] == i
        execute("DELETE FROM docs WHERE id = %s", (i,))
        assert nearest(docs, vectors[i])[0] != i


@pytest.mark.parametrize("key_type", list(KEYS))
@pytest.mark.parametrize("options", [{}, {"route": "flat"}, {"rows": "postgres"}])
def test_all_statements_are_followed_whatever_the_key(db, execute, vectors, key_type, options):
    key = KEYS[key_type]
    docs = db.create_collection("docs", dims=DIMS, key_type=key_type, columns={"year": "integer"})
    docs.add([key(i) for i in range(200)], vectors[:200])
    docs.load(**options)

    execute(ROW, (key(300), text(vectors[300])))
    execute("UPDATE docs SET embedding = %s::vector WHERE id = %s", (text(vectors[301]), key(7)))
    execute("UPDATE docs SET id = %s WHERE id = %s", (key(302), key(8)))
    execute("DELETE FROM docs WHERE id = ANY(%s)", ([key(1), key(2)],))
    execute(
        ROW + " ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding",
        (key(9), text(vectors[303])),
    )

    assert nearest(docs, vectors[300])[0] == key(300)
    assert nearest(docs, vectors[301])[0] == key(7)
    assert nearest(docs, vectors[8])[0] == key(302)
    assert nearest(docs, vectors[303])[0] == key(9)
    assert nearest(docs, vectors[1])[0] != key(1)
    if options.get("rows") != "postgres":
        assert_equal_to_the_database(docs, vectors[:3])


def test_a_change_of_metadata_is_seen_by_filters(docs, vectors, execute):
    assert nearest(docs, vectors[3], where={"year": 5})[0] != 3

    execute("UPDATE docs SET year = 5 WHERE id = 3")

    assert nearest(docs, vectors[3], where={"year": 5})[0] == 3


def test_an_attached_halfvec_table_with_nulls_is_followed(db, execute, vectors):
    execute(f"CREATE TABLE notes (label text PRIMARY KEY, v halfvec({DIMS}))")
    docs = db.attach("notes", vector="v", key="label", low_dim="index")
    docs.load()

    execute("INSERT INTO notes VALUES ('a', %s), ('b', NULL)", (text(vectors[0]),))
    assert docs.search(vectors[0], k=5).ids.tolist() == ["a"]
    execute("UPDATE notes SET v = %s WHERE label = 'b'", (text(vectors[1]),))
    assert docs.search(vectors[1], k=5).ids.tolist() == ["b", "a"]
    execute("UPDATE notes SET v = NULL WHERE label = 'a'")
    assert docs.search(vectors[1], k=5).ids.tolist() == ["b"]


def test_what_is_not_committed_is_not_seen(docs, vectors, dsn):
    with psycopg.connect(dsn) as other:
        other.execute(ROW, (N, text(vectors[N])))
        assert nearest(docs, vectors[N])[0] != N
        other.rollback()
        assert nearest(docs, vectors[N])[0] != N
        other.execute(ROW, (N, text(vectors[N])))
        other.commit()
        assert nearest(docs, vectors[N])[0] == N


def test_a_transaction_that_began_first_and_commits_last_is_seen(docs, vectors, dsn, execute):
    with psycopg.connect(dsn) as early:
        early.execute(ROW, (N, text(vectors[N])))
        for i in range(N + 1, N + 5):  # later ids of transactions, committed before
            execute(ROW, (i, text(vectors[i])))
            assert nearest(docs, vectors[i])[0] == i
        assert nearest(docs, vectors[N])[0] != N
        early.commit()
        assert nearest(docs, vectors[N])[0] == N


def test_a_bulk_write_is_followed(docs, db, rng, vectors):
    others = db.open("docs")
    many = rng.standard_normal((20_000, DIMS)).astype(np.float32)

    others.add(np.arange(1000, 21_000), many)

    assert docs.search(many[:200], k=1).ids[:, 0].tolist() == list(range(1000, 1200))
    assert others.delete(where={}) == 20_000 + N
    assert len(docs.search(vectors[0], k=1).ids) == 0


def test_following_goes_on_beside_writers(docs, vectors, dsn):
    """A row of another connection is found by the next search, in another thread than the last."""
    failures = []

    def pairs(start):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for i in range(start, start + 60):
                connection.execute(ROW, (i, text(vectors[i])))
                if nearest(docs, vectors[i])[0] != i:
                    failures.append(("missed", i))
                connection.execute("DELETE FROM docs WHERE id = %s", (i,))
                if nearest(docs, vectors[i])[0] == i:
                    failures.append(("stale", i))

    threads = [threading.Thread(target=pairs, args=(N + 100 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# What the log cannot tell row by row


def test_truncate_is_seen(docs, vectors, execute):
    execute("TRUNCATE docs")
    assert len(docs.search(vectors[0], k=3).ids) == 0
    execute(ROW, (1, text(vectors[1])))
    assert docs.search(vectors[0], k=3).ids.tolist() == [1]


def test_writes_while_the_triggers_are_off_are_noticed(docs, vectors, execute):
    execute("ALTER TABLE docs DISABLE TRIGGER mrl_log_insert")
    execute(ROW, (N, text(vectors[N])))
    with pytest.raises(mrl_db.FreshnessError, match="log_changes"):
        docs.search(vectors[N], k=1)

    execute("ALTER TABLE docs ENABLE ALWAYS TRIGGER mrl_log_insert")

    assert nearest(docs, vectors[N])[0] == N


def test_triggers_that_were_off_for_a_moment_are_noticed(docs, vectors, execute):
    execute("ALTER TABLE docs DISABLE TRIGGER mrl_log_insert")
    execute(ROW, (N, text(vectors[N])))
    execute("ALTER TABLE docs ENABLE ALWAYS TRIGGER mrl_log_insert")
    assert nearest(docs, vectors[N])[0] == N


@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TRIGGER mrl_log_insert ON docs",),
        ("ALTER TABLE docs DISABLE TRIGGER ALL", "ALTER TABLE docs ENABLE TRIGGER ALL"),
    ],
)
def test_triggers_that_are_gone_or_not_always_on_are_asked_for_and_made_again(
    docs, vectors, execute, statements
):
    for statement in statements:
        execute(statement)
    execute(ROW, (N, text(vectors[N])))
    with pytest.raises(mrl_db.FreshnessError, match="SELECT mrl.log_changes"):
        docs.search(vectors[N], k=1)

    execute("SELECT mrl.log_changes('docs')")

    assert nearest(docs, vectors[N])[0] == N


@pytest.mark.superuser
def test_writes_as_a_replica_are_logged(docs, vectors, dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] == N


def test_a_rewritten_table_is_compared(docs, vectors, execute):
    execute("ALTER TABLE docs ALTER COLUMN year TYPE bigint")
    execute("VACUUM FULL docs")
    assert_equal_to_the_database(docs, vectors[:3])


def test_a_renamed_table_is_followed(docs, vectors, execute):
    execute("ALTER TABLE docs RENAME TO papers")
    execute(ROW.replace("docs", "papers"), (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] == N
    assert nearest(docs, vectors[3], where={"year": 3})[0] == 3


def test_renamed_columns_are_a_clear_error_and_writers_go_on(docs, vectors, execute):
    execute("ALTER TABLE docs RENAME COLUMN id TO number")
    execute("INSERT INTO docs (number, embedding) VALUES (%s, %s)", (N, text(vectors[N])))
    with pytest.raises(mrl_db.MrlDbError):
        docs.search(vectors[N], k=1, engine="native")
    execute("ALTER TABLE docs RENAME COLUMN number TO id")
    assert nearest(docs, vectors[N])[0] == N


def test_a_key_of_another_type_lets_writers_go_on(docs, vectors, execute):
    execute("ALTER TABLE docs ALTER COLUMN id TYPE text")
    execute("INSERT INTO docs (id, embedding) VALUES ('new', %s)", (text(vectors[N]),))

    assert execute("SELECT count(*) FROM docs") == [(N + 1,)]


@pytest.mark.parametrize("statement", ["DROP TABLE docs", "SELECT mrl.drop_collection('docs')"])
def test_a_dropped_collection_is_a_clear_error(docs, vectors, execute, statement):
    execute(statement)
    for _ in range(2):
        with pytest.raises(mrl_db.CollectionNotFoundError):
            docs.search(vectors[0], k=1, engine="native")


def test_a_collection_made_anew_under_the_old_name_is_not_taken_for_the_old_one(
    docs, db, vectors, execute
):
    db.drop("docs")
    other = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    other.add([7], vectors[:1])
    with pytest.raises(mrl_db.CollectionNotFoundError):
        docs.search(vectors[0], k=1, engine="native")
    fresh = db.open("docs")
    fresh.load()
    assert fresh.search(vectors[0], k=3).ids.tolist() == [7]


@pytest.mark.superuser
def test_maintenance_is_no_change(docs, vectors, execute):
    before = docs.loaded.generation
    for statement in (
        "ANALYZE docs",
        "VACUUM docs",
        "CREATE INDEX ON docs (year)",
        "SELECT mrl.create_index('docs')",
        "CHECKPOINT",
    ):
        execute(statement)
        assert nearest(docs, vectors[4])[0] == 4
    assert docs.loaded.generation == before


def test_row_level_security_is_noticed(docs, vectors, execute):
    execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    with pytest.raises(mrl_db.RowSecurityError, match="allow_rls_bypass"):
        docs.search(vectors[0], k=1, engine="native")
    with pytest.raises(mrl_db.RowSecurityError, match="allow_rls_bypass"):
        docs.load()
    docs.load(allow_rls_bypass=True)
    assert nearest(docs, vectors[0])[0] == 0


def test_tables_whose_writes_cannot_be_logged_are_refused(db, execute, vectors):
    execute(
        f"CREATE TABLE parts (id bigint PRIMARY KEY, embedding vector({DIMS})) "
        "PARTITION BY RANGE (id)"
    )
    execute("CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (1000)")
    docs = db.attach("parts", low_dim="index")
    docs.add([1], vectors[:1])
    with pytest.raises(mrl_db.FreshnessError, match="partitions"):
        docs.load()
    docs.load(max_staleness=float("inf"))
    assert docs.search(vectors[0], k=1).ids.tolist() == [1]


# Readers and the length of the log


def test_the_log_is_kept_for_readers_and_cut_behind_them(docs, vectors, execute):
    clock = Clock()
    load_following(docs, clock=clock)
    for i in range(N, N + 10):
        execute(ROW, (i, text(vectors[i])))
    assert changes(execute) >= 10

    assert execute("SELECT mrl.trim_changes()")[0][0] == 0  # the reader has not acknowledged
    assert nearest(docs, vectors[N + 3])[0] == N + 3
    clock.ahead += 61
    nearest(docs, vectors[0])

    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0
    docs.unload()
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 0


def test_a_reader_whose_lease_ended_finds_what_was_cut_away(docs, vectors, execute):
    execute("UPDATE mrl.reader SET lease = clock_timestamp() - interval '1 second'")
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM docs WHERE id = 5")
    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0

    assert nearest(docs, vectors[N])[0] == N
    assert_equal_to_the_database(docs, vectors[:3])
    execute("DELETE FROM docs WHERE id = 6")
    assert nearest(docs, vectors[6])[0] != 6


@pytest.mark.parametrize(
    "cut", ["DELETE FROM mrl.change", "TRUNCATE mrl.change", "DELETE FROM mrl.reader"]
)
@pytest.mark.superuser
def test_a_log_that_was_cut_by_hand_is_noticed_at_once(docs, vectors, execute, cut):
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM docs WHERE id = 5")
    execute(cut)
    execute("DELETE FROM mrl.change")
    assert_equal_to_the_database(docs, vectors[:3])
    generation = docs.loaded.generation
    execute("DELETE FROM mrl.change")  # nothing that was needed
    nearest(docs, vectors[0])
    assert docs.loaded.generation == generation


def test_the_health_of_the_log(docs, vectors, execute):
    execute(ROW, (N, text(vectors[N])))
    held, readers, logged = docs.log_health()
    assert held >= 1
    assert (readers, logged) == (1, True)
    execute("DROP TRIGGER mrl_log_update ON docs")
    assert docs.log_health()[2] is False


def test_a_dead_reader_holds_nothing(execute, docs, vectors):
    execute(
        "INSERT INTO mrl.reader (relation, lease) "
        "VALUES ('docs'::regclass, clock_timestamp() - interval '1 s')"
    )
    docs.unload()
    execute(ROW, (N, text(vectors[N])))
    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 0


def test_another_history_of_the_database_is_noticed(docs, vectors, execute):
    """As after a restored backup: the reader's token is gone, and rows differ without a log."""
    execute("DELETE FROM docs WHERE id < 50")
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM mrl.change")
    execute("UPDATE mrl.reader SET token = gen_random_uuid()")
    live = docs.loaded._live
    live._position = type(live._position)("1:1:", "another start", live._position.fingerprint)

    assert_equal_to_the_database(docs, vectors[:3])
    execute("DELETE FROM docs WHERE id = 60")
    assert_equal_to_the_database(docs, vectors[:3])


def test_a_collection_that_grew_is_built_anew_while_searches_go_on(db, vectors):
    docs = db.create_collection("docs", dims=DIMS)
    engine = load_following(docs, few=100)
    first = engine.index

    for begin in range(0, N, 50):
        docs.add(np.arange(begin, begin + 50), vectors[begin : begin + 50])
        assert docs.search(vectors[begin : begin + 50], k=1).ids[:, 0].tolist() == list(
            range(begin, begin + 50)
        )

    engine.settle()
    assert engine.index is not first
    docs.delete([3])
    assert_equal_to_the_database(docs, vectors[:3])
    docs.unload()


def test_another_collection_in_its_place_is_built_anew(docs, vectors, execute):
    first = load_following(docs, few=100).index
    with_all = "INSERT INTO docs (id, embedding) SELECT id + 1000, embedding FROM copied"
    execute(f"CREATE TABLE copied AS TABLE docs; TRUNCATE docs; {with_all}; DROP TABLE copied")
    assert_equal_to_the_database(docs, vectors[:3])
    assert docs.loaded.index is not first


# Staleness that is allowed


def test_within_max_staleness_nobody_is_asked(docs, vectors, execute):
    docs.load(max_staleness=float("inf"))
    execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] != N
    docs.refresh()
    assert nearest(docs, vectors[N])[0] == N


def test_max_staleness_of_a_search(docs, vectors, execute):
    nearest(docs, vectors[0])
    execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N], max_staleness=3600)[0] != N
    assert nearest(docs, vectors[N], max_staleness=0)[0] == N
    with pytest.raises(mrl_db.ValueRangeError, match="max_staleness"):
        docs.search(vectors[0], max_staleness=-1)


def test_own_writes_are_seen_whatever_staleness_is_allowed(docs, vectors):
    docs.load(max_staleness=3600)
    docs.add([N], vectors[N : N + 1])
    assert nearest(docs, vectors[N])[0] == N
    docs.delete([N])
    assert nearest(docs, vectors[N])[0] != N


def test_the_follower_brings_others_writes_while_nobody_searches(docs, vectors, execute):
    docs.load(max_staleness=0.05)
    rows = docs.loaded.rows

    execute(ROW, (N, text(vectors[N])))

    deadline = time.monotonic() + 30
    while docs.loaded.rows == rows and time.monotonic() < deadline:
        time.sleep(0.01)
    assert docs.loaded.rows == rows + 1
    docs.unload()


# Connections and processes


def test_a_connection_that_was_cut_is_made_again(docs, vectors, execute, dsn):
    nearest(docs, vectors[0])
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] == N


def test_a_forked_child_follows_for_itself(docs, vectors, execute):
    nearest(docs, vectors[0])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"no"
        try:
            execute(ROW, (N, text(vectors[N])))
            if nearest(docs, vectors[N])[0] == N:
                execute("DELETE FROM docs WHERE id = 3")
                if nearest(docs, vectors[3])[0] != 3:
                    answer = b"yes"
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 3) == b"yes"
    assert nearest(docs, vectors[N])[0] == N
    assert nearest(docs, vectors[3])[0] != 3
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 2


@pytest.mark.superuser
def test_roles_with_only_the_documented_rights(docs, vectors, execute, dsn):
    execute("DROP ROLE IF EXISTS reader_of_docs; DROP ROLE IF EXISTS writer_of_docs")
    execute("CREATE ROLE reader_of_docs; CREATE ROLE writer_of_docs")
    execute(
        "GRANT SELECT ON docs TO reader_of_docs; "
        "GRANT INSERT, UPDATE, DELETE, SELECT ON docs TO writer_of_docs"
    )
    execute("GRANT SELECT ON mrl.collection, mrl.plan, mrl.migration TO reader_of_docs")
    as_reader = psycopg.conninfo.make_conninfo(dsn, options="-c role=reader_of_docs")
    try:
        with mrl_db.connect(as_reader) as db:
            mine = db.open("docs")
            with pytest.raises(mrl_db.PrivilegeError, match="mrl.reader"):
                mine.load()
            mine.load(max_staleness=float("inf"))
            execute(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON mrl.reader TO reader_of_docs; "
                "GRANT SELECT ON mrl.change TO reader_of_docs"
            )
            clock = Clock()
            load_following(mine, clock=clock)
            with psycopg.connect(dsn, autocommit=True) as writer:  # it knows nothing of mrl
                writer.execute("SET ROLE writer_of_docs")
                writer.execute(ROW, (N, text(vectors[N])))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writer.execute("DELETE FROM mrl.change")
            assert nearest(mine, vectors[N])[0] == N
            clock.ahead += 61
            assert nearest(mine, vectors[N])[0] == N
            execute("REVOKE SELECT ON docs FROM reader_of_docs")
            with pytest.raises(mrl_db.PrivilegeError):
                nearest(mine, vectors[N])
    finally:
        execute(
            "DROP OWNED BY reader_of_docs, writer_of_docs; DROP ROLE reader_of_docs, writer_of_docs"
        )


def test_dropping_an_attached_collection_takes_its_triggers_away(db, execute):
    execute(f"CREATE TABLE notes (id bigint PRIMARY KEY, embedding vector({DIMS}))")
    db.attach("notes", low_dim="index").load(cache=False)
    count = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND NOT tgisinternal"
    assert execute(count)[0][0] == 4

    db.drop("notes")

    assert execute(count)[0][0] == 0
