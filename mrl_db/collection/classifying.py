"""Classifying the rows of a collection where they are."""

from __future__ import annotations

from mrl_db.classify import Cascade, stored
from mrl_db.classify.stored import Classified
from mrl_db.collection.opened import EngineChoice, Face, Where
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.model.errors import NotLoadedError


def classify(
    self: Face,
    classifier: Cascade | str,
    *,
    where: Where | None = None,
    dims: int | None = None,
    engine: EngineChoice = "auto",
) -> Classified:
    """Classifies the rows that pass a filter; each pass reads only the coordinates it needs next.

    Args:
        classifier: A fitted cascade, or the name of one that `save_classifier` stored.
        where: A filter over metadata columns.
        dims: Asks this one head only.
        engine: "sql" reads prefixes from PostgreSQL; "native" those of the rows that `load()`
            brought here, as they were at one moment of the call; "auto" native where rows are here.

    Returns:
        Ids, the answer for each, and how many bytes were read.
    """
    opened = self._opened
    cascade = classifier
    if isinstance(cascade, str):
        cascade = load_classifier(self, cascade)
    runner = opened.engine(engine)
    request = opened.request(where)
    if isinstance(runner, NativeEngine) and (runner.in_memory or engine == "native"):
        if not runner.in_memory:
            raise NotLoadedError(
                f'the vectors of collection "{opened.info.name}" stayed in PostgreSQL; '
                'load(rows="memory"), or engine="sql"'
            )
        stored.check_cascade(cascade, opened.info)
        runner.sync()
        classified = stored.classify_loaded(runner, request, cascade, dims)
        if classified is not None:
            return classified
    return stored.classify(opened.session, request, cascade, dims)


def save_classifier(self: Face, name: str, cascade: Cascade) -> None:
    """Stores a fitted cascade with the collection, in place of one of this name."""
    stored.save(self._opened.session, self._opened.info.name, name, cascade)


def load_classifier(self: Face, name: str) -> Cascade:
    """Returns the cascade of this name; raises NotFittedError when there is none."""
    return stored.load(self._opened.session, self._opened.info.name, name)
