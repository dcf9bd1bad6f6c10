"""LangChain's standard suite over each way to have a store, and what it does not ask for."""

import asyncio

import numpy as np
import pytest
import pytest_asyncio
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

import mrl_db
from mrl_db.integrations.langchain import MrlVectorStore

DIMS = 6
EMBEDDING = DeterministicFakeEmbedding(size=DIMS)
TEXTS = [f"text {number}" for number in range(8)]
METADATA = [
    {"year": 2018 + number, "tags": ["even", "odd"][number % 2 :], "by": {"name": f"{number}"}}
    for number in range(8)
]
IDS = [f"id{number}" for number in range(8)]


class TestInPostgres(VectorStoreIntegrationTests):
    """engine="sql"; the suite's coroutines go by threads."""

    @pytest.fixture
    def vectorstore(self, empty_db):
        return MrlVectorStore.create(self.get_embeddings(), empty_db, dims=DIMS)


@pytest.fixture(scope="module")
def loaded(shared_db):
    store = MrlVectorStore.create(EMBEDDING, shared_db, collection_name="kept", dims=DIMS)
    store.collection.load()
    yield store
    store.collection.unload()


class TestInThisProcess(VectorStoreIntegrationTests):
    """engine="native": the rows are loaded, once, and follow what each test writes."""

    @pytest.fixture
    def vectorstore(self, loaded):
        loaded.delete(filter={})
        return loaded


class TestInTasks(VectorStoreIntegrationTests):
    """A store of an event loop, whose coroutines wait themselves; the others go by threads."""

    @pytest_asyncio.fixture
    async def vectorstore(self, empty_db):
        store = await MrlVectorStore.acreate(self.get_embeddings(), empty_db.dsn)
        yield store
        await store.aclose()


class TestInTasksInThisProcess(VectorStoreIntegrationTests):
    @pytest_asyncio.fixture
    async def vectorstore(self, empty_db):
        async with await mrl_db.connect_async(empty_db.dsn) as db:
            store = await MrlVectorStore.acreate(self.get_embeddings(), db, dims=DIMS)
            await asyncio.to_thread(store.collection.load)
            yield store
            await asyncio.to_thread(store.collection.unload)


@pytest.fixture
def store(empty_db):
    """Eight texts; year in a column of its own, the rest in JSON."""
    columns = {"year": "integer"}
    return MrlVectorStore.from_texts(
        TEXTS, EMBEDDING, METADATA, ids=IDS, db=empty_db, columns=columns
    )


def ids(documents):
    return sorted(document.id for document in documents)


def test_texts_come_back_with_their_metadata(store):
    found = store.get_by_ids(["id3", "none", "id1"])

    assert found == [
        Document(id=IDS[number], page_content=TEXTS[number], metadata=METADATA[number])
        for number in (3, 1)
    ]
    assert store.collection.columns == {"content": "text", "year": "integer", "meta": "jsonb"}
    assert store.collection.get("id3").columns["meta"] == [{"tags": ["odd"], "by": {"name": "3"}}]


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({"year": 2020}, {2}),
        ({"year": {"$between": [2020, 2022]}}, {2, 3, 4}),
        ({"year": {"$between": [2020, 2025], "$ne": 2021}}, {2, 4, 5, 6, 7}),
        ({"year": {"$nin": [2018, 2019]}, "by.name": {"$lt": "4"}}, {2, 3}),
        ({"by.name": {"$in": ["1", "5"]}}, {1, 5}),
        ({"tags": {"$contains": "even"}}, {0, 2, 4, 6}),
        ({"$or": [{"year": {"$lt": 2019}}, {"by.name": {"$like": "7%"}}]}, {0, 7}),
        ({"$and": [{"year": {"$gt": 2019}}, {"$not": {"tags": {"$contains": "even"}}}]}, {3, 5, 7}),
        ({"$not": [{"year": 2018}, {"year": 2019}]}, {2, 3, 4, 5, 6, 7}),
        ({"missing": {"$exists": True}}, set()),
        ({"missing": None}, set(range(8))),
        ({}, set(range(8))),
    ],
)
def test_filters_select_by_metadata(store, where, numbers):
    expected = [IDS[number] for number in sorted(numbers)]

    assert ids(store.get(where)) == expected
    assert ids(store.similarity_search("text", k=8, filter=where)) == expected


@pytest.mark.parametrize(
    "where",
    [
        {"year": {"$between": [2020]}},
        {"year": {"$between": [1, 2], "$gte": 1}},
        {"$or": {"year": 1}},
        {"$nor": []},
        {"year": "2020"},
        {"": 1},
        bool,
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(store, where):
    with pytest.raises(mrl_db.FilterError):
        store.similarity_search("text", filter=where)


def test_searches_give_the_nearest_with_their_distances(store):
    vector = np.array(EMBEDDING.embed_query("text 5"))

    scored = store.similarity_search_with_score("text 5", k=3)
    relevant = store.similarity_search_with_relevance_scores("text 5", k=3)

    cosines = [
        float(vector @ each / np.linalg.norm(vector) / np.linalg.norm(each))
        for each in np.array(EMBEDDING.embed_documents(TEXTS))
    ]
    nearest = np.argsort(cosines)[::-1][:3]
    assert [document.id for document, _ in scored] == [IDS[number] for number in nearest]
    assert [score for _, score in scored] == pytest.approx(
        [1 - cosines[n] for n in nearest], abs=1e-6
    )
    assert [score for _, score in relevant] == pytest.approx(
        [cosines[n] for n in nearest], abs=1e-6
    )
    assert store.similarity_search("text 5", k=1, exact=True)[0].page_content == "text 5"
    assert [document.id for document, _ in scored[:1]] == ids(
        store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99}
        ).invoke("text 5")
    )


@pytest.mark.parametrize("relevance", [0.0, 0.3, 0.5, 1.0])
def test_diverse_answers_are_those_of_the_framework(store, relevance):
    query = EMBEDDING.embed_query("some text")
    nearest = [document.id for document in store.similarity_search_by_vector(query, k=7)]
    vectors = [EMBEDDING.embed_query(TEXTS[IDS.index(name)]) for name in nearest]

    documents = store.max_marginal_relevance_search(
        "some text", k=4, fetch_k=7, lambda_mult=relevance
    )

    chosen = maximal_marginal_relevance(np.array(query), vectors, relevance, 4)
    assert [document.id for document in documents] == [nearest[rank] for rank in chosen]
    retriever = store.as_retriever(
        search_type="mmr", search_kwargs={"k": 4, "fetch_k": 7, "lambda_mult": relevance}
    )
    assert retriever.invoke("some text") == documents


def test_deletes_by_id_and_by_filter(store):
    assert store.delete() is False
    assert store.delete(["id0", "none"])
    assert store.delete(filter={"year": {"$lt": 2020}})
    assert ids(store.get()) == IDS[2:]
    assert [document.id for document in store.get(limit=2)] == ["id2", "id3"]
    assert store.delete(filter={})
    assert store.get() == []


def test_the_last_of_two_documents_with_one_id_counts(store):
    added = store.add_documents(
        [Document("one", id="x"), Document("two"), Document("three", id="x")]
    )

    assert added[0] == added[2] == "x"
    assert [document.page_content for document in store.get_by_ids(added[:2])] == ["three", "two"]
    assert store.add_documents([]) == []
    with pytest.raises(mrl_db.ShapeError, match="2 documents came with 1 ids"):
        store.add_documents([Document("one"), Document("two")], ids=["x"])


def test_a_table_that_is_there_is_a_store(empty_db):
    docs = empty_db.create_collection(
        "articles", dims=DIMS, columns={"title": "text", "year": "integer"}
    )
    docs.add([7], [EMBEDDING.embed_query("one")], title=["one"], year=[2020])

    store = MrlVectorStore(EMBEDDING, docs, content_column="title", metadata_json_column=None)
    store.add_documents([Document("two", id="8", metadata={"year": 2021})])

    assert store.similarity_search("two", k=1) == [Document("two", id="8", metadata={"year": 2021})]
    assert ids(store.get({"year": 2020})) == ["7"]
    with pytest.raises(mrl_db.FilterError, match="no metadata 'pages'"):
        store.get({"pages": 1})
    with pytest.raises(mrl_db.ValueRangeError, match="'pages' has no column"):
        store.add_documents([Document("three", id="9", metadata={"pages": 3})])
    with pytest.raises(mrl_db.ValueRangeError, match="is no bigint"):
        store.add_documents([Document("three")])
    with pytest.raises(mrl_db.ValueRangeError, match="no column 'content'"):
        MrlVectorStore(EMBEDDING, docs)


async def test_everything_is_awaited_too(empty_db):
    made = await MrlVectorStore.afrom_texts(TEXTS, EMBEDDING, METADATA, ids=IDS, db=empty_db.dsn)
    plain = MrlVectorStore(EMBEDDING, empty_db["langchain"])
    where = {"year": {"$gte": 2020}}

    for store in (made, plain):
        assert await store.asimilarity_search("a", filter=where) == plain.similarity_search(
            "a", filter=where
        )
        assert await store.asimilarity_search_with_score("a") == plain.similarity_search_with_score(
            "a"
        )
        assert await store.amax_marginal_relevance_search(
            "a"
        ) == plain.max_marginal_relevance_search("a")
        assert await store.aget(where, limit=2) == plain.get(where, limit=2)
        assert await store.as_retriever(search_kwargs={"k": 2}).ainvoke(
            "a"
        ) == plain.similarity_search("a", 2)
        assert await asyncio.gather(*(store.asimilarity_search(text, k=1) for text in TEXTS)) == [
            plain.similarity_search(text, k=1) for text in TEXTS
        ]
    assert await made.adelete(filter={"year": 2018})
    assert plain.get({"year": 2018}) == []
    await made.aclose()
    plain.close()
    assert len(plain.get()) == 7
