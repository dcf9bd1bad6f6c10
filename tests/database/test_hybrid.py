"""Searches by words, and by vectors and words at once, against lists that Python makes and fuses."""

import asyncio
import math

import evaluator
import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrl_db
from mrl_db.learn import Rotation

DIMS, ROWS = 3, 90
VOCABULARY = [f"w{number}" for number in range(12)]


@pytest.fixture(scope="module")
def filled(server):
    """Rows of words with different frequencies, a tenth without words, a tenth without a vector."""
    rng = np.random.default_rng(5)
    docs = server.create_collection(
        "worded",
        dims=DIMS,
        metric="l2",
        columns={"year": "integer"},
        text="content",
        language="simple",
        vectors_required=False,
    )
    chance = 1 / np.arange(1, len(VOCABULARY) + 1) ** 0.7
    texts = [
        None
        if number % 10 == 0
        else " ".join(word for word, p in zip(VOCABULARY, chance, strict=True) if rng.random() < p)
        for number in range(ROWS)
    ]
    vectors = [
        None if number % 10 == 3 else rng.integers(-3, 4, DIMS).tolist() for number in range(ROWS)
    ]
    years = [2000 + number % 4 for number in range(ROWS)]
    docs.add(range(ROWS), vectors, content=texts, year=years)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("ANALYZE worded")
        known = dict(
            connection.execute(
                "SELECT u.word, u.share::double precision FROM pg_stats AS s, "
                "unnest(most_common_elems::text::text[], most_common_elem_freqs) AS u (word, share) "
                "WHERE s.tablename = 'worded' AND s.attname = 'content_words' AND u.word <> ''"
            ).fetchall()
        )
    assert len(known) == len(VOCABULARY)
    yield docs, list(zip(range(ROWS), vectors, texts, years, strict=True)), known
    server.drop("worded")


def lists(rows, known, query, words, depth):
    """What each list holds: (key, distance) by vector, (key, score) by words."""
    near = sorted(
        (math.dist(query, vector), key) for key, vector, _, _ in rows if vector is not None
    )[:depth]
    weights = {word: round(math.log(1 + 1 / known[word]) * 2**24) / 2**24 for word in words}
    alike = []
    for key, _, text, _ in rows:
        own = sorted(weights[word] for word in set((text or "").split()) & set(words))
        if own:
            alike.append((-sum(own), key))
    return near, [(-score, key) for score, key in sorted(alike)[:depth]]


def fused(near, alike, weights, k):
    scores = {}
    if weights is None:
        for ranked in (near, alike):
            for rank, (_, key) in enumerate(ranked, 1):
                scores[key] = scores.get(key, 0) + 1 / (60 + rank)
    else:
        first, last = (near[0][0], near[-1][0]) if near else (0, 0)
        for distance, key in near:
            scale = 1 if first == last else (last - distance) / (last - first)
            scores[key] = weights[0] * scale
        for score, key in alike:
            scores[key] = scores.get(key, 0) + weights[1] * score / alike[0][0]
    return sorted(((-score, key) for key, score in scores.items()))[:k]


@given(
    query=st.tuples(*[st.integers(-3, 3)] * DIMS),
    words=st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=4, unique=True),
    where=st.sampled_from(
        [None, {"year": {"$gte": 0}}, {"year": {"$gte": 2002}}, {"content": {"$like": "%w3%"}}]
    ),
    weights=st.sampled_from([None, (0.5, 0.5), (0.9, 0.1), (1, 0)]),
    k=st.integers(1, 40),
    exact=st.booleans(),
)
@settings(max_examples=80)
def test_both_lists_are_fused_as_python_fuses_them(filled, query, words, where, weights, k, exact):
    docs, rows, known = filled
    chosen = [r for r in rows if evaluator.holds(where, {"content": r[2], "year": r[3]})]
    near, alike = lists(chosen, known, query, words, max(3 * k, 30))
    want = fused(near, alike, weights, k)

    hits = docs.search(
        query, text=" ".join(words), k=k, where=where, fusion=weights or "rrf", exact=exact
    )

    np.testing.assert_allclose(hits.scores, [-score for score, _ in want], rtol=1e-9)
    if weights is None:
        assert hits.ids.tolist() == [key for _, key in want]
    of_key = {key: vector for key, vector, _, _ in rows}
    assert [
        math.nan if of_key[key] is None else math.dist(query, of_key[key])
        for key in hits.ids.tolist()
    ] == pytest.approx(hits.distances.tolist(), nan_ok=True)


@given(
    words=st.lists(st.sampled_from([*VOCABULARY, "nothing"]), max_size=5, unique=True),
    k=st.integers(1, 100),
)
@settings(max_examples=30)
def test_words_alone_find_the_rows_that_have_some(filled, words, k):
    docs, rows, known = filled
    _, alike = lists(rows, {"nothing": min(known.values()) / 2, **known}, (0,) * DIMS, words, k)

    hits = docs.search(text=" ".join(words), k=k)

    assert hits.ids.tolist() == [key for _, key in alike]
    np.testing.assert_allclose(hits.scores, [score for score, _ in alike], rtol=1e-9)
    assert np.isnan(hits.distances).all()


def test_a_batch_has_the_answers_of_its_queries(filled):
    docs, _, _ = filled
    queries, texts = np.eye(DIMS), ["w0 w5", "nothing", "w11"]

    batch = docs.search(queries, text=texts, k=40, where={"year": 2001}, columns=["year"])

    for number, text in enumerate(texts):
        alone = docs.search(queries[number], text=text, k=40, where={"year": 2001})
        assert batch[number].ids.tolist() == alone.ids.tolist()
        assert batch[number].scores.tolist() == alone.scores.tolist()
    assert len(batch.to_list()) == 3
    assert batch.to_arrow().column_names == ["query", "rank", "id", "distance", "score", "year"]


@pytest.fixture
def many(db, execute):
    """5,000 rows that all have one word, and an index: lists are cut short by both."""
    docs = db.create_collection("many", dims=8, text="content", columns={"odd": "boolean"})
    vectors = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    texts = [f"common {'seldom' if number % 500 == 0 else ''} row" for number in range(5000)]
    docs.add(range(5000), vectors, content=texts, odd=[n % 2 == 1 for n in range(5000)])
    docs.create_index()
    execute("ANALYZE many")
    return docs, vectors


def test_k_rows_come_back_whenever_either_list_has_them(many):
    docs, vectors = many
    odd = {"odd": True}

    assert docs.search(text="seldom common", k=60, where=odd).ids.shape == (60,)
    assert docs.search(text="seldom", k=60).ids.shape == (10,)
    assert docs.search(vectors[0], text="seldom", k=60, where=odd).ids.shape == (60,)
    assert docs.search(vectors[0], text="seldom common", k=5000).ids.shape == (5000,)
    first = docs.search(vectors[1], text="seldom common", k=3)
    assert set(first.ids.tolist()) & {1}
    assert set(first.ids.tolist()) & set(range(0, 5000, 500))


def test_rare_words_come_out_of_the_index_alone(many, execute):
    words = execute(
        "SELECT word::text FROM mrl.query_words("
        "'many', 'content_words', 'english', 'common seldom rows', false)"
    )
    every = execute(
        "SELECT word::text FROM mrl.query_words("
        "'many', 'content_words', 'english', 'common seldom rows', true)"
    )

    assert words == [("'seldom'",)]
    assert sorted(word for (word,) in every) == ["'common'", "'row'", "'seldom'"]


def test_a_table_is_attached_with_its_text_and_left_as_it_was(db, execute):
    execute('CREATE TABLE t (id text PRIMARY KEY, embedding vector(2), "odd %s" varchar(90))')
    execute("INSERT INTO t VALUES ('a', '[1,2]', 'running cats'), ('b', NULL, 'o''clock \\ back')")
    docs = db.attach("t", text="odd %s")

    assert docs.search([1, 2], text="cat", k=2).ids.tolist() == ["a"]
    assert docs.search(text="O'CLOCK \\ 'x", k=2).ids.tolist() == ["b"]
    assert docs.columns == {"odd %s": "character varying"}
    docs.upsert(["c"], [[1, 1]], **{"odd %s": ["a cat runs"]})
    assert docs.search(text="cats", k=5).ids.tolist() == ["a", "c"]
    execute("ALTER TABLE t RENAME TO u")
    assert docs.search([1, 1], text="cats", fusion=(2, 1)).ids.tolist() == ["c", "a"]

    db.drop("t")
    assert execute("SELECT attname::text FROM pg_attribute WHERE attrelid = 'u'::regclass "
                   "AND attnum > 0 AND NOT attisdropped ORDER BY attnum") == [
        ("id",), ("embedding",), ("odd %s",)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("DROP EXTENSION mrl_db CASCADE", marks=pytest.mark.superuser),
        "CREATE TABLE heirs () INHERITS (docs)",
    ],
)
def test_what_the_extension_no_longer_says_the_statement_does(db, execute, change):
    docs = db.create_collection("docs", dims=2, text="content")
    docs.add([1, 2, 3], [[1, 0], [0, 1], [1, 1]], content=["a cat", "a dog", "two dogs"])
    assert docs.search([1, 0], text="dogs", k=3).ids.tolist() == [2, 3, 1]
    assert execute("SELECT (mrl.describe('docs')::json #>> '{text,ranks}') IS NOT NULL") == [
        (True,)
    ]

    execute(change)

    assert docs.search([1, 0], text="dogs", k=3).ids.tolist() == [2, 3, 1]
    assert docs.search(text="dogs", k=3).ids.tolist() == [2, 3]
    if "heirs" in change:
        execute("INSERT INTO heirs (id, embedding, content) VALUES (4, '[0,1]', 'a third dog')")
        assert docs.search(text="dogs", k=3).ids.tolist() == [2, 3, 4]


def test_a_filter_is_on_the_columns_of_the_table(db):
    """The names are also those of what the extension returns."""
    columns = {"place": "integer", "score": "integer"}
    docs = db.create_collection("docs", dims=2, columns=columns, text="content")
    docs.add(range(9), np.ones((9, 2)), content=["a cat"] * 9, place=range(9), score=range(9))
    where = {"$or": [{"place": {"$gt": 7}}, {"score": {"$lt": 1}}]}

    assert docs.search(text="cats", where=where).ids.tolist() == [0, 8]
    assert docs.search([1, 1], text="cats", where=where).ids.tolist() == [0, 8]


def test_sql_adds_a_text_to_a_collection_that_is_open(db, execute):
    docs = db.create_collection("docs", dims=2, columns={"title": "text"})
    docs.add([1, 2], np.eye(2), title=["one", "two"])
    with pytest.raises(mrl_db.ValueRangeError, match="has no text to search"):
        docs.search([1, 0], text="two")

    execute("SELECT mrl.add_text('docs', 'title', 'simple')")

    assert docs.search(text="two").ids.tolist() == [2]


def test_an_adapted_copy_has_the_text_and_changed_vectors(db):
    rows = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    docs = db.create_collection("docs", dims=4, text="content", language="simple")
    docs.add(range(20), rows, content=[f"row {number}" for number in range(20)])

    copied = docs.adapt("copied", Rotation.fit(rows))

    want = docs.search(rows[7], text="3", k=4, vectors=True)
    hits = copied.search(rows[7], text="3", k=4, vectors=True)
    assert hits.ids.tolist() == want.ids.tolist()
    np.testing.assert_allclose(
        hits.vectors, copied.adaptor.apply(want.vectors), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": 7}, "text is 7"),
        ({"text": []}, "wanted a string"),
        ({"text": "a\0b"}, "NUL"),
        ({"text": ["a", "b"]}, "one text for each query"),
        ({"text": "a", "fusion": "sum"}, "fusion is 'sum'"),
        ({"text": "a", "fusion": (1, -1)}, "wanted 'rrf'"),
        ({"text": "a", "fusion": (0, 0)}, "wanted 'rrf'"),
        ({"text": "a", "fusion": (1, 2, 3)}, "wanted 'rrf'"),
        ({"text": "a", "k": 0}, "k is 0"),
        ({"text": "a", "like": 1}, "like= and text="),
        ({"text": "a", "group_by": "year"}, "group_by= and text="),
        ({"text": "a", "max_distance": 1}, "max_distance= and text="),
        ({"text": "a", "engine": "native"}, "leave engine="),
        ({"text": "a", "where": {"nothing": 1}}, "no column 'nothing'"),
    ],
)
def test_searches_that_cannot_be_meant(filled, arguments, said):
    docs, _, _ = filled

    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.search([1, 1, 1], **arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"text": "content", "language": "klingon"}, 'language is "klingon"'),
        ({"text": "year", "columns": {"year": "integer"}}, 'has integer as column "year"'),
        ({"text": "x" * 58}, "PostgreSQL allows 63"),
    ],
)
def test_texts_that_cannot_be(db, arguments, said):
    with pytest.raises(mrl_db.ValueRangeError, match=said):
        db.create_collection("docs", dims=2, **arguments)

    assert db.list() == []


def test_a_collection_is_opened_if_its_text_fits(db):
    made = {"dims": 2, "text": "content", "if_exists": "open"}
    db.create_collection("docs", **made)

    db.create_collection("docs", **made)
    with pytest.raises(mrl_db.CollectionExistsError, match="its language is english, not simple"):
        db.create_collection("docs", **made, language="simple")


def test_tasks_and_connections_of_yours_search_alike(dsn, execute):
    async def main():
        async with await mrl_db.connect_async(dsn) as db:
            docs = await db.create_collection("docs", dims=2, text="content")
            await docs.add([1, 2], np.eye(2), content=["a cat", "a dog"])
            return (await docs.search([1, 0], text="dogs", k=2)).ids.tolist()

    assert asyncio.run(main()) == [2, 1]
    with mrl_db.connect(dsn) as db, psycopg.connect(dsn) as connection:
        docs = db.open("docs")
        docs.add([3], [[1, 1]], content=["three dogs"], connection=connection)
        assert docs.search(text="dog", k=9, connection=connection).ids.tolist() == [2, 3]
        assert docs.search(text="dog", k=9).ids.tolist() == [2]
