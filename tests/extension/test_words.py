"""Rows by the words that they have: what the extension says, against the statement that says it in SQL."""

import numpy as np
import psycopg
import pytest

import mrl_db

VOCABULARY = [*(f"w{number}" for number in range(30)), "o'clock", "back\\slash", "größe", "w" * 90]
CHANCE = 1 / np.arange(1, len(VOCABULARY) + 1) ** 0.7
ROWS = 600
TWIN = """
    SELECT row_.ctid::text, sum(words.weight) AS score
    FROM mrl.query_words('docs', 'body_words', 'simple', %(query)s, false) AS words
    JOIN docs AS row_ ON row_.body_words @@ words.word
    GROUP BY 1 ORDER BY score DESC FETCH FIRST %(places)s ROWS WITH TIES
"""
BY_WORDS = """
    SELECT place::text, score
    FROM mrl_rows_by_words('docs', 'body_words', 'simple', %(query)s, %(places)s)
"""


def words_of(rng):
    return " ".join(word for word, p in zip(VOCABULARY, CHANCE, strict=True) if rng.random() < p)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def session(new_database, rng):
    """A connection to a table of words, which nobody has analyzed."""
    with mrl_db.connect(new_database):  # makes the schema mrl
        pass
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute(
            "CREATE TABLE docs (id integer PRIMARY KEY, seen integer, body text, body_words tsvector "
            "GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED) WITH (fillfactor = 60)"
        )
        session.execute("CREATE INDEX docs_words ON docs USING gin (body_words)")
        fill(session, rng)
        yield session


def fill(session, rng, first=0, rows=ROWS):
    with session.cursor().copy("COPY docs (id, seen, body) FROM STDIN") as copy:
        for number in range(first, first + rows):
            copy.write_row((number, 0, words_of(rng)))


def scans_of_index(session):
    """How often the index was scanned, by this connection, too."""
    return session.execute(
        "SELECT pg_stat_get_numscans(oid) + coalesce(pg_stat_get_xact_numscans(oid), 0) "
        "FROM pg_class WHERE relname = 'docs_words'"
    ).fetchone()[0]


def check(session, rng, queries=25):
    """Raises AssertionError where the extension says something else than the statement."""
    for number in range(queries):
        chosen = rng.choice([*VOCABULARY, "nowhere"], size=1 + number % 6, replace=False)
        asked = {
            "query": " ".join(f'"{word}"' for word in chosen),
            "places": int(rng.integers(1, ROWS)) if number % 3 else 5,
        }
        found = session.execute(BY_WORDS, asked).fetchall()

        assert sorted(found) == sorted(session.execute(TWIN, asked).fetchall()), asked
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)


def test_rows_are_those_of_the_statement_whatever_was_written(session, rng):
    check(session, rng)  # before any ANALYZE
    session.execute("ANALYZE docs")
    check(session, rng)
    session.execute("UPDATE docs SET seen = seen + 1 WHERE id % 2 = 0")
    check(session, rng)
    session.execute("UPDATE docs SET body = body || ' w3 more' WHERE id % 5 = 0")
    session.execute("DELETE FROM docs WHERE id % 7 = 0")
    fill(session, rng, first=ROWS, rows=50)  # in the index's list of what waits
    check(session, rng)
    session.execute("VACUUM ANALYZE docs")
    check(session, rng)


def test_a_snapshot_sees_what_it_saw(session, new_database, rng):
    session.execute("ANALYZE docs")
    with psycopg.connect(new_database) as older:
        older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        asked = {"query": "w7 w20", "places": 50}
        before = older.execute(BY_WORDS, asked).fetchall()
        session.execute("UPDATE docs SET seen = 9 WHERE id % 3 = 0")
        session.execute("UPDATE docs SET body = 'w7 w20' WHERE id % 3 = 1")
        session.execute("DELETE FROM docs WHERE id % 3 = 2")

        assert older.execute(BY_WORDS, asked).fetchall() == before
        check(older, rng)
    check(session, rng)


def test_no_statement_is_planned_where_the_index_says_all(session, rng):
    session.execute("ANALYZE docs")
    session.execute("BEGIN")
    before = scans_of_index(session)
    session.execute("SET LOCAL enable_bitmapscan = off")  # a statement reads the table, then

    session.execute(BY_WORDS, {"query": "w20 w21 w22", "places": 5})

    assert scans_of_index(session) == before + 3
    session.execute("COMMIT")


@pytest.mark.parametrize(
    "change",
    [
        "DROP INDEX docs_words",
        "DROP INDEX docs_words; CREATE INDEX docs_words ON docs USING gin (body_words) WHERE id < 9",
        "DROP INDEX docs_words; CREATE INDEX docs_words ON docs USING gin ((body_words || 'w7'))",
        "DROP INDEX docs_words; CREATE INDEX docs_words ON docs USING gist (body_words)",
        "ALTER TABLE docs ADD other tsvector; DROP INDEX docs_words; "
        "CREATE INDEX docs_words ON docs USING gin (other, body_words)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_words'::regclass",
    ],
)
def test_another_index_or_none_gives_the_same_rows(session, rng, change):
    session.execute("ANALYZE docs")

    session.execute(change)

    check(session, rng)


def test_a_bitmap_without_room_gives_the_same_rows(session, rng):
    session.execute("INSERT INTO docs SELECT id, 0, 'w0 ' || repeat('x', 3000) || id "
                    "FROM generate_series(10000, 14000) AS id")  # fmt: skip
    session.execute("ANALYZE docs")
    session.execute("SET work_mem = '64kB'")

    check(session, rng, queries=12)


def test_policies_and_rights_hold(session, new_database):
    session.execute("CREATE ROLE words_reader LOGIN; GRANT USAGE ON SCHEMA mrl TO words_reader")
    try:
        asked = {"query": "w1 w2", "places": 600}
        session.execute("SET ROLE words_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="docs"):
            session.execute(BY_WORDS, asked)
        session.execute("RESET ROLE")
        session.execute("GRANT SELECT (body_words) ON docs TO words_reader")
        session.execute("SET ROLE words_reader")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="docs"):
            session.execute(BY_WORDS, asked)
        session.execute("RESET ROLE")
        session.execute("GRANT SELECT ON docs TO words_reader")
        session.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        session.execute("CREATE POLICY tenth ON docs USING (id % 10 = 0)")
        every = session.execute(BY_WORDS, asked).fetchall()
        session.execute("SET ROLE words_reader")
        own = session.execute(BY_WORDS, asked).fetchall()
        visible = {place for (place,) in session.execute("SELECT ctid::text FROM docs")}

        assert 0 < len(own) < len(every)
        assert {place for place, _ in own} <= visible
        assert {place for place, _ in own} == {place for place, _ in every} & visible
    finally:
        session.execute("RESET ROLE")
        session.execute("DROP OWNED BY words_reader; DROP ROLE words_reader")


@pytest.mark.parametrize(
    ("relation", "column"),
    [("docs", "body"), ("docs", "nothing"), ("seen_docs", "body_words"), ("parents", "body_words")],
)
def test_what_is_no_table_with_words_is_refused(session, relation, column):
    session.execute("CREATE VIEW seen_docs AS SELECT * FROM docs")
    session.execute("CREATE TABLE parents (LIKE docs); CREATE TABLE heirs () INHERITS (parents)")

    with pytest.raises(psycopg.errors.WrongObjectType, match="without heirs"):
        session.execute("SELECT mrl_rows_by_words(%s, %s, 'simple', 'w1', 3)", (relation, column))


def test_nothing_asked_is_nothing_found(session):
    for query, places in [("", 5), ("...", 5), ("w1", 0), ("w1", -3), ("nowhere", 5)]:
        assert session.execute(BY_WORDS, {"query": query, "places": places}).fetchall() == []
