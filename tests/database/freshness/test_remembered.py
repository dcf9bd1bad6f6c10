"""Filters of the native engine after writes: only what changed is asked about, and no answer is older than it may be."""

import contextlib
import os
import random
import threading

import numpy as np
import psycopg
import pytest
from followed import DIMS, ROW, Clock, N, load_following, nearest, text
from psycopg import sql

import mrl_db
from mrl_db.engines.native import selections
from mrl_db.model import filters
from mrl_db.postgres import rows, written
from mrl_db.postgres.request import Request

ROUNDS = int(os.environ.get("MRL_DB_FILTER_ROUNDS", "60"))
SET_YEAR = "UPDATE docs SET year = %s WHERE id = %s"
FILTERS = [
    {"year": 3},
    {"year": {"$ne": 3}},
    {"year": {"$lt": 5}},
    {"year": None},
    {"year": {"$gte": 0}, "id": {"$lt": N}},
    {"$not": {"year": {"$in": [1, 2, 3, 4, 5, 6, 7, 8, 9]}}},
]


@pytest.fixture
def other(dsn):
    """Two clients: one commits each statement, one only when it is told to."""
    with psycopg.connect(dsn, autocommit=True) as one, psycopg.connect(dsn) as two:
        yield one, two


@pytest.fixture
def asked(monkeypatch):
    """What PostgreSQL was asked about filters: keys, or None for all rows."""
    questions, keys_where = [], rows.keys_where

    def noted(session, request, among=None):
        questions.append(None if among is None else sorted(among))
        return keys_where(session, request, among)

    news = written.news

    def noted_as_fetched(*args):
        found = news(*args)
        if found is not None and found.rows is not None:
            questions.append(sorted(found.keys))
        return found

    monkeypatch.setattr(rows, "keys_where", noted)
    monkeypatch.setattr(written, "news", noted_as_fetched)
    return questions


def assert_filtered_as_the_database(docs, query, where):
    k = docs.count() + 1
    native = docs.search(query, k=k, where=where, engine="native")
    exact = docs.search(query, k=k, where=where, exact=True)
    assert sorted(native.ids.tolist()) == sorted(exact.ids.tolist()), where
    np.testing.assert_allclose(native.distances, exact.distances, atol=1e-6)


# What is asked


def test_only_keys_that_were_written_to_are_judged_again(docs, vectors, execute, asked):
    nearest(docs, vectors[0], where={"year": 3})
    assert asked == [None]

    execute(SET_YEAR, (3, 44))
    execute("DELETE FROM docs WHERE id = 13")
    execute(
        "INSERT INTO docs (id, year, embedding) VALUES (-1, 3, %s::vector)", (text(vectors[N]),)
    )

    assert nearest(docs, vectors[44], where={"year": 3})[0] == 44
    assert nearest(docs, vectors[13], where={"year": 3})[0] != 13
    assert nearest(docs, vectors[N], where={"year": 3})[0] == -1
    assert asked == [None, [-1, 13, 44]]


@pytest.mark.parametrize(("prepare", "most"), [(True, 1), (False, 2)])
def test_rows_come_judged_with_the_news(docs, dsn, vectors, execute, sent, prepare, most):
    """A filtered search after a write sends one statement; where none is prepared, a second one."""
    where = {"year": 3}
    db = mrl_db.connect(dsn, prepare=prepare)
    docs = db.open("docs")
    docs.load(cache=False)
    nearest(docs, vectors[0], where=where)

    for key, statements in ((44, most), (None, 1), (45, most), (46, most)):
        if key is not None:
            execute(SET_YEAR, (3, key))
        sent.clear()
        found = docs.search(vectors[key or 44], k=1, where=where, engine="native").ids
        assert (found.tolist(), len(sent)) == ([key or 44], statements)
    docs.unload()
    db.close()


def test_a_column_that_came_later_is_judged_too(db, docs, vectors, execute, asked):
    execute("ALTER TABLE docs ADD COLUMN late integer")
    assert docs.search(vectors[0], where={"late": 5}, engine="native").ids.tolist() == []
    for key in (7, 8):
        execute("UPDATE docs SET late = 5 WHERE id = %s", (key,))
        assert nearest(docs, vectors[key], where={"late": 5})[0] == key
    assert asked[1:] == [[7], [8]]


@pytest.mark.parametrize("way", ["news", "rows"])
def test_a_filter_that_cannot_be_judged_hinders_no_other_search(
    db, vectors, execute, monkeypatch, way
):
    """A column that goes meanwhile is missed by the searches that name it alone."""
    docs = db.create_collection("titled", dims=DIMS, columns={"title": "text"})
    docs.add(np.arange(20), vectors[:20], title=["a"] * 20)
    docs.load(cache=False)
    assert len(docs.search(vectors[0], k=30, where={"title": "a"}, engine="native")) == 20
    ask = getattr(written, way)

    def drop_before(*args):
        execute("ALTER TABLE titled DROP COLUMN IF EXISTS title")
        return ask(*args)

    execute("DELETE FROM titled WHERE id = 8")
    monkeypatch.setattr(written, "news", lambda log, *args: log.news(*args[:3]))
    monkeypatch.setattr(written, way, drop_before)

    with pytest.raises(mrl_db.MrlDbError, match="title"):
        docs.search(vectors[0], where={"title": "a"}, engine="native")
    assert docs.loaded.rows == 19
    assert nearest(docs, vectors[8])[0] != 8
    docs.unload()
    db.drop("titled")


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_writes_while_rows_are_judged_is_judged_by_the_next(
    docs, vectors, execute, monkeypatch, when
):
    """What was committed between the question and the rows, or after these, comes with the next."""
    news, wrote = written.news, []

    def write_beside(*args):
        if len(wrote) < 6 and when == "before":
            change()
        answer = news(*args)
        if len(wrote) < 6 and when == "after":
            change()
        return answer

    def change():
        key = 50 + len(wrote)
        wrote.append(key)
        execute(SET_YEAR, (78 if key % 2 else 77, key))
        execute(SET_YEAR, (77 if key % 2 else 78, 40))  # the one that is being judged

    where = {"year": 77}
    docs.search(vectors[0], where=where, engine="native")
    execute(SET_YEAR, (77, 40))
    monkeypatch.setattr(written, "news", write_beside)
    for _ in range(8):
        before = {key for key in wrote if key % 2 == 0}
        found = set(docs.search(vectors[0], k=9, where=where, engine="native").ids.tolist())
        assert before <= found - {40} <= {key for key in wrote if key % 2 == 0}
    assert len(wrote) == 6
    assert_filtered_as_the_database(docs, vectors[40], where)


def test_a_filter_that_is_used_seldom_is_asked_of_all_that_changed_since(
    docs, vectors, execute, asked
):
    nearest(docs, vectors[0], where={"year": 3})
    for key in (1, 2, 2, 1, 7):
        execute(SET_YEAR, (3, key))
        nearest(docs, vectors[0])

    assert nearest(docs, vectors[7], where={"year": 3})[0] == 7
    assert asked == [None, [1, 2, 7]]


def test_where_more_changed_than_pass_all_are_asked(docs, vectors, execute, asked, monkeypatch):
    monkeypatch.setattr(selections, "_FEW", 10)
    nearest(docs, vectors[0], where={"year": 3})
    execute("UPDATE docs SET year = 3 WHERE id < 40")
    nearest(docs, vectors[0], where={"year": 3})
    execute("UPDATE docs SET year = 4 WHERE id < 400")
    assert_filtered_as_the_database(docs, vectors[0], {"year": 3})
    assert asked == [None, list(range(40)), None]


@pytest.mark.parametrize("statement", ["TRUNCATE docs", "VACUUM FULL docs"])
def test_where_any_row_may_have_changed_all_are_asked(docs, vectors, execute, asked, statement):
    nearest(docs, vectors[0], where={"year": 3})
    execute(statement)
    docs.search(vectors[0], where={"year": 3}, engine="native")
    assert asked == [None, None]


def test_columns_that_changed_names_are_asked_anew(docs, vectors, execute):
    execute("ALTER TABLE docs ADD COLUMN other integer")
    execute("UPDATE docs SET other = 77 WHERE id = 5")
    nearest(docs, vectors[0], where={"year": 3})

    execute("ALTER TABLE docs RENAME COLUMN year TO old; ALTER TABLE docs RENAME other TO year")

    assert_filtered_as_the_database(docs, vectors[5], {"year": 77})
    assert_filtered_as_the_database(docs, vectors[5], {"year": 3})


def test_conditions_in_sql_are_asked_by_every_search(docs, vectors, execute, asked):
    """They may say something else without any write to the table."""
    execute("CREATE TABLE chosen (id bigint); INSERT INTO chosen VALUES (1)")
    raw = mrl_db.raw(sql.SQL("row_.id IN (SELECT id FROM chosen)"))
    for where in (raw, {"$and": [raw, {"year": {"$gte": 0}}]}, {"$not": {"$not": raw}}):
        execute("UPDATE chosen SET id = 1")
        assert nearest(docs, vectors[0], where=where)[0] == 1
        execute("UPDATE chosen SET id = 2")
        assert nearest(docs, vectors[0], where=where)[0] == 2
    assert asked == [None] * 6
    assert len(docs.loaded._selections) == 0
    execute("DROP TABLE chosen")


@pytest.mark.superuser
def test_policies_are_asked_anew_after_any_write(docs, vectors, execute, dsn):
    """What they let a role see may change without a write to the rows."""
    execute("DROP ROLE IF EXISTS bound_reader; CREATE ROLE bound_reader")
    execute(
        "CREATE TABLE allowed (id bigint); INSERT INTO allowed SELECT generate_series(0, 499); "
        "GRANT SELECT ON docs, allowed TO bound_reader; "
        "GRANT SELECT ON mrl.collection, mrl.plan, mrl.migration, mrl.change TO bound_reader; "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON mrl.reader TO bound_reader; "
        "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY own ON docs USING (id IN (SELECT id FROM allowed))"
    )
    as_reader = psycopg.conninfo.make_conninfo(dsn, options="-c role=bound_reader")
    try:
        with mrl_db.connect(as_reader) as db:
            mine = db.open("docs")
            mine.load(cache=False, allow_rls_bypass=True)
            assert nearest(mine, vectors[33], where={"year": 3})[0] == 33
            execute("DELETE FROM allowed WHERE id = 33")
            execute(SET_YEAR, (3, 1))
            assert nearest(mine, vectors[33], where={"year": 3})[0] != 33
            mine.unload()
    finally:
        execute("ALTER TABLE docs DISABLE ROW LEVEL SECURITY; DROP POLICY own ON docs")
        execute("DROP TABLE allowed; DROP OWNED BY bound_reader; DROP ROLE bound_reader")


# What is remembered


def test_filters_that_nobody_uses_are_forgotten(docs, vectors, monkeypatch):
    engine, clock = docs.loaded, Clock()
    engine._selections._clock = clock
    monkeypatch.setattr(selections, "_SHARE", 1)
    for year in range(selections._MOST + 3):
        nearest(docs, vectors[0], where={"$or": [{"year": year}, {"year": 3}]})
    assert len(engine._selections) == selections._MOST
    nearest(docs, vectors[0], where={"$or": [{"year": 3}, {"year": 3}]})
    clock.ahead += 2 * selections._SECONDS
    nearest(docs, vectors[0], where={"year": 5})
    assert len(engine._selections) == 1


def test_filters_take_a_share_of_the_index(docs, vectors, monkeypatch):
    engine = docs.loaded
    request = Request(engine.info, filters.parse({"year": 3}, docs.columns), ())
    _, selection = engine._selections.get(request)
    monkeypatch.setattr(selections, "_SHARE", engine.bytes // (5 * selection.bytes))
    for low in range(10):
        nearest(docs, vectors[0], where={"year": 9 - low})
        assert 1 <= len(engine._selections) <= 6
    assert len(engine._selections) >= 3


def test_an_index_that_was_replaced_is_not_kept(docs, vectors):
    engine = docs.loaded
    nearest(docs, vectors[0], where={"year": 3})
    nearest(docs, vectors[0], where={"year": 4})
    docs.refresh()

    assert [each.index() for each in engine._selections._remembered.values()] == [None, None]
    assert_filtered_as_the_database(docs, vectors[0], {"year": 3})
    assert len(engine._selections) == 1


# What is answered


def writes(docs, other, vectors, chance):
    """What clients do, by chance: each with one of two connections, or through the collection."""
    key, year = chance.randrange(-5, N + 20), chance.choice([None, *range(10)])
    low = chance.randrange(N)
    vector = text(vectors[chance.randrange(2 * N)])
    client = other[chance.randrange(2)]
    return [
        lambda: client.execute(SET_YEAR, (year, key)),
        lambda: client.execute(
            "UPDATE docs SET year = %s WHERE id BETWEEN %s AND %s", (year, low, low + 30)
        ),
        lambda: client.execute("DELETE FROM docs WHERE id BETWEEN %s AND %s", (low, low + 5)),
        lambda: client.execute(
            "UPDATE docs SET embedding = %s::vector WHERE id = %s", (vector, key)
        ),
        lambda: client.execute(
            "INSERT INTO docs (id, year, embedding) VALUES (%s, %s, %s::vector) ON CONFLICT (id) "
            "DO UPDATE SET year = excluded.year, embedding = excluded.embedding",
            (key, year, vector),
        ),
        lambda: client.execute(
            "UPDATE docs SET id = id + 10000 WHERE id BETWEEN %s AND %s", (low, low + 3)
        ),
        lambda: client.execute("UPDATE docs SET id = id - 10000 WHERE id >= 10000"),
        lambda: docs.upsert([key], vectors[key : key + 1], year=[year]) if key >= 0 else None,
        lambda: docs.update([key], year=[year]),
        lambda: docs.delete(where={"year": year, "id": {"$lt": low // 4}}),
    ]


def do(write):
    with contextlib.suppress(psycopg.errors.UniqueViolation, mrl_db.DuplicateKeyError):
        write()


@pytest.mark.parametrize(("seed", "way"), list(enumerate(["graph", "graph", "flat", "flat"])))
def test_filtered_answers_are_those_of_the_database(docs, vectors, other, seed, way, monkeypatch):
    """Whatever was written since, with transactions that are open, rolled back, or go on."""
    chance = random.Random(seed)
    docs.unload()
    docs.load(cache=False, route=way)
    monkeypatch.setattr(selections, "_FEW", 40)
    for _ in range(ROUNDS):
        for _ in range(chance.randrange(4)):
            do(chance.choice(writes(docs, other[:1] * 2, vectors, chance)))
        other[1].execute("SET LOCAL lock_timeout = '1ms'")
        try:
            chance.choice(writes(docs, other[1:] * 2, vectors, chance)[:6])()
        except psycopg.Error:
            other[1].rollback()
        if chance.random() < 0.5:
            other[1].rollback()
        for where in chance.sample(FILTERS, 2):
            assert_filtered_as_the_database(docs, vectors[chance.randrange(N)], where)
        other[1].commit()


def test_writers_at_once_see_what_each_has_written(docs, vectors, dsn):
    """Two filters and all threads share what is remembered; none may be older than its own write."""
    failures = []

    def write_and_search(number):
        chance = random.Random(number)
        try:
            with psycopg.connect(dsn, autocommit=True) as client:
                for step in range(max(20, ROUNDS // 2)):
                    key = 3 * chance.randrange(N // 3) + number
                    marked = step % 2 == 0
                    if chance.random() < 0.3:
                        client.execute("DELETE FROM docs WHERE id = %s", (key,))
                        client.execute(ROW, (key, text(vectors[key])))
                    client.execute(SET_YEAR, (77 if marked else 78, key))
                    assert (
                        nearest(docs, vectors[key], where={"year": 77 if marked else 78})[0] == key
                    )
                    not_found = docs.search(
                        vectors[key], k=1, where={"year": 78 if marked else 77}, engine="native"
                    )
                    assert key not in not_found.ids.tolist()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write_and_search, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    for where in ({"year": 77}, {"year": 78}):
        assert_filtered_as_the_database(docs, vectors[0], where)


def test_what_is_asked_while_others_write_is_asked_about_again(docs, vectors, execute, monkeypatch):
    """An answer that came before a write is never taken for one that came after."""
    engine, keys_where, wrote = docs.loaded, rows.keys_where, []

    def write_meanwhile(*args, **options):
        answer = keys_where(*args, **options)
        if len(wrote) < 3:
            wrote.append(40 + len(wrote))
            execute(SET_YEAR, (77, wrote[-1]))
            engine.sync(0)
        return answer

    nearest(docs, vectors[0], where={"year": 3})
    execute(SET_YEAR, (3, 1))
    monkeypatch.setattr(rows, "keys_where", write_meanwhile)
    for _ in range(5):
        before = list(wrote)
        found = docs.search(vectors[0], where={"year": 77}, engine="native").ids.tolist()
        assert set(before) <= set(found) <= set(wrote)
    assert wrote == [40, 41, 42]
    assert_filtered_as_the_database(docs, vectors[40], {"year": 77})
    assert nearest(docs, vectors[42], where={"year": 77})[0] == 42


def test_rows_in_dead_ones_places_are_not_taken_for_them(docs, vectors, execute):
    """The number of a row that passed goes to one that does not."""
    docs.unload()
    engine = load_following(docs)
    nearest(docs, vectors[0], where={"year": 3})
    for step in range(3):
        execute("DELETE FROM docs WHERE year = 3 AND id < 400 AND id %% 3 = %s", (step,))
        nearest(docs, vectors[0])
        engine.index.heal()
        for key in range(12):
            execute(
                "INSERT INTO docs (id, year, embedding) VALUES (%s, 5, %s::vector)",
                (1000 + 20 * step + key, text(vectors[N + 20 * step + key])),
            )
        nearest(docs, vectors[0])
        for where in ({"year": 3}, {"year": 5}):
            assert_filtered_as_the_database(docs, vectors[7], where)
