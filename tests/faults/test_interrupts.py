"""Calls that are interrupted anywhere: the next ones work, and nothing half-made is visible.

MRL_DB_INTERRUPTS points of each call, spread evenly: all of them when it is 0.
"""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import psycopg
import pytest

import mrl_db

POINTS = int(os.environ.get("MRL_DB_INTERRUPTS", "5"))
OURS = str(Path(mrl_db.__file__).parent)
DIMS, N = 16, 200


class Interrupt:
    """Raises an error at the n-th line of ours that this thread runs."""

    def __init__(self, error, at):
        self.error, self.at, self.lines = error, at, 0

    def __enter__(self):
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _call(self, frame, *_):
        ours = frame.f_code.co_filename.startswith(OURS)
        # What is raised in a finalizer reaches nobody, wherever it comes from.
        return self._line if ours and frame.f_code.co_name != "__del__" else None

    def _line(self, _, event, *__):
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                sys.settrace(None)
                raise self.error()
        return self._line


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((4 * N, DIMS)).astype(np.float32)


@pytest.fixture
def docs(db, vectors):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(N), vectors[:N])
    return docs


def interrupted(call, error):
    """Calls with an interrupt at each of some points; yields after every call."""
    with Interrupt(error, at=0) as counting:
        call()
    yield
    points = np.unique(np.linspace(1, counting.lines, POINTS or counting.lines).astype(int))
    for at in points.tolist():
        try:
            with Interrupt(error, at):
                call()
        except error:
            pass
        yield


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("cache", [False, True])
def test_loading_may_be_interrupted_anywhere(docs, vectors, execute, error, cache):
    for turn, _ in enumerate(interrupted(lambda: docs.load(cache=cache), error)):
        docs.add([N + turn], vectors[N + turn : N + turn + 1])
        assert docs.search(vectors[N + turn], k=1).ids.tolist() == [N + turn]
        # A registration of ten minutes ends by itself; one for the time of a load would hold the
        # log for a day.
        long = "SELECT id FROM mrl.reader WHERE lease - now() BETWEEN '1 hour' AND '2 days'"
        assert execute(long) == [], f"point {turn}"
    docs.load(cache=cache)
    assert docs.search(vectors[3], k=1, engine="native").ids.tolist() == [3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_searching_what_was_written_may_be_interrupted_anywhere(docs, vectors, execute, error):
    docs.load(cache=False)
    written = iter(range(N, 4 * N))

    def write_and_search():
        key = next(written)
        with psycopg.connect(docs._opened.session.dsn, autocommit=True) as other:
            text = "[" + ",".join(map(str, vectors[key].tolist())) + "]"
            other.execute("INSERT INTO docs (id, embedding) VALUES (%s, %s)", (key, text))
            other.execute("DELETE FROM docs WHERE id = %s", (key - N,))
        docs.search(vectors[key], k=1)

    for _ in interrupted(write_and_search, error):
        native, exact = (docs.search(vectors[:3], k=2 * N, exact=exact) for exact in (False, True))
        np.testing.assert_array_equal(native.ids, exact.ids)
    docs.unload()
    assert execute("SELECT count(*) FROM mrl.reader") == [(0,)]


def test_an_index_that_could_not_be_saved_or_closed_is_made_again(docs, vectors, execute):
    def load_and_unload():
        docs.load()
        docs.upsert(np.arange(N), vectors[:N])
        docs.search(vectors[0])
        docs.unload()

    for turn, _ in enumerate(interrupted(load_and_unload, KeyboardInterrupt)):
        docs.upsert([0], vectors[N + turn : N + turn + 1])
        docs.load()
        assert docs.search(vectors[N + turn], k=1, engine="native").ids.tolist() == [0]


def test_work_beside_searches_that_fails_is_begun_again(docs, vectors, monkeypatch):
    """Threads end with an error in the middle of linking; rows are found, and linked later."""
    said = []
    monkeypatch.setattr(threading, "excepthook", lambda args: said.append(args.exc_type))
    docs.load(cache=False)
    index, failing = docs.loaded.index, iter([MemoryError()])

    class Failing:
        @property
        def is_behind(self):
            for error in failing:
                raise error
            return index.is_behind

        def __getattr__(self, name):
            return getattr(index, name)

    docs.add([N], vectors[N : N + 1])
    docs.search(vectors[0])
    docs.loaded.settle()
    assert index.waiting == 0
    docs.loaded._live.index = Failing()
    docs.add([N + 1], vectors[N + 1 : N + 2])
    with pytest.raises(MemoryError):
        docs.search(vectors[0], engine="native")
    docs.add([N + 2], vectors[N + 2 : N + 3])
    assert docs.search(vectors[N + 1], k=1, engine="native").ids.tolist() == [N + 1]
    docs.loaded.settle()
    assert index.waiting == 0
    assert said == []
