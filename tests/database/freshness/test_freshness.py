"""Law 4: what any client committed is found by the next native search."""

import threading
import time

import numpy as np
import psycopg
import pytest
from followed import DIMS, KEYS, ROW, N, assert_equal_to_the_database, nearest, text

import mrl_db
from mrl_db.postgres.changes import ChangeLog

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


@pytest.mark.parametrize(
    ("key_type", "rows"), [("bigint", "memory"), ("uuid", "memory"), ("bigint", "postgres")]
)
def test_a_search_asks_once_whatever_its_query_looks_like(db, vectors, monkeypatch, key_type, rows):
    docs = db.create_collection("docs", dims=DIMS, key_type=key_type)
    docs.add([KEYS[key_type](i) for i in range(200)], vectors[:200])
    docs.load(rows=rows)
    asked, news = [], ChangeLog.news
    monkeypatch.setattr(ChangeLog, "news", lambda *of: (asked.append(of), news(*of))[1])
    forms = (
        vectors[3],
        vectors[3].tolist(),
        vectors[3].astype(np.float64),
        np.repeat(vectors[3], 2)[::2],
        vectors[3:4],
    )

    times = []
    for query in forms:
        asked.clear()
        assert docs.search(query, k=1, threads=1).ids.item() == KEYS[key_type](3)
        times.append(len(asked))

    # Where there is a short way, it has asked before it sees that every second value is meant.
    strided = 2 if (key_type, rows) == ("bigint", "memory") else 1
    assert times == [1, 1, 1, strided, 1]


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
    execute(f"CREATE TABLE parts (id bigint PRIMARY KEY, embedding vector({DIMS}))")
    execute("CREATE TABLE parts_0 () INHERITS (parts)")
    docs = db.attach("parts", low_dim="index")
    docs.add([1], vectors[:1])
    with pytest.raises(mrl_db.FreshnessError, match="children"):
        docs.load()
    docs.load(max_staleness=float("inf"))
    assert docs.search(vectors[0], k=1).ids.tolist() == [1]


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
