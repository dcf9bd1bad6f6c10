"""LlamaIndex: every operator of its filters against twins in Python, every mode, every method.

MRL_DB_FRAMEWORK_EXAMPLES sets how many filters are made.
"""

import base64
import os

import llama_filters
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import mrl_db
from mrl_db.integrations.llama_index import MrlVectorStore

EXAMPLES = int(os.environ.get("MRL_DB_FRAMEWORK_EXAMPLES", "300"))
DIMS = 8


@pytest.fixture(scope="module")
def nodes():
    rng = np.random.default_rng(7)
    return [
        TextNode(
            id_=f"{number:03}",
            text=f"node {number}",
            metadata=llama_filters.some_metadata(rng),
            embedding=rng.standard_normal(DIMS).tolist(),
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc {number % 10}")},
        )
        for number in range(150)
    ]


@pytest.fixture(scope="module")
def filled(shared_db, nodes):
    """A store that no test changes."""
    store = MrlVectorStore.from_params(shared_db, collection_name="kept", embed_dim=DIMS)
    store.add(nodes)
    return store


def ids(nodes):
    return sorted(node.node_id for node in nodes)


def test_every_filter_means_in_postgres_what_it_means_here(filled, nodes):
    @given(filters=llama_filters.made(MetadataFilter, MetadataFilters))
    @settings(max_examples=EXAMPLES)
    def check(filters):
        expected = [node.node_id for node in nodes if llama_filters.holds(filters, node.metadata)]
        assert ids(filled.get_nodes(filters=filters)) == expected

    check()


@pytest.mark.parametrize("operator", FilterOperator)
def test_what_it_means_here_is_what_it_means_to_the_framework(operator):
    """Where the framework has an answer; parts of strings are no members here."""
    members = operator.value in ("any", "all", "contains")
    compared = 0

    @given(
        cell=st.sampled_from([*llama_filters.SCALARS, *llama_filters.LISTS, None]),
        value=llama_filters.OPERAND[operator.value],
    )
    @settings(max_examples=200)
    def check(cell, value):
        nonlocal compared
        leaf = MetadataFilter(key="key", value=value, operator=operator)
        theirs = build_metadata_filter_fn(lambda _: {"key": cell}, MetadataFilters(filters=[leaf]))
        if members and not isinstance(cell, list):
            return
        try:
            expected = theirs("")
        except TypeError:
            return
        assert llama_filters.leaf_holds(operator.value, cell, value) == expected
        compared += 1

    check()

    assert compared > 20


def test_the_names_of_a_nodes_document_and_real_columns_are_filtered_by(empty_db):
    store = MrlVectorStore.from_params(
        empty_db, embed_dim=2, columns={"year": "integer"}, metric="l2"
    )
    store.add([node(f"{number}", f"doc {number % 2}", year=2020 + number) for number in range(4)])

    def selected(*filters):
        return ids(store.get_nodes(filters=MetadataFilters(filters=list(filters))))

    assert selected(MetadataFilter(key="doc_id", value="doc 1")) == ["1", "3"]
    assert selected(MetadataFilter(key="ref_doc_id", value=["doc 0"], operator="in")) == ["0", "2"]
    assert selected(MetadataFilter(key="year", value=2022, operator=">=")) == ["2", "3"]
    assert store.client.get("1").columns["meta"] == [{}]
    with pytest.raises(mrl_db.FilterError, match="needs jsonb or an array"):
        selected(MetadataFilter(key="year", value=2022, operator="contains"))


@pytest.mark.parametrize(
    ("operator", "value"), [("in", "a"), ("all", 1), ("text_match", 5), (">", None), (">", ["a"])]
)
def test_a_filter_that_cannot_be_meant_is_refused(filled, operator, value):
    filters = MetadataFilters(filters=[MetadataFilter(key="word", value=value, operator=operator)])

    with pytest.raises(mrl_db.FilterError):
        filled.get_nodes(filters=filters)


def node(name, document=None, embedding=(1.0, 0.0), **metadata):
    relationships = {}
    if document is not None:
        relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    return TextNode(
        id_=name,
        text=f"text of {name}",
        metadata=metadata,
        embedding=list(embedding),
        relationships=relationships,
    )


@pytest.fixture(params=["sql", "native"])
def store(empty_db, request):
    """An empty store, of rows in PostgreSQL or loaded."""
    store = MrlVectorStore.from_params(empty_db, embed_dim=2)
    if request.param == "native":
        store.client.load()
    yield store
    if request.param == "native":
        store.client.unload()


def test_every_kind_of_node_comes_back_as_it_was(store):
    nodes = [
        node("text", "document", year=2020, tags=["a"]),
        ImageNode(id_="image", image=base64.b64encode(b"image").decode(), text="seen"),
        IndexNode(id_="index", index_id="other", text="see other"),
        Document(id_="document", text="whole", metadata={"nothing": None}),
        Node(id_="node", text_resource=MediaResource(text="resource")),
        TextNode(
            id_="all",
            text="",
            excluded_llm_metadata_keys=["year"],
            text_template="{content}",
            start_char_idx=3,
            relationships={
                NodeRelationship.CHILD: [RelatedNodeInfo(node_id="a"), RelatedNodeInfo(node_id="b")]
            },
        ),
    ]
    for each in nodes:
        each.embedding = [1.0, 2.0]

    assert store.add(nodes) == [each.node_id for each in nodes]

    for each in nodes:
        each.embedding = None
    found = {each.node_id: each for each in store.get_nodes()}
    assert found == {each.node_id: each for each in nodes}
    assert all(type(found[each.node_id]) is type(each) for each in nodes)
    assert store.client.count({"text": "resource"}) == 1


def test_nodes_are_replaced_and_deleted(store):
    store.add([node(f"{number}", f"doc {number % 3}", year=number) for number in range(9)])
    store.add([node("0", "doc 9"), node("0", "doc 8")])
    odd = MetadataFilters(filters=[MetadataFilter(key="year", value=5, operator=">")])

    assert store.get_nodes(["0"])[0].ref_doc_id == "doc 8"
    store.delete("doc 1")
    assert ids(store.get_nodes()) == ["0", "2", "3", "5", "6", "8"]
    store.delete_nodes(["2", "none"])
    store.delete_nodes(["3", "6"], odd)
    assert ids(store.get_nodes()) == ["0", "3", "5", "8"]
    assert ids(store.get_nodes(["0", "5", "8"], odd)) == ["8"]
    store.delete_nodes()
    assert len(store.get_nodes()) == 4
    store.clear()
    assert store.get_nodes() == store.add([]) == []
    empty = store.query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=3))
    assert empty.ids == empty.nodes == empty.similarities == []


def test_queries_give_the_nearest_within_what_they_ask_for(store):
    angles = [0.1 * number for number in range(12)]
    store.add(
        [
            node(f"{number:02}", f"doc {number % 3}", (np.cos(angle), np.sin(angle)), n=number)
            for number, angle in enumerate(angles)
        ]
    )
    filters = MetadataFilters(filters=[MetadataFilter(key="n", value=4, operator=">=")])

    def asked(k=3, **further):
        return store.query(
            VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=k, **further)
        )

    assert asked().ids == ["00", "01", "02"]
    assert asked().similarities == pytest.approx(np.cos(angles[:3]), abs=1e-6)
    assert [each.node_id for each in asked().nodes] == asked().ids
    assert asked(filters=filters).ids == ["04", "05", "06"]
    assert asked(filters=filters, doc_ids=["doc 0"]).ids == ["06", "09"]
    assert asked(filters=filters, doc_ids=["doc 0"], node_ids=["09", "03"]).ids == ["09"]
    assert asked(node_ids=[], doc_ids=[]).ids == asked().ids
    assert store.query(VectorStoreQuery(query_embedding=[1.0, 0.0]), exact=True).ids == ["00"]
    for mode in VectorStoreQueryMode:
        if mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            with pytest.raises(mrl_db.ValueRangeError, match="default and mmr"):
                asked(mode=mode)
    with pytest.raises(mrl_db.ValueRangeError, match="no embedding"):
        store.query(VectorStoreQuery(query_str="text"))


def diverse(query, vectors, k, relevance):
    """Maximal marginal relevance, word for word; LlamaIndex's own looks at the last choice only."""

    def cosine(left, right):
        return float(np.dot(left, right) / np.linalg.norm(left) / np.linalg.norm(right))

    chosen = [max(range(len(vectors)), key=lambda one: cosine(query, vectors[one]))]
    while len(chosen) < min(k, len(vectors)):
        left = [one for one in range(len(vectors)) if one not in chosen]
        chosen.append(
            max(
                left,
                key=lambda one: (
                    relevance * cosine(query, vectors[one])
                    - (1 - relevance) * max(cosine(vectors[one], vectors[each]) for each in chosen)
                ),
            )
        )
    return chosen


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.8, 1.0])
def test_diverse_answers_are_near_the_query_and_unlike_each_other(filled, nodes, threshold):
    query = np.random.default_rng(3).standard_normal(DIMS).tolist()
    nearest = filled.query(VectorStoreQuery(query_embedding=query, similarity_top_k=20)).ids
    vectors = [nodes[int(name)].embedding for name in nearest]
    mmr = VectorStoreQuery(
        query_embedding=query,
        similarity_top_k=5,
        mode=VectorStoreQueryMode.MMR,
        mmr_threshold=threshold,
    )

    result = filled.query(mmr)

    relevance = 0.5 if threshold is None else threshold
    ranks = diverse(query, vectors, 5, relevance)
    assert result.ids == [nearest[rank] for rank in ranks]
    assert [each.node_id for each in result.nodes] == result.ids
    narrow = [nearest[rank] for rank in diverse(query, vectors[:7], 5, relevance)]
    assert filled.query(mmr, mmr_prefetch_k=7).ids == narrow
    assert sorted(filled.query(mmr, mmr_prefetch_factor=1).ids) == sorted(nearest[:5])
    assert filled.query(mmr, mmr_threshold=1.0).ids == nearest[:5]


class Letters(BaseEmbedding):
    """Counts the first letters of the alphabet."""

    def _get_query_embedding(self, query):
        return [1.0 + query.count(letter) for letter in "abcdefgh"]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    _get_text_embedding = _get_query_embedding


async def test_an_index_over_a_store_of_the_event_loop(empty_db):
    store = await MrlVectorStore.afrom_params(empty_db.dsn, embed_dim=8)
    index = VectorStoreIndex(
        [], storage_context=StorageContext.from_defaults(vector_store=store), embed_model=Letters()
    )
    texts = ["aaaa", "bbbb", "abab", "hhhh"]
    await index.ainsert_nodes([TextNode(text=text, id_=text) for text in texts])
    plain = MrlVectorStore(empty_db["llama_index"])

    for each in (store, plain):
        retriever = VectorStoreIndex.from_vector_store(each, embed_model=Letters()).as_retriever(
            similarity_top_k=2, vector_store_kwargs={"exact": True}
        )
        for found in (await retriever.aretrieve("aaa"), retriever.retrieve("aaa")):
            assert [(one.node_id, one.text) for one in found] == [
                ("aaaa", "aaaa"),
                ("abab", "abab"),
            ]
        assert ids(await each.aget_nodes(["hhhh", "none"])) == ["hhhh"]
    await store.adelete_nodes(["hhhh"])
    assert ids(plain.get_nodes()) == ["aaaa", "abab", "bbbb"]
    await plain.adelete("none")
    await plain.async_add([node("one", "gone", np.ones(8))])
    await store.adelete("gone")
    await plain.aclear()
    assert store.get_nodes() == []
    await store.aclose()
