"""Partitioned tables, and how they look to every engine."""

import numpy as np

DIMS = 8
TREES = {
    "hash": (
        "PARTITION BY HASH (id)",
        [
            f"CREATE TABLE docs_{i} PARTITION OF docs FOR VALUES WITH (MODULUS 3, REMAINDER {i})"
            for i in range(3)
        ],
    ),
    "range": (
        "PARTITION BY RANGE (id)",
        [
            "CREATE TABLE docs_0 PARTITION OF docs FOR VALUES FROM (0) TO (100)",
            "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (100) TO (1000) PARTITION BY HASH (id)",
            "CREATE TABLE docs_2 PARTITION OF docs_1 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "CREATE TABLE docs_3 PARTITION OF docs_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ],
    ),
    "list": (
        "PARTITION BY LIST (id)",
        [
            f"CREATE TABLE docs_0 PARTITION OF docs FOR VALUES IN ({', '.join(map(str, range(50)))})",
            "CREATE TABLE docs_1 PARTITION OF docs DEFAULT",
        ],
    ),
}
ROWS = "INSERT INTO {} (id, embedding, year) SELECT i, array_fill((i / 10.0)::real, ARRAY[8])::vector, i % 4 FROM generate_series({}, {}) AS i"
HELD = "SELECT integers FROM mrl.change ORDER BY xid, integers"
CALLED = (
    "SELECT count(DISTINCT tgrelid), count(*) FROM pg_trigger WHERE tgname LIKE 'mrl\\_log\\_%'"
)
RANGES = "CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector(8), year integer) PARTITION BY RANGE (id)"
LEAF = "CREATE TABLE docs_{0} PARTITION OF docs FOR VALUES FROM ({0}) TO ({0} + 100)"
LOOSE = "CREATE TABLE docs_{0} (LIKE docs INCLUDING ALL); "


def made(db, execute, tree, low_dim="column"):
    by, partitions = TREES[tree]
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}), year integer) {by}"
    )
    for statement in partitions:
        execute(statement)
    return db.attach("docs", metric="l2", nesting_dims=(4, DIMS), low_dim=low_dim)


def same_as_the_database(docs):
    """All rows, by every engine."""
    query = np.full(DIMS, 2.97, dtype=np.float32)
    k = docs.count() + 1
    exact = docs.search(query, k=k, exact=True)
    for engine in ("native", "sql"):
        hits = docs.search(query, k=k, engine=engine)
        assert hits.ids.tolist() == exact.ids.tolist(), engine
        np.testing.assert_allclose(hits.distances, exact.distances, atol=1e-5)
    return set(exact.ids.tolist())
