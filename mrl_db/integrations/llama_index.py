"""LlamaIndex: a vector store whose nodes are rows of a collection.

`pip install 'mrl_db[llama-index]'`; docs/frameworks.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, Document, ImageNode, IndexNode, Node, TextNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from mrl_db.collection import Collection
from mrl_db.database import Database
from mrl_db.integrations import rows
from mrl_db.integrations.filters import Filter, Names, both, from_llama_index
from mrl_db.integrations.layout import Layout, layout_of
from mrl_db.integrations.rows import Rows
from mrl_db.model.errors import ValueRangeError

if TYPE_CHECKING:
    from mrl_db.async_ import AsyncCollection, AsyncDatabase

_OF_TEXT = {each.class_name(): each for each in (TextNode, ImageNode, IndexNode)}
_OF_RESOURCES = {each.class_name(): each for each in (Node, Document)}
_DOCUMENT_NAMES = ("ref_doc_id", "doc_id", "document_id")  # as LlamaIndex puts it among metadata
_FETCHED = 4  # times k nodes, from which k that are unlike each other are chosen
_RELEVANCE = 0.5  # likewise LlamaIndex's own default


class MrlVectorStore(BasePydanticVectorStore):
    """Nodes in a collection: text, the metadata that filters see, the rest of the node, a vector.

    Every method has its twin for asyncio (`aquery`, …). With an `AsyncCollection`, or made by
    `afrom_params`, tasks wait for PostgreSQL themselves; else a thread does.

    Modes of queries are default and mmr. Further arguments of `query`, as a retriever's
    `vector_store_kwargs`, are those of `Collection.search`: `engine=`, `exact=` and others; for
    mmr also `mmr_threshold`, `mmr_prefetch_factor` and `mmr_prefetch_k`.
    """

    stores_text: bool = True
    flat_metadata: bool = False
    _rows: Rows = PrivateAttr()
    _layout: Layout = PrivateAttr()
    _names: Names = PrivateAttr()

    def __init__(
        self,
        collection: Collection | AsyncCollection | Rows,
        *,
        metadata_columns: Sequence[str] | None = None,
    ) -> None:
        """Takes a collection that `from_params` made, or one with its columns.

        Args:
            collection: With keys of text and the columns text, meta (jsonb), node (jsonb) and
                ref_doc_id (text).
            metadata_columns: Metadata that have columns of their own; None: all further columns.

        Raises:
            ValueRangeError: The collection has no such column.
        """
        super().__init__(stores_text=True)
        self._rows = collection if isinstance(collection, Rows) else Rows(collection)
        kept = ("text", "meta", "node", "ref_doc_id")
        if metadata_columns is None:
            metadata_columns = [name for name in self.client.columns if name not in kept]
        layout_of(self.client, "node", ["ref_doc_id"], None)
        self._layout = layout_of(self.client, "text", metadata_columns, "meta")
        self._names = self._layout.names(**dict.fromkeys(_DOCUMENT_NAMES, "ref_doc_id"))

    @classmethod
    def class_name(cls) -> str:
        """Returns the name that LlamaIndex writes down."""
        return "MrlVectorStore"

    @classmethod
    def from_params(
        cls,
        db: Database | str | None = None,
        *,
        collection_name: str = "llama_index",
        embed_dim: int = 1536,
        columns: Mapping[str, str] | None = None,
        **definition: Any,
    ) -> MrlVectorStore:
        """Returns a store over a collection, which is created where there is none of this name.

        Args:
            db: A database; or a connection string, or None for the embedded server, to which the
                store then has connections of its own (`close`).
            collection_name: Of the collection and its table.
            embed_dim: Dims of the embeddings.
            columns: Metadata that get columns of their own, name to SQL type.
            **definition: Of `Database.create_collection`: `metric`, `nesting_dims` and others.
        """
        given = _definition(embed_dim, columns, definition)
        source = rows.opened(db, collection_name, given)
        return cls(source)

    @classmethod
    async def afrom_params(
        cls,
        db: AsyncDatabase | str | None = None,
        *,
        collection_name: str = "llama_index",
        embed_dim: int = 1536,
        columns: Mapping[str, str] | None = None,
        **definition: Any,
    ) -> MrlVectorStore:
        """Returns the same, for tasks of the running event loop; see `from_params`."""
        given = _definition(embed_dim, columns, definition)
        source = await rows.opened_in_task(db, collection_name, given)
        return cls(source)

    @property
    def client(self) -> Collection:
        """The nodes' collection, for all else: `load()`, `tune()`, `create_index()`."""
        return self._rows.collection

    def close(self) -> None:
        """Closes the connections of a store that was made of a connection string."""
        self._rows.close()

    async def aclose(self) -> None:
        """Closes them in the event loop that opened them."""
        await self._rows.aclose()

    # Writing

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Adds nodes with their embeddings, or replaces those whose id is there; all or none.

        Args:
            nodes: The later of two with one id counts.
            **_: As the base class has it; nothing is made of it.

        Returns:
            The ids.
        """
        last = list({node.node_id: node for node in nodes}.values())
        if last:
            dumped = [
                node.model_dump(
                    mode="json", exclude={"embedding", "id_", "text"}, exclude_defaults=True
                )
                for node in last
            ]
            columns = self._layout.split(
                [node.get_content() for node in last],
                [each.pop("metadata", {}) for each in dumped],
            )
            self.client.upsert(
                [node.node_id for node in last],
                np.array([node.get_embedding() for node in last], np.float32),
                node=dumped,
                ref_doc_id=[node.ref_doc_id for node in last],
                **columns,
            )
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Adds nodes as `add`."""
        return await self._rows.run(self.add, nodes)

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Deletes the nodes of a document."""
        self.client.delete(where={"ref_doc_id": ref_doc_id})

    async def adelete(self, ref_doc_id: str, **_: Any) -> None:
        """Deletes nodes as `delete`."""
        await self._rows.run(self.delete, ref_doc_id)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_: Any,
    ) -> None:
        """Deletes nodes that have one of these ids, if they are given, and pass the filters.

        Without both nothing is deleted: that is `clear`.
        """
        if node_ids is not None or filters is not None:
            self.client.delete(where=self._where(filters, node_ids))

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **_: Any,
    ) -> None:
        """Deletes nodes as `delete_nodes`."""
        await self._rows.run(self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Deletes all nodes."""
        self.client.delete(where={})

    async def aclear(self) -> None:
        """Deletes all nodes."""
        await self._rows.run(self.clear)

    # Reading

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Returns the nodes that have one of these ids and pass the filters, in order of ids."""
        where = self._where(filters, node_ids)
        records = self.client.scan(where, columns=("node", *self._layout.columns)).records()
        return self._nodes(records.ids.tolist(), records.columns)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Returns nodes as `get_nodes`."""
        return await self._rows.run(self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Returns the nodes that are most like an embedding, with their similarities.

        Args:
            query: Its mode is default or mmr; `filters`, `doc_ids` and `node_ids` all restrict it.
            **kwargs: Of `Collection.search`, and for mmr as the class says.

        Raises:
            ValueRangeError: The mode is another one, or there is no embedding.
        """
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            raise ValueRangeError(
                f"the mode of the query is {query.mode.value}, this store has default and mmr"
            )
        if query.query_embedding is None:
            raise ValueRangeError("the query has no embedding; give query_embedding")
        k, options = query.similarity_top_k, dict(kwargs)
        factor = options.pop("mmr_prefetch_factor", _FETCHED)
        fetched = options.pop("mmr_prefetch_k", None)
        threshold = options.pop("mmr_threshold", query.mmr_threshold)
        if query.mode is VectorStoreQueryMode.MMR:
            options["mmr"] = _RELEVANCE if threshold is None else threshold
            options["candidates"] = max(k, int(k * factor) if fetched is None else fetched)
        # An index whose nodes are in the store alone sends an empty list: no restriction.
        where = self._where(query.filters, query.node_ids or None, query.doc_ids or None)
        collection = self.client
        hits = collection.search(
            np.asarray(query.query_embedding, np.float32),
            k=k,
            where=where or None,
            columns=("node", *self._layout.columns),
            **options,
        )
        ids = hits.ids.tolist()
        nodes = self._nodes(ids, hits.columns)
        alike = rows.similarities(hits.distances, collection.metric)
        return VectorStoreQueryResult(nodes=nodes, similarities=alike, ids=ids)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Returns nodes as `query`."""
        return await self._rows.run(self.query, query, **kwargs)

    def _where(
        self,
        filters: MetadataFilters | None,
        node_ids: list[str] | None = None,
        doc_ids: list[str] | None = None,
    ) -> Filter:
        among = {"id": node_ids, "ref_doc_id": doc_ids}
        restricted = [{name: {"$in": ids}} for name, ids in among.items() if ids is not None]
        if filters is None and not restricted:
            return {}
        return both(from_llama_index(filters, self._names), *restricted)

    def _nodes(self, keys: list[str], columns: Mapping[str, Any]) -> list[BaseNode]:
        parts = zip(keys, columns["node"], self._layout.joined(columns), strict=True)
        return [_node(key, rest, text, metadata) for key, rest, (text, metadata) in parts]


def _node(
    key: str, rest: dict[str, Any] | None, text: str | None, metadata: dict[str, Any]
) -> BaseNode:
    """Returns a node of its parts; one whose row is gone since, or another's, is a TextNode."""
    fields = dict(rest or {})
    name = fields.pop("class_name", "")
    kind = _OF_RESOURCES.get(name)
    if kind is not None:
        return kind(id_=key, metadata=metadata, **fields)
    return _OF_TEXT.get(name, TextNode)(id_=key, metadata=metadata, text=text or "", **fields)


def _definition(
    dims: int, columns: Mapping[str, str] | None, further: Mapping[str, Any]
) -> dict[str, Any]:
    own = {"text": "text", "node": "jsonb", "ref_doc_id": "text", **(columns or {})}
    return {"dims": dims, "key_type": "text", "columns": own, "metadata": True, **further}
