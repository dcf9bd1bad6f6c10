"""Texts in place of vectors: a function of the caller's embeds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mrl_db.collection import searching, writing
from mrl_db.collection.opened import Embed, Embedding, Face, Opened
from mrl_db.hits import Hits
from mrl_db.model.errors import ShapeError, ValueRangeError


def checked(embed: Embed | None, embed_query: Embed | None) -> Embedding | None:
    """Returns the functions, None for none; raises ValueRangeError."""
    for name, each in (("embed", embed), ("embed_query", embed_query)):
        if each is not None and not callable(each):
            raise ValueRangeError(f"{name} is {each!r:.60}, wanted a function of a list of texts")
    if embed is None:
        if embed_query is not None:
            raise ValueRangeError("embed_query= was given without embed=; give both, or embed=")
        return None
    return Embedding(embed, embed if embed_query is None else embed_query)


def add_texts(
    self: Face,
    /,
    ids: Any,
    texts: Sequence[str],
    *,
    upsert: bool = False,
    batch_id: str | None = None,
    connection: object | None = None,
    **columns: Any,
) -> int:
    """Embeds texts and adds them as rows, all or none; needs `embed=`.

    Args:
        ids: n keys.
        texts: n strings, which the collection's column of text gets, if it has one (`text=`).
        upsert: Replace rows whose key is there.
        batch_id: As above.
        connection: As above.
        **columns: n values for each metadata column.

    Returns:
        How many rows were written.
    """
    opened = self._opened
    listed = list(texts) if isinstance(texts, Iterable) else [texts]
    if isinstance(texts, str) or not all(isinstance(text, str) for text in listed):
        raise ShapeError(f"texts is {texts!r:.60}, wanted a list of strings")
    embedding = _embedding(opened)
    none = np.empty((0, opened.info.dims))
    vectors = _embedded(opened, embedding.of_rows, listed) if listed else none
    if opened.info.text is not None:
        columns = {opened.info.text.column: listed, **columns}
    write = writing.upsert if upsert else writing.add
    return int(write(self, ids, vectors, batch_id=batch_id, connection=connection, **columns))


def search_text(
    self: Face, /, text: str | Sequence[str], *, words: bool = False, **options: Any
) -> Hits:
    """Embeds a text and searches for it; needs `embed=`.

    Args:
        text: One, or a list of them for a batch.
        words: Whether its words are searched for, too, as `search(text=)` does.
        **options: As for `search`.
    """
    opened = self._opened
    single = isinstance(text, str)
    listed: list[Any] = list(text) if isinstance(text, Iterable) and not single else [text]
    if not listed or not all(isinstance(each, str) for each in listed):
        raise ShapeError(f"text is {text!r:.60}, wanted a string, or a list of them")
    vectors = _embedded(opened, _embedding(opened).of_queries, listed)
    if words:
        options = {"text": text, **options}
    hits: Hits = searching.search(self, vectors[0] if single else vectors, **options)
    return hits


def _embedding(opened: Opened) -> Embedding:
    if opened.embedding is None:
        raise ValueRangeError(
            f'collection "{opened.info.name}" was opened without embed=; '
            "open(name, embed=function) names what makes vectors of texts"
        )
    return opened.embedding


def _embedded(opened: Opened, embed: Embed, texts: list[str]) -> Any:
    """Returns vectors (n, dims); a task's event loop goes on meanwhile."""
    made: Any = opened.own.aside(lambda: embed(texts))
    if not hasattr(made, "__len__"):
        raise ShapeError(
            f"embed= made {made!r:.60}, wanted an array (n, dims) or a list of vectors"
        )
    if len(made) != len(texts):
        raise ShapeError(f"embed= made {len(made)} vectors of {len(texts)} texts, wanted one each")
    return made
