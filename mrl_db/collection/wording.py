"""Searching by words: what `search(text=)` takes, checked, and its hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from mrl_db import clashes, door
from mrl_db.collection.opened import Opened, Where
from mrl_db.engines import words as engine_words
from mrl_db.engines.sql import SqlEngine
from mrl_db.engines.words import Fusion, Words
from mrl_db.hits import Hits
from mrl_db.model.errors import ShapeError, ValueRangeError
from mrl_db.model.plan import Plan
from mrl_db.model.values import misfit

FusionChoice = Literal["rrf"] | Sequence[float]


def search(
    opened: Opened,
    query: ArrayLike | None,
    text: str | Sequence[str],
    *,
    k: int,
    offset: int,
    where: Where | None,
    columns: Sequence[str],
    vectors: bool,
    fusion: FusionChoice,
    shortlist: int | None,
    plan: Plan | None,
    exact: bool,
    as_stored: bool,
) -> Hits:
    """Returns the k best rows by vector and words; see `search` of the collection."""
    if opened.info.text is None:
        opened.describe()
    column = opened.info.text
    if column is None:
        raise ValueRangeError(
            f'collection "{opened.info.name}" has no text to search; '
            "create_collection(text=), attach(text=) or mrl.add_text() gives it one"
        )
    k = door.checked_count(k, "k")
    texts, single = _texts(text)
    queries = None
    if query is not None:
        queries, alone = opened.queries(query, as_stored)
        if len(queries) != len(texts) or alone != single:
            raise ShapeError(
                f"query is {'one' if alone else len(queries)}, text is "
                f"{'one' if single else len(texts)}; wanted one text for each query"
            )
    runner = opened.engines["sql"]
    assert isinstance(runner, SqlEngine)
    door.checked_count(k + offset, "k + offset")
    used = opened.plan_of(runner, k + offset, shortlist, plan)
    request = opened.request(where, columns)
    clashes.check_beside_hits(request.columns, single=single, vectors=bool(vectors), scored=True)
    if vectors:
        request = replace(request, columns=(*request.columns, opened.info.vector))
    asked = Words(column, texts, queries, k + offset, used, checked_fusion(fusion), exact)
    hits = engine_words.search(opened.session, runner, request, asked)
    if offset:
        hits = hits.reordered([slice(offset, None)] * len(texts))
    if vectors:
        hits.take_vectors(opened.info.vector, opened.info.dims)
    hits.typed(request.info.wire_types)
    return hits[0] if single else hits


def checked_fusion(fusion: object) -> Fusion:
    """Returns how lists are fused; raises ValueRangeError."""
    if fusion == "rrf":
        return Fusion()
    weights: Any = fusion
    if (
        isinstance(fusion, (str, bytes))
        or not isinstance(fusion, (Sequence, np.ndarray))
        or len(fusion) != 2
        or not all(isinstance(each, (int, float, np.floating)) and each >= 0 for each in weights)
        or not 0 < sum(weights) < float("inf")
    ):
        raise ValueRangeError(
            f"fusion is {fusion!r}, wanted 'rrf', or the weights of vectors and of words: (0.7, "
            "0.3)"
        )
    return Fusion((float(weights[0]), float(weights[1])))


def _texts(text: object) -> tuple[list[str], bool]:
    several = isinstance(text, (Sequence, np.ndarray)) and not isinstance(text, str)
    texts: list[Any] = list(text) if several else [text]  # type: ignore[call-overload]
    if not texts or not all(isinstance(each, str) for each in texts):
        raise ShapeError(f"text is {text!r:.60}, wanted a string, or one for each query")
    for each in texts:
        wanted = misfit(each, "text")
        if wanted is not None:
            raise ValueRangeError(f"text is {each!r:.60}; wanted {wanted}")
    return texts, not several
