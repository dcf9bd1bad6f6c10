"""What the stores of LangChain, LlamaIndex and Haystack cost beside `Collection.search`.

python benchmarks/bench_frameworks.py --name frameworks

Each store has the same rows, loaded. One query after the other goes to the store and to its
collection, for the same columns, in turns; answers are checked first. Both get the query as the
list of numbers that frameworks hand on, and both ask PostgreSQL for the columns: single differences
are noisy, the difference of the medians counts. Then the store's own part, by itself: its call
where `Collection.search` returns what it returned before. At each framework's own k, and at 10.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import machine
import numpy as np
from haystack import Document as HaystackDocument
from haystack.utils import Secret
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

import mrl_db
from mrl_db.integrations import haystack, langchain, llama_index

ROWS, DIMS, ROUNDS = 2_000, 384, 1_500
WIDTHS = {"langchain": (4, 10), "llama_index": (2, 10), "haystack": (10,)}

Search = Callable[[list[float], int], list[str]]


def metadata(number: int) -> dict[str, Any]:
    return {"year": 1990 + number % 40, "title": f"title {number}", "tags": ["a", "b"]}


def stores(db: mrl_db.Database, vectors: np.ndarray) -> dict[str, tuple[Any, Search]]:
    """Each framework's store, filled, with its search as ids."""
    texts = [f"text {number} " * 20 for number in range(len(vectors))]
    ids = [f"{number:05}" for number in range(len(vectors))]
    listed = vectors.tolist()

    class Given(DeterministicFakeEmbedding):
        def embed_documents(self, _: list[str]) -> list[list[float]]:
            return listed

    chain = langchain.MrlVectorStore.create(Given(size=DIMS), db, dims=DIMS)
    chain.add_texts(texts, [metadata(number) for number in range(len(ids))], ids=ids)
    nodes = llama_index.MrlVectorStore.from_params(db, embed_dim=DIMS)
    source = RelatedNodeInfo(node_id="document")
    nodes.add(
        [
            TextNode(
                id_=name,
                text=text,
                metadata=metadata(number),
                embedding=listed[number],
                relationships={NodeRelationship.SOURCE: source},
            )
            for number, (name, text) in enumerate(zip(ids, texts, strict=True))
        ]
    )
    documents = haystack.MrlDocumentStore(
        connection_string=Secret.from_token(db.dsn), embedding_dimension=DIMS
    )
    documents.write_documents(
        [
            HaystackDocument(id=name, content=text, meta=metadata(number), embedding=listed[number])
            for number, (name, text) in enumerate(zip(ids, texts, strict=True))
        ]
    )
    return {
        "langchain": (
            chain.collection,
            lambda query, k: [each.id for each in chain.similarity_search_by_vector(query, k)],
        ),
        "llama_index": (
            nodes.client,
            lambda query, k: nodes.query(VectorStoreQuery(query, similarity_top_k=k)).ids or [],
        ),
        "haystack": (
            documents.collection,
            lambda query, k: [each.id for each in documents.embedding_retrieval(query, top_k=k)],
        ),
    }


def in_turns(
    docs: mrl_db.Collection, search: Search, queries: np.ndarray, k: int, rounds: int
) -> dict[str, object]:
    """Microseconds of both, in turns: medians, and the quartiles of the differences of pairs."""
    columns = tuple(docs.columns)
    for query in queries[:50]:
        assert search(query.tolist(), k) == docs.search(query, k=k, columns=columns).ids.tolist()
    took: dict[str, list[float]] = {"collection": [], "store": []}
    for number in range(rounds):
        query = queries[number % len(queries)]
        listed = query.tolist()
        ways: list[tuple[str, Callable[[], object]]] = [
            ("collection", lambda: docs.search(listed, k=k, columns=columns)),
            ("store", lambda: search(listed, k)),
        ]
        for name, way in ways if number % 2 else ways[::-1]:
            took[name].append(_microseconds(way))
    hits = docs.search(queries[0], k=k, columns=columns)
    with mock.patch.object(mrl_db.Collection, "search", return_value=hits):
        own = [_microseconds(lambda: search(listed, k)) for _ in range(rounds)]
        conversion = [_microseconds(lambda: np.asarray(listed, np.float32)) for _ in range(rounds)]
    more = np.subtract(took["store"], took["collection"])
    medians = {name: statistics.median(each) for name, each in took.items()}
    return {
        **{name: round(each, 1) for name, each in medians.items()},
        "more": round(medians["store"] - medians["collection"], 1),
        "by itself": round(statistics.median(own) - statistics.median(conversion), 1),
        "more, of pairs: quartiles": [
            round(float(q), 1) for q in np.quantile(more, (0.25, 0.5, 0.75))
        ],
    }


def _microseconds(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return (time.perf_counter() - began) * 1e6


def main() -> None:
    parser = machine.arguments(__doc__)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((ROWS, DIMS), dtype=np.float32)
    queries = rng.standard_normal((200, DIMS), dtype=np.float32)
    record = machine.resume(options.name, "langchain-core", "llama-index-core", "haystack-ai")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MRL_DB_CACHE"] = str(Path(folder) / "cache")
        with mrl_db.connect(home=Path(folder) / "home") as db:
            for name, (docs, search) in stores(db, vectors).items():
                docs.load(max_staleness=3600)
                part = {
                    f"k = {k}": in_turns(docs, search, queries, k, 200 if options.quick else ROUNDS)
                    for k in WIDTHS[name]
                }
                machine.keep(options.name, record, name, part)
                docs.unload()


if __name__ == "__main__":
    main()
