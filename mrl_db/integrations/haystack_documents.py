"""Haystack's documents as rows of a collection: how each lies there, and what is done with them.

The store (`mrl_db.integrations.haystack`) calls these functions, by threads and by tasks alike.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

from mrl_db import door
from mrl_db.collection import Collection
from mrl_db.integrations import rows
from mrl_db.integrations.filters import Filter, Names, from_haystack
from mrl_db.integrations.layout import Layout, layout_of
from mrl_db.model import errors
from mrl_db.postgres.update import update_where

Filters = dict[str, Any] | None
_REST = "rest"  # of type jsonb: blob and sparse embedding, for documents that have one


class Documents:
    """The documents of a collection with the columns content, meta, rest and some of metadata."""

    def __init__(self, collection: Collection, own: Sequence[str]) -> None:
        """Takes a collection and the metadata that have columns of their own."""
        self.collection = collection
        layout_of(collection, "content", [_REST], None)
        self._layout: Layout = layout_of(collection, "content", own, "meta")
        self._names: Names = self._layout.names(id="id", content="content")
        self._columns = (_REST, *self._layout.columns)

    def count(self, filters: Filters = None) -> int:
        """Returns how many documents a filter selects."""
        with raised_as_theirs():
            return self.collection.count(self._where(filters))

    def filtered(self, filters: Filters = None) -> list[Document]:
        """Returns the documents that a filter selects, in the order of their ids."""
        with raised_as_theirs():
            scan = self.collection.scan(
                self._where(filters), columns=self._columns, vectors=True
            ).records()
        return self._documents(scan.ids.tolist(), scan.columns, scan.vectors, None)

    def write(self, documents: Sequence[Document], policy: DuplicatePolicy) -> int:
        """Writes documents, all or none; returns how many were written."""
        if not isinstance(documents, list) or any(
            not isinstance(each, Document) for each in documents
        ):
            raise ValueError("write_documents() takes a list of Documents")
        taken = list(documents)
        if policy is DuplicatePolicy.OVERWRITE:
            taken = list({each.id: each for each in documents}.values())
        elif policy is DuplicatePolicy.SKIP:
            taken = list({each.id: each for each in reversed(documents)}.values())
        if not taken:
            return 0
        ids = [each.id for each in taken]
        vectors = [each.embedding for each in taken]
        columns = self._layout.split(
            [each.content for each in taken], [each.meta for each in taken]
        )
        columns[_REST] = [_rest_of(each) for each in taken]
        if policy is DuplicatePolicy.OVERWRITE:
            self.collection.upsert(ids, vectors, **columns)
            return len(documents)
        on_conflict: Literal["error", "skip"] = "error"
        if policy is DuplicatePolicy.SKIP:
            on_conflict = "skip"
        with raised_as_theirs():
            return self.collection.add(ids, vectors, on_conflict=on_conflict, **columns)

    def delete(self, ids: list[str]) -> None:
        """Deletes documents; those that are not there are passed by."""
        self.collection.delete(ids)

    def delete_where(self, filters: Filters) -> int:
        """Deletes the documents that a filter selects; returns how many."""
        with raised_as_theirs():
            return self.collection.delete(where=self._where(filters))

    def update_where(self, filters: Filters, meta: Mapping[str, Any]) -> int:
        """Gives the documents that a filter selects these metadata, besides theirs."""
        own = {name: [value] for name, value in meta.items() if name in self._layout.own}
        rest = {name: value for name, value in meta.items() if name not in own}
        opened = self.collection._opened
        with raised_as_theirs():
            request = opened.request(self._where(filters))
            values = opened.checked(lambda info: door.checked_columns(own, info, 1))
            change = partial(
                update_where,
                request=request,
                values={name: one[0] for name, one in values.items()},
                merged={"meta": rest},
            )
            return opened.write(None, change)

    def nearest(
        self, embedding: list[float], filters: Filters, k: int, embeddings: bool, options: Any
    ) -> list[Document]:
        """Returns the k documents whose embeddings are most like one, with their similarity."""
        if k == 0:
            return []
        with raised_as_theirs():
            hits = self.collection.search(
                np.asarray(embedding, np.float32),
                k=k,
                where=self._where(filters) or None,
                columns=self._columns,
                vectors=embeddings,
                **options,
            )
        scores = rows.similarities(hits.distances, self.collection.metric)
        return self._documents(hits.ids.tolist(), hits.columns, hits.vectors, scores)

    def _where(self, filters: Filters) -> Filter:
        return from_haystack(filters, self._names)

    def _documents(
        self, keys: list[str], columns: Mapping[str, Any], vectors: Any, scores: Any
    ) -> list[Document]:
        parts = zip(keys, columns[_REST], self._layout.joined(columns), strict=True)
        return [
            Document(
                id=key,
                content=content,
                meta=metadata,
                score=None if scores is None else scores[position],
                embedding=None if vectors is None else _listed(vectors[position]),
                **({} if rest is None else _of_rest(rest)),
            )
            for position, (key, rest, (content, metadata)) in enumerate(parts)
        ]


@contextmanager
def raised_as_theirs() -> Iterator[None]:
    """Raises Haystack's errors for ours that it has its own of."""
    try:
        yield
    except errors.FilterError as error:
        raise FilterError(str(error)) from error
    except errors.DuplicateKeyError as error:
        raise DuplicateDocumentError(str(error)) from error


def _listed(vector: Any) -> list[float] | None:
    """Returns an embedding as Haystack has it; one of NaN is none."""
    listed: list[float] = vector.tolist()
    return None if listed[0] != listed[0] else listed


def _rest_of(document: Document) -> dict[str, Any] | None:
    rest: dict[str, Any] = {}
    if document.blob is not None:
        data = base64.b64encode(document.blob.data).decode()
        rest["blob"] = {
            "data": data,
            "meta": document.blob.meta,
            "mime_type": document.blob.mime_type,
        }
    if document.sparse_embedding is not None:
        rest["sparse_embedding"] = document.sparse_embedding.to_dict()
    return rest or None


def _of_rest(rest: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "blob" in rest:
        blob = rest["blob"]
        fields["blob"] = ByteStream(**{**blob, "data": base64.b64decode(blob["data"])})
    if "sparse_embedding" in rest:
        fields["sparse_embedding"] = SparseEmbedding.from_dict(rest["sparse_embedding"])
    return fields
