"""A collection that is loaded and followed, and what is asked of it."""

import uuid

import numpy as np

from mrl_db import graph_plan
from mrl_db.engines.native.engine import load
from mrl_db.engines.native.index import Loading
from mrl_db.engines.native.lease import Following, boot_time

DIMS, N = 24, 500
KEYS = {
    "bigint": int,
    "smallint": int,
    "uuid": lambda i: uuid.UUID(int=i + 1),
    "text": lambda i: f"key '{i}' é%s",
}
ROW = "INSERT INTO docs (id, embedding) VALUES (%s, %s::vector)"


def made(rng):
    """Returns vectors, twice as many as the collection has rows."""
    return rng.standard_normal((2 * N, DIMS)).astype(np.float32)


def loaded(db, vectors):
    """Returns the collection, loaded."""
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(np.arange(N), vectors[:N], year=np.arange(N) % 10)
    docs.load(cache=False)
    return docs


class Clock:
    """The clock of leases, which a test puts forward."""

    ahead = 0.0

    def __call__(self):
        return boot_time() + self.ahead


def load_following(docs, **limits):
    """Loads as `docs.load(cache=False)` does, with other limits than its own."""
    opened = docs._opened
    docs.unload()
    loading = Loading(graph_plan(dims=DIMS), cache=False)
    engine = load(opened.session, opened.info, loading, following=Following(**limits))
    opened.engines["native"] = engine
    return engine


def text(vector):
    return "[" + ",".join(str(float(x)) for x in vector) + "]"


def nearest(docs, vector, **options):
    hits = docs.search(vector, k=1, engine="native", **options)
    return hits.ids[0], float(hits.distances[0])


def assert_equal_to_the_database(docs, queries):
    """The native engine's answers over all rows are those of PostgreSQL."""
    count = docs.count()
    for query in queries:
        native, exact = (
            docs.search(query, k=count + 5, engine="native"),
            docs.search(query, k=count + 5, exact=True),
        )
        assert native.ids.tolist() == exact.ids.tolist()
        np.testing.assert_allclose(native.distances, exact.distances, atol=1e-5)


def changes(execute):
    return execute("SELECT count(*) FROM mrl.change")[0][0]


def comparisons(docs, monkeypatch):
    """The times at which rows are compared from now on."""
    live, noted = docs.loaded._live, []
    compare = live._compare
    monkeypatch.setattr(live, "_compare", lambda log: noted.append(1) or compare(log))
    return noted
