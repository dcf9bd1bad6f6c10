"""Haystack's suites over each way to have a store, and what they do not ask for."""

import asyncio

import numpy as np
import pytest
import pytest_asyncio
from haystack import Pipeline
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as suite
from haystack.testing import document_store_async as suite_async
from haystack.utils import Secret
from haystack.utils.filters import document_matches_filter

from mrl_db.integrations.haystack import MrlDocumentStore, MrlEmbeddingRetriever


def by_id(documents):
    return sorted(documents, key=lambda document: document.id)


def assert_same_documents(received, expected):
    """In any order; embeddings are float32, as PostgreSQL has them."""
    for one, other in zip(by_id(received), by_id(expected), strict=True):
        assert (one.embedding is None) == (other.embedding is None)
        if one.embedding is not None:
            np.testing.assert_array_equal(one.embedding, np.float32(other.embedding))
        left, right = (each.to_dict(flatten=False) for each in (one, other))
        left["embedding"] = right["embedding"] = None
        assert left == right


class InPostgres:
    """engine="sql"."""

    # There is no way to drop and make the collection anew, which these are about.
    test_delete_all_documents_without_recreate_index = None
    test_delete_all_documents_with_recreate_index = None
    test_delete_all_documents_without_recreate_index_async = None
    test_delete_all_documents_with_recreate_index_async = None

    @staticmethod
    def assert_documents_are_equal(received, expected):
        assert_same_documents(received, expected)

    @pytest.fixture
    def document_store(self, empty_db):
        store = MrlDocumentStore(connection_string=Secret.from_token(empty_db.dsn))
        yield store
        store.close()

    def test_write_documents(self, document_store):
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


class TestInPostgres(
    InPostgres, suite.DocumentStoreBaseExtendedTests, suite.CountDocumentsByFilterTest
):
    pass


@pytest.fixture(scope="module")
def loaded(shared_dsn):
    store = MrlDocumentStore(
        connection_string=Secret.from_token(shared_dsn), collection_name="kept"
    )
    store.collection.load()
    yield store
    store.collection.unload()
    store.close()


class TestInThisProcess(InPostgres, suite.DocumentStoreBaseExtendedTests):
    """The rows are loaded, once, and follow what each test writes."""

    @pytest.fixture
    def document_store(self, loaded):
        loaded.delete_all_documents()
        return loaded


class TestInTasks(
    InPostgres,
    suite_async.CountDocumentsAsyncTest,
    suite_async.CountDocumentsByFilterAsyncTest,
    suite_async.WriteDocumentsAsyncTest,
    suite_async.DeleteDocumentsAsyncTest,
    suite_async.DeleteAllAsyncTest,
    suite_async.DeleteByFilterAsyncTest,
    suite_async.UpdateByFilterAsyncTest,
    suite_async.FilterDocumentsAsyncTest,
):
    """The suites' coroutines, for which tasks wait; `close` is for the other method."""

    @pytest_asyncio.fixture
    async def document_store(self, empty_db):
        store = MrlDocumentStore(connection_string=Secret.from_token(empty_db.dsn))
        yield store
        await store.close_async()
        store.close()

    @pytest.fixture
    def filterable_docs(self):
        return suite.create_filterable_docs()

    async def test_write_documents_async(self, document_store):
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
        self.assert_documents_are_equal(await document_store.filter_documents_async(), [document])


@pytest.fixture
def store(empty_db):
    """Documents of two dims, year in a column of its own."""
    store = MrlDocumentStore(
        connection_string=Secret.from_token(empty_db.dsn),
        embedding_dimension=2,
        columns={"year": "integer"},
        definition={"nesting_dims": (1, 2)},
    )
    yield store
    store.close()


def some_documents():
    turns = [0.1 * number for number in range(6)]
    return [
        Document(
            id=f"{number}",
            content=f"text {number}",
            embedding=[float(np.cos(turn)), float(np.sin(turn))],
            meta={"year": 2020 + number, "by": {"name": "ab"[number % 2]}, "id": f"x{number}"},
        )
        for number, turn in enumerate(turns)
    ]


def test_documents_come_back_as_they_were(store):
    documents = [
        Document(id="blob", blob=ByteStream(b"\0\xff", {"from": "file"}, "image/png")),
        Document(id="sparse", content="a", sparse_embedding=SparseEmbedding([1, 7], [0.5, 2.0])),
        Document(id="none", content=None, meta={"year": 2020, "list": [1, {"a": None}]}),
        Document(id="vector", content="", embedding=[1.0, 0.5]),
    ]

    assert store.write_documents(documents) == 4

    assert_same_documents(store.filter_documents(), documents)
    assert store.write_documents([]) == 0
    assert [each.id for each in store.embedding_retrieval([1.0, 0.5])] == ["vector"]


def test_of_two_documents_with_one_id_one_is_written(store):
    first, second = Document(id="1", content="first"), Document(id="1", content="second")

    with pytest.raises(DuplicateDocumentError):
        store.write_documents([first, second])
    assert store.count_documents() == 0
    assert store.write_documents([first, second], DuplicatePolicy.SKIP) == 1
    assert store.filter_documents() == [first]
    assert store.write_documents([first, second], DuplicatePolicy.OVERWRITE) == 2
    assert store.filter_documents() == [second]
    store.write_documents([Document(id="1", embedding=[1.0, 0.0])], DuplicatePolicy.OVERWRITE)
    store.write_documents([Document(id="1")], DuplicatePolicy.OVERWRITE)
    assert store.filter_documents() == [Document(id="1")]


def condition(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize(
    "filters",
    [
        condition("id", "in", ["1", "3"]),
        condition("meta.id", "==", "x2"),
        condition("content", "!=", "text 4"),
        condition("year", ">", 2022),
        condition("meta.year", "<=", 2022),
        condition("meta.by.name", "==", "a"),
        condition("meta.by.none.none", "==", None),
        condition("meta.by", "==", {"name": "b"}),
        condition("meta.by.name", "not in", ["a", None]),
        condition("meta.none", "in", [None]),
        {"operator": "NOT", "conditions": [condition("id", "==", "1"), condition("id", "!=", "2")]},
        {
            "operator": "OR",
            "conditions": [
                condition("year", ">=", 2024),
                {"operator": "AND", "conditions": [condition("id", "==", "0")]},
            ],
        },
    ],
)
def test_filters_select_what_the_framework_says(store, filters):
    documents = some_documents()
    store.write_documents(documents)

    expected = [each.id for each in documents if document_matches_filter(filters, each)]

    assert [each.id for each in store.filter_documents(filters)] == expected
    assert store.count_documents_by_filter(filters) == len(expected)
    nearest = store.embedding_retrieval([1.0, 0.0], filters=filters)
    assert [each.id for each in nearest] == expected  # each further away


@pytest.mark.parametrize(
    "filters",
    [
        condition("embedding", "==", None),
        condition("year", "==", "2020"),
        condition("id", "~", "1"),
        condition(5, "==", 1),
        {"operator": "XOR", "conditions": []},
        {"operator": "AND", "conditions": {}},
        {"operator": "AND", "conditions": [1]},
        "year",
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(store, filters):
    for method in (store.filter_documents, store.delete_by_filter):
        with pytest.raises(FilterError):
            method(filters)


def test_the_nearest_come_with_their_similarity(store):
    documents = some_documents()
    store.write_documents([*documents, Document(id="without")])

    found = store.embedding_retrieval([1.0, 0.0], top_k=3, return_embedding=True)

    assert [each.id for each in found] == ["0", "1", "2"]
    assert [each.score for each in found] == pytest.approx(
        [document.embedding[0] for document in documents[:3]], abs=1e-6
    )
    np.testing.assert_allclose(found[1].embedding, documents[1].embedding, rtol=1e-6)
    assert store.embedding_retrieval([1.0, 0.0], top_k=1)[0].embedding is None
    assert store.embedding_retrieval([1.0, 0.0], top_k=0) == []
    assert store.collection.nesting_dims == (1, 2)


def test_an_update_adds_to_metadata(store):
    store.write_documents([*some_documents(), Document(id="without")])

    assert store.update_by_filter(condition("year", ">=", 2024), {"year": 1, "seen": True}) == 2
    assert store.update_by_filter(condition("id", "==", "without"), {"seen": None}) == 1

    updated = store.filter_documents(condition("meta.seen", "==", True))
    assert [each.meta for each in updated] == [
        {"year": 1, "seen": True, "by": {"name": "ab"[number % 2]}, "id": f"x{number}"}
        for number in (4, 5)
    ]
    assert store.filter_documents(condition("id", "==", "without"))[0].meta == {"seen": None}


def pipeline(store):
    made = Pipeline()
    retriever = MrlEmbeddingRetriever(
        document_store=store,
        top_k=2,
        filters=condition("year", ">", 2020),
        filter_policy="merge",
    )
    made.add_component("retriever", retriever)
    return made


def test_a_pipeline_is_written_down_without_the_secret(empty_db, monkeypatch):
    monkeypatch.setenv("WHERE_THE_DOCUMENTS_ARE", empty_db.dsn)
    store = MrlDocumentStore(
        connection_string=Secret.from_env_var("WHERE_THE_DOCUMENTS_ARE"),
        embedding_dimension=2,
        columns={"year": "integer"},
        metric="l2",
    )
    store.write_documents(some_documents())
    text = pipeline(store).dumps()

    again = Pipeline.loads(text, allowed_modules=["mrl_db.integrations"])

    assert empty_db.dsn not in text
    query = {"query_embedding": [1.0, 0.0], "filters": condition("meta.by.name", "==", "b")}
    found = again.run({"retriever": query})["retriever"]["documents"]
    assert [each.id for each in found] == ["1", "3"]
    loaded = again.get_component("retriever")
    assert loaded.to_dict() == pipeline(store).get_component("retriever").to_dict()
    assert loaded.run([1.0, 0.0], top_k=1)["documents"][0].score == pytest.approx(
        1 / (1 + np.hypot(1 - np.cos(0.1), np.sin(0.1)))
    )
    for each in (store, loaded.document_store):
        each.close()
    with pytest.raises(TypeError, match="wanted an MrlDocumentStore"):
        MrlEmbeddingRetriever(document_store="store")


def test_each_event_loop_has_connections_of_its_own(store):
    store.write_documents(some_documents())
    retriever = MrlEmbeddingRetriever(document_store=store)

    async def search():
        runs = [retriever.run_async([1.0, 0.0], top_k=2) for _ in range(20)]
        answers = await asyncio.gather(*runs)
        await store.close_async()
        await store.close_async()
        return answers

    for _ in range(2):
        answers = asyncio.run(search())
        assert [[each.id for each in answer["documents"]] for answer in answers] == [
            ["0", "1"]
        ] * 20


def test_what_cannot_be_opened_is_tried_again(store, empty_db):
    empty_db.create_collection("haystack", dims=3)

    async def count():
        with pytest.raises(Exception, match="exists already"):
            await store.count_documents_async()
        await asyncio.to_thread(empty_db.drop, "haystack")
        counted = await store.count_documents_async()
        await store.close_async()
        return counted

    with pytest.raises(Exception, match="exists already"):
        store.count_documents()
    assert asyncio.run(count()) == 0
    assert store.count_documents() == 0
