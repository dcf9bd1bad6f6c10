"""Collections of a model by its name, and texts in place of vectors."""

import asyncio
import re
import threading

import numpy as np
import pytest

import mrl_db
from mrl_db.learn.layer_norm import LayerNorm
from mrl_db.model import nesting

NOMIC = "nomic-embed-text-v1.5"


@pytest.mark.parametrize("model", list(nesting.RULES))
def test_every_model_of_the_registry_makes_a_collection(db, model):
    rule = nesting.RULES[model]

    docs = db.create_collection("docs", model=model)

    assert (docs.dims, docs.nesting_dims) == (rule.dims, rule.listed)
    assert rule.allows(docs.low_dims)
    assert (docs.adaptor is not None) == rule.layer_norm


def test_vectors_are_normalised_before_they_are_cut_if_the_model_has_it_so(db, execute):
    docs = db.create_collection("docs", model=NOMIC, shortlist_dims=64)
    vectors = (np.random.default_rng(0).standard_normal((20, 768)) + 0.4).astype(np.float32)
    docs.add(range(20), vectors)

    low = execute("SELECT embedding_64::real[] FROM docs ORDER BY id")

    want = nesting.truncate(vectors, 64, model=NOMIC)
    np.testing.assert_allclose(np.array([row[0] for row in low]), want, atol=1e-3)
    exact = 1 - nesting.truncate(vectors, 768, model=NOMIC) @ nesting.truncate(
        vectors[3], 768, model=NOMIC
    )
    for engine in ({"engine": "sql"}, {"exact": True}):
        hits = docs.search(vectors[3], k=20, **engine)
        np.testing.assert_allclose(hits.distances, np.sort(exact), atol=1e-5)
    assert db.open("docs").search(vectors[5], k=1).ids.tolist() == [5]


def test_a_layer_norm_is_kept_and_is_that_of_pytorch():
    made = LayerNorm(4)
    vectors = np.array([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])

    again = LayerNorm.from_bytes(made.to_bytes())

    spread = np.sqrt(3.5 + 1e-5)  # mean 3, variance (4 + 1 + 0 + 9) / 4
    np.testing.assert_allclose(
        again.apply(vectors), [np.array([-2, -1, 0, 3]) / spread, [0] * 4], atol=1e-6
    )
    with pytest.raises(mrl_db.ShapeError):
        again.apply(np.ones(5))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "unheard-of"}, "no rule for model"),
        ({"model": NOMIC, "dims": 256}, "dims is 256, nomic-embed-text-v1.5 makes 768"),
        ({"model": NOMIC, "nesting_dims": (100, 768)}, "not made to be cut to 100 dims"),
        ({"model": NOMIC, "shortlist_dims": 100}, "not made to be cut to 100 dims"),
        ({"model": NOMIC, "adaptor": LayerNorm(768)}, "layer-normalised"),
        ({}, "takes dims= or model="),
        ({"dims": 3, "embed": "model"}, "wanted a function"),
        ({"dims": 3, "embed_query": len}, "without embed="),
    ],
)
def test_definitions_that_cannot_be(db, arguments, said):
    with pytest.raises(mrl_db.ValueRangeError, match=said):
        db.create_collection("docs", **arguments)

    assert db.list() == []


def test_vectors_that_were_cut_before_are_refused(db):
    docs = db.create_collection("docs", model="text-embedding-3-small")

    with pytest.raises(mrl_db.ShapeError, match="512 dims.*has 1536"):
        docs.add([1], np.ones((1, 512), np.float32))


def letters(texts):
    """How often each letter stands in a text."""
    return [[text.count(chr(97 + letter)) + 0.1 for letter in range(26)] for text in texts]


def questions(texts):
    return letters([re.sub(r"^query: ", "", text) for text in texts])


@pytest.fixture
def docs(db):
    docs = db.create_collection(
        "docs",
        dims=26,
        text="content",
        columns={"year": "integer"},
        embed=letters,
        embed_query=questions,
    )
    assert docs.add_texts([1, 2, 3], ["zzz", "aaa abc", "mnop"], year=[1, 2, 3]) == 3
    return docs


def test_texts_are_embedded_stored_and_searched_for(docs):
    assert docs.get([1, 2, 3]).columns["content"] == ["zzz", "aaa abc", "mnop"]
    np.testing.assert_allclose(docs.get(1).vectors, letters(["zzz"]), rtol=1e-6)
    assert docs.search_text("query: aa", k=1).ids.tolist() == [2]
    assert docs.search_text(["zz", "query: op"], k=1).ids.tolist() == [[1], [3]]
    assert docs.search_text("zz", k=3, where={"year": {"$gt": 1}}).ids.shape == (2,)
    assert docs.search_text("abc", words=True, k=1).scores is not None

    assert docs.add_texts([3, 4], ["zzzz", "b"], upsert=True) == 2
    assert docs.get(3).columns == {"year": [3], "content": ["zzzz"]}
    assert docs.add_texts([], []) == 0
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.add_texts([4], ["b"])


def test_an_open_collection_gets_the_functions_anew(db, docs):
    with pytest.raises(mrl_db.ValueRangeError, match="opened without embed="):
        db.open("docs").search_text("a")

    assert db.open("docs", embed=letters).search_text("aa", k=1).ids.tolist() == [2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda docs: docs.add_texts([9], "text"), "wanted a list of strings"),
        (lambda docs: docs.add_texts([9], [7]), "wanted a list of strings"),
        (lambda docs: docs.add_texts([8, 9], ["one"]), "2 ids for 1 vectors"),
        (lambda docs: docs.search_text([]), "wanted a string"),
    ],
)
def test_texts_that_are_none(docs, call, said):
    with pytest.raises(mrl_db.MrlDbError, match=said):
        call(docs)

    assert docs.count() == 3


def test_a_function_that_makes_too_few_vectors(db):
    docs = db.create_collection("docs", dims=26, embed=lambda texts: letters(texts[1:]))

    with pytest.raises(mrl_db.ShapeError, match="made 1 vectors of 2 texts"):
        docs.add_texts([1, 2], ["a", "b"])


def test_tasks_embed_beside_the_event_loop(dsn):
    threads = []

    def embed(texts):
        threads.append(threading.get_ident())
        return letters(texts)

    async def main():
        async with await mrl_db.connect_async(dsn) as db:
            docs = await db.create_collection("docs", dims=26, embed=embed)
            await docs.add_texts([1, 2], ["aaa", "zzz"])
            return (await docs.search_text("zz", k=1)).ids.tolist()

    assert asyncio.run(main()) == [2]
    assert threading.get_ident() not in threads
