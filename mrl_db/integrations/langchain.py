"""LangChain: a vector store whose documents are rows of a collection.

`pip install 'mrl_db[langchain]'`; docs/frameworks.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from mrl_db.collection import Collection
from mrl_db.database import Database
from mrl_db.hits import Hits
from mrl_db.integrations import rows
from mrl_db.integrations.filters import from_langchain
from mrl_db.integrations.layout import layout_of
from mrl_db.integrations.rows import Rows
from mrl_db.model.errors import ShapeError
from mrl_db.model.metric import Metric

if TYPE_CHECKING:
    from mrl_db.async_ import AsyncCollection, AsyncDatabase

Vector = Sequence[float]
Where = Mapping[str, Any] | None


class MrlVectorStore(VectorStore):
    """Documents in a collection: text in one column, metadata in columns of their own or in JSON.

    Every method has its twin for asyncio (`asimilarity_search`, …). With an `AsyncCollection`, or
    made by `acreate` or `afrom_texts`, tasks wait for PostgreSQL themselves; else a thread does.

    Searches take `filter=`, a dict over metadata such as `{"year": {"$gte": 2020}}`, and whatever
    `Collection.search` takes besides: `engine=`, `exact=`, `max_distance=` and others.
    """

    def __init__(
        self,
        embedding: Embeddings,
        collection: Collection | AsyncCollection | Rows,
        *,
        content_column: str = "content",
        metadata_columns: Sequence[str] | None = None,
        metadata_json_column: str | None = "meta",
    ) -> None:
        """Takes a collection that is there, such as one of a table that was attached.

        Args:
            embedding: Makes vectors of texts.
            collection: Where the documents are. Their ids are its keys, as text.
            content_column: Of the text.
            metadata_columns: Metadata that have columns of their own; None: all further columns.
            metadata_json_column: Of type jsonb, for all other metadata; None: there is none.

        Raises:
            ValueRangeError: The collection has no such column.
        """
        self._embedding = embedding
        self._rows = collection if isinstance(collection, Rows) else Rows(collection)
        self._layout = layout_of(
            self._rows.collection, content_column, metadata_columns, metadata_json_column
        )
        self._names = self._layout.names()

    @classmethod
    def create(
        cls,
        embedding: Embeddings,
        db: Database | str | None = None,
        *,
        collection_name: str = "langchain",
        dims: int | None = None,
        columns: Mapping[str, str] | None = None,
        **definition: Any,
    ) -> MrlVectorStore:
        """Returns a store over a collection, which is created where there is none of this name.

        Args:
            embedding: Makes vectors of texts.
            db: A database; or a connection string, or None for the embedded server, to which the
                store then has connections of its own (`close`).
            collection_name: Of the collection and its table.
            dims: Of the embeddings; None: as long as the embedding of a short text is.
            columns: Metadata that get columns of their own, name to SQL type.
            **definition: Of `Database.create_collection`: `metric`, `nesting_dims` and others.
        """
        width = len(embedding.embed_query("dims")) if dims is None else dims
        source = rows.opened(db, collection_name, _definition(width, columns, definition))
        return cls(embedding, source)

    @classmethod
    async def acreate(
        cls,
        embedding: Embeddings,
        db: AsyncDatabase | str | None = None,
        *,
        collection_name: str = "langchain",
        dims: int | None = None,
        columns: Mapping[str, str] | None = None,
        **definition: Any,
    ) -> MrlVectorStore:
        """Returns the same, for tasks of the running event loop; see `create`."""
        width = len(await embedding.aembed_query("dims")) if dims is None else dims
        given = _definition(width, columns, definition)
        source = await rows.opened_in_task(db, collection_name, given)
        return cls(embedding, source)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> MrlVectorStore:
        """Returns a store with these texts in it; `options` are those of `create`."""
        store = cls.create(embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> MrlVectorStore:
        """Returns the same, for tasks of the running event loop; `options` are `acreate`'s."""
        store = await cls.acreate(embedding, **options)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings:
        """What makes vectors of texts."""
        return self._embedding

    @property
    def collection(self) -> Collection:
        """The documents' collection, for all else: `load()`, `tune()`, `create_index()`."""
        return self._rows.collection

    def close(self) -> None:
        """Closes the connections of a store that was made of a connection string."""
        self._rows.close()

    async def aclose(self) -> None:
        """Closes them in the event loop that opened them."""
        await self._rows.aclose()

    # Writing

    def add_documents(
        self, documents: list[Document], ids: list[str] | None = None, **_: Any
    ) -> list[str]:
        """Adds documents, or replaces those whose id is there; all or none.

        Args:
            documents: With ids or without; the later of two with one id counts.
            ids: In place of theirs. One that is None is made here, where keys are text or uuid.
            **_: As the base class has it; nothing is made of it.

        Returns:
            The ids.
        """
        vectors = self._embedding.embed_documents([each.page_content for each in documents])
        return self._upsert(documents, ids, vectors)

    async def aadd_documents(
        self, documents: list[Document], ids: list[str] | None = None, **_: Any
    ) -> list[str]:
        """Adds documents as `add_documents`."""
        texts = [each.page_content for each in documents]
        vectors = await self._embedding.aembed_documents(texts)
        return await self._rows.run(self._upsert, documents, ids, vectors)

    def _upsert(
        self, documents: Sequence[Document], ids: Sequence[str | None] | None, vectors: list[Any]
    ) -> list[str]:
        given = [each.id for each in documents] if ids is None else list(ids)
        if len(given) != len(documents):
            raise ShapeError(f"{len(documents)} documents came with {len(given)} ids")
        names = [str(uuid.uuid4()) if each is None else each for each in given]
        if not documents:
            return names
        last = list({name: position for position, name in enumerate(names)}.values())
        kept = [documents[position] for position in last]
        self.collection.upsert(
            [self.collection.parse_key(names[position]) for position in last],
            np.array([vectors[position] for position in last], np.float32),
            **self._layout.split(
                [each.page_content for each in kept], [each.metadata for each in kept]
            ),
        )
        return names

    def delete(
        self, ids: list[str] | None = None, *, filter: Where = None, **_: Any
    ) -> bool | None:
        """Deletes documents by id, or those that a filter selects.

        Args:
            ids: Those that are not there are passed by.
            filter: Over metadata; {} selects all.
            **_: As the base class has it; nothing is made of it.

        Returns:
            True; False where neither was given.
        """
        if ids is None and filter is None:
            return False
        if ids is not None:
            self.collection.delete([self.collection.parse_key(each) for each in ids])
        if filter is not None:
            self.collection.delete(where=from_langchain(filter, self._names))
        return True

    async def adelete(
        self, ids: list[str] | None = None, *, filter: Where = None, **_: Any
    ) -> bool | None:
        """Deletes documents as `delete`."""
        return await self._rows.run(self.delete, ids, filter=filter)

    # Reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents with these ids, in that order, without those that are not there."""
        keys = [self.collection.parse_key(each) for each in ids]
        records = self.collection.get(keys, columns=self._layout.columns)
        return self._documents(records.ids.tolist(), records.columns)

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns documents as `get_by_ids`."""
        return await self._rows.run(self.get_by_ids, ids)

    def get(self, filter: Where = None, *, limit: int | None = None) -> list[Document]:
        """Returns the documents that a filter selects, in the order of their ids."""
        where = from_langchain(filter, self._names)
        records = self.collection.scan(where, columns=self._layout.columns, limit=limit).records()
        return self._documents(records.ids.tolist(), records.columns)

    async def aget(self, filter: Where = None, *, limit: int | None = None) -> list[Document]:
        """Returns documents as `get`."""
        return await self._rows.run(self.get, filter, limit=limit)

    def _documents(self, keys: list[Any], columns: Mapping[str, Any]) -> list[Document]:
        parts = zip(keys, self._layout.joined(columns), strict=True)
        return [
            Document(id=str(key), page_content=text or "", metadata=metadata)
            for key, (text, metadata) in parts
        ]

    # Searching

    def similarity_search(
        self, query: str, k: int = 4, filter: Where = None, **options: Any
    ) -> list[Document]:
        """Returns the k documents that are most like a text."""
        vector = self._embedding.embed_query(query)
        return self.similarity_search_by_vector(vector, k, filter, **options)

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Returns documents as `similarity_search`."""
        vector = await self._embedding.aembed_query(query)
        return await self.asimilarity_search_by_vector(vector, k, **options)

    def similarity_search_by_vector(
        self, embedding: Vector, k: int = 4, filter: Where = None, **options: Any
    ) -> list[Document]:
        """Returns the k documents whose vectors are most like one."""
        return self._of_hits(self._hits(embedding, k, filter, options))

    async def asimilarity_search_by_vector(
        self, embedding: Vector, k: int = 4, **options: Any
    ) -> list[Document]:
        """Returns documents as `similarity_search_by_vector`."""
        search = self.similarity_search_by_vector
        return await self._rows.run(search, embedding, k, **options)

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Where = None, **options: Any
    ) -> list[tuple[Document, float]]:
        """Returns the same documents with their distances, of which less is more alike."""
        vector = self._embedding.embed_query(query)
        return self.similarity_search_with_score_by_vector(vector, k, filter, **options)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Returns documents and distances as `similarity_search_with_score`."""
        vector = await self._embedding.aembed_query(query)
        search = self.similarity_search_with_score_by_vector
        return await self._rows.run(search, vector, k, **options)

    def similarity_search_with_score_by_vector(
        self, embedding: Vector, k: int = 4, filter: Where = None, **options: Any
    ) -> list[tuple[Document, float]]:
        """Returns documents with distances, by a vector."""
        hits = self._hits(embedding, k, filter, options)
        return list(zip(self._of_hits(hits), hits.distances.tolist(), strict=True))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where = None,
        **options: Any,
    ) -> list[Document]:
        """Returns k documents that are like a text and unlike each other.

        Args:
            query: The text.
            k: Answers.
            fetch_k: So many of the nearest are chosen from.
            lambda_mult: 1 for the nearest documents, 0 for the most different ones.
            filter: Over metadata.
            **options: Of `Collection.search`.
        """
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, filter, **options
        )

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Returns documents as `max_marginal_relevance_search`."""
        vector = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **options
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Vector,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where = None,
        **options: Any,
    ) -> list[Document]:
        """Returns documents as `max_marginal_relevance_search`, by a vector."""
        among = {"mmr": lambda_mult, "candidates": max(k, fetch_k)}
        return self._of_hits(self._hits(embedding, k, filter, {**options, **among}))

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Vector,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **options: Any,
    ) -> list[Document]:
        """Returns documents as `max_marginal_relevance_search_by_vector`."""
        search = self.max_marginal_relevance_search_by_vector
        return await self._rows.run(search, embedding, k, fetch_k, lambda_mult, **options)

    def _hits(self, vector: Vector, k: int, filter: Where, options: Mapping[str, Any]) -> Hits:
        where = None if filter is None else from_langchain(filter, self._names)
        query = np.asarray(vector, np.float32)
        return self.collection.search(
            query, k=k, where=where, columns=self._layout.columns, **options
        )

    def _of_hits(self, hits: Hits) -> list[Document]:
        return self._documents(hits.ids.tolist(), hits.columns)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Returns what makes a number from 0 to 1 of a distance, for embeddings of unit length."""
        match self.collection.metric:
            case Metric.cosine:
                return self._cosine_relevance_score_fn
            case Metric.inner_product:
                return lambda distance: -distance
            case Metric.l2:
                return self._euclidean_relevance_score_fn


def _definition(
    dims: int, columns: Mapping[str, str] | None, further: Mapping[str, Any]
) -> dict[str, Any]:
    own = {"content": "text", **(columns or {})}
    return {"dims": dims, "key_type": "text", "columns": own, "metadata": True, **further}
