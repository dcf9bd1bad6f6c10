"""Haystack: a document store whose documents are rows of a collection, and its retriever.

`pip install 'mrl_db[haystack]'`; docs/frameworks.md.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
from haystack.utils import Secret, deserialize_secrets_inplace

from mrl_db.collection import Collection
from mrl_db.integrations import rows
from mrl_db.integrations.haystack_documents import Documents, Filters
from mrl_db.integrations.rows import Rows
from mrl_db.model.metric import Metric, MetricName

P = ParamSpec("P")
R = TypeVar("R")


class MrlDocumentStore:
    """Documents in a collection, with an embedding or without.

    It connects when it is first used. Methods for asyncio have connections of their own, in each
    event loop that uses them, for which tasks wait.
    """

    def __init__(
        self,
        *,
        connection_string: Secret = Secret.from_env_var("MRL_DB_DSN", strict=False),  # noqa: B008
        collection_name: str = "haystack",
        embedding_dimension: int = 768,
        metric: Metric | MetricName = "cosine",
        columns: Mapping[str, str] | None = None,
        definition: Mapping[str, Any] | None = None,
    ) -> None:
        """Describes the collection, which is created where there is none of this name.

        Args:
            connection_string: Of the database; where the secret is empty, the embedded server.
            collection_name: Of the collection and its table.
            embedding_dimension: Dims of the embeddings.
            metric: A `Metric`, or its name.
            columns: Metadata that get columns of their own, name to SQL type.
            definition: Further arguments of `Database.create_collection`: `nesting_dims`, …
        """
        self.connection_string = connection_string
        self.collection_name = collection_name
        self.embedding_dimension = embedding_dimension
        self.metric = Metric.of(metric)
        self.columns = dict(columns or {})
        self.definition = dict(definition or {})
        self._plain: tuple[Rows, Documents] | None = None
        self._lock = threading.Lock()
        self._of_loop: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, asyncio.Task[tuple[Rows, Documents]]
        ] = weakref.WeakKeyDictionary()

    def to_dict(self) -> dict[str, Any]:
        """Returns the description; of the connection string where to find it, never itself."""
        return default_to_dict(
            self,
            connection_string=self.connection_string.to_dict(),
            collection_name=self.collection_name,
            embedding_dimension=self.embedding_dimension,
            metric=self.metric.value,
            columns=self.columns,
            definition=self.definition,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlDocumentStore:
        """Returns a store of its description."""
        deserialize_secrets_inplace(data["init_parameters"], ["connection_string"])
        return default_from_dict(cls, data)

    @property
    def collection(self) -> Collection:
        """The documents' collection, for all else: `load()`, `tune()`, `create_index()`."""
        return self._documents().collection

    def close(self) -> None:
        """Closes the connections of threads; the next call opens them again."""
        with self._lock:
            opened, self._plain = self._plain, None
        if opened is not None:
            opened[0].close()

    async def close_async(self) -> None:
        """Closes the connections of the running event loop; likewise."""
        opening = self._of_loop.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await (await opening)[0].aclose()

    # The store

    def count_documents(self) -> int:
        """Returns the number of documents."""
        return self._documents().count()

    async def count_documents_async(self) -> int:
        """Returns the number of documents."""
        return await self._run(Documents.count)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """Returns the number of documents that a filter selects."""
        return self._documents().count(filters)

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Returns the number of documents that a filter selects."""
        return await self._run(Documents.count, filters)

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """Returns the documents that a filter selects, in the order of their ids.

        Args:
            filters: Comparisons and logic, as Haystack describes them; None or {}: all documents.

        Raises:
            FilterError: Haystack's; the filter cannot be meant.
        """
        return self._documents().filtered(filters)

    async def filter_documents_async(self, filters: Filters = None) -> list[Document]:
        """Returns documents as `filter_documents`."""
        return await self._run(Documents.filtered, filters)

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Writes documents, all or none.

        Args:
            documents: With an embedding or without.
            policy: For ids that are there: FAIL and NONE raise, SKIP leaves what is there, and
                OVERWRITE replaces it. Of two documents with one id SKIP takes the first, OVERWRITE
                the last.

        Returns:
            How many were written.

        Raises:
            DuplicateDocumentError: An id is there already.
        """
        return self._documents().write(documents, policy)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Writes documents as `write_documents`."""
        return await self._run(Documents.write, documents, policy)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Deletes documents by id; those that are not there are passed by."""
        self._documents().delete(document_ids)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Deletes documents as `delete_documents`."""
        await self._run(Documents.delete, document_ids)

    def delete_all_documents(self) -> None:
        """Deletes all documents; the collection stays."""
        self._documents().delete_where(None)

    async def delete_all_documents_async(self) -> None:
        """Deletes all documents; the collection stays."""
        await self._run(Documents.delete_where, None)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that a filter selects; returns how many."""
        return self._documents().delete_where(filters)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Deletes documents as `delete_by_filter`."""
        return await self._run(Documents.delete_where, filters)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Gives the documents that a filter selects these metadata, in one statement.

        Args:
            filters: Which documents.
            meta: Fields to set; others stay.

        Returns:
            How many documents.
        """
        return self._documents().update_where(filters, meta)

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Updates documents as `update_by_filter`."""
        return await self._run(Documents.update_where, filters, meta)

    def embedding_retrieval(
        self,
        query_embedding: list[float],
        *,
        filters: Filters = None,
        top_k: int = 10,
        return_embedding: bool = False,
        **options: Any,
    ) -> list[Document]:
        """Returns the documents whose embeddings are most like one, with their similarity.

        Args:
            query_embedding: As long as those of the store.
            filters: As for `filter_documents`.
            top_k: Documents at most.
            return_embedding: Bring the embeddings along.
            **options: Of `Collection.search`: `engine=`, `exact=` and others.
        """
        documents = self._documents()
        return documents.nearest(query_embedding, filters, top_k, return_embedding, options)

    async def embedding_retrieval_async(
        self,
        query_embedding: list[float],
        *,
        filters: Filters = None,
        top_k: int = 10,
        return_embedding: bool = False,
        **options: Any,
    ) -> list[Document]:
        """Returns documents as `embedding_retrieval`."""
        return await self._run(
            Documents.nearest, query_embedding, filters, top_k, return_embedding, options
        )

    # Connections

    def _documents(self) -> Documents:
        with self._lock:
            if self._plain is None:
                dsn = self.connection_string.resolve_value()
                source = rows.opened(dsn, self.collection_name, self._definition())
                self._plain = source, Documents(source.collection, tuple(self.columns))
            return self._plain[1]

    async def _run(
        self, method: Callable[Concatenate[Documents, P], R], *given: P.args, **named: P.kwargs
    ) -> R:
        """Returns what a method of documents gives, whose waits are the task's."""
        loop = asyncio.get_running_loop()
        opening = self._of_loop.get(loop)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            opening = self._of_loop[loop] = loop.create_task(self._open_in_task())
        source, documents = await asyncio.shield(opening)
        return await source.run(method, documents, *given, **named)

    async def _open_in_task(self) -> tuple[Rows, Documents]:
        dsn = self.connection_string.resolve_value()
        source = await rows.opened_in_task(dsn, self.collection_name, self._definition())
        return source, Documents(source.collection, tuple(self.columns))

    def _definition(self) -> dict[str, Any]:
        return {
            "dims": self.embedding_dimension,
            "metric": self.metric,
            "key_type": "text",
            "columns": {"content": "text", "rest": "jsonb", **self.columns},
            "metadata": True,
            "vectors_required": False,
            **self.definition,
        }


@component
class MrlEmbeddingRetriever:
    """A component that retrieves the documents of an `MrlDocumentStore` by their embeddings."""

    def __init__(
        self,
        *,
        document_store: MrlDocumentStore,
        filters: Filters = None,
        top_k: int = 10,
        return_embedding: bool = False,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        """Takes the store and what runs use by default.

        Args:
            document_store: The store.
            filters: As for `MrlDocumentStore.filter_documents`.
            top_k: Documents at most.
            return_embedding: Bring the embeddings along.
            filter_policy: Whether filters of a run replace these, or are merged with them.
        """
        if not isinstance(document_store, MrlDocumentStore):
            raise TypeError(
                f"document_store is a {type(document_store).__name__}, wanted an MrlDocumentStore"
            )
        self.document_store = document_store
        self.filters = filters or {}
        self.top_k = top_k
        self.return_embedding = return_embedding
        if isinstance(filter_policy, str):
            filter_policy = FilterPolicy.from_str(filter_policy)
        self.filter_policy = filter_policy

    def to_dict(self) -> dict[str, Any]:
        """Returns the description of the component."""
        return default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MrlEmbeddingRetriever:
        """Returns a component of its description."""
        given = data["init_parameters"]
        given["document_store"] = MrlDocumentStore.from_dict(given["document_store"])
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Returns the documents that are most like a query, as {"documents": [...]}.

        Args:
            query_embedding: Of the query.
            filters: See `filter_policy`.
            top_k: Instead of the component's.
        """
        documents = self.document_store.embedding_retrieval(
            query_embedding,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            top_k=self.top_k if top_k is None else top_k,
            return_embedding=self.return_embedding,
        )
        return {"documents": documents}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query_embedding: list[float],
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Returns documents as `run`."""
        documents = await self.document_store.embedding_retrieval_async(
            query_embedding,
            filters=apply_filter_policy(self.filter_policy, self.filters, filters),
            top_k=self.top_k if top_k is None else top_k,
            return_embedding=self.return_embedding,
        )
        return {"documents": documents}
