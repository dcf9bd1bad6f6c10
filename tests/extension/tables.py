"""Tables of vectors, and the same question asked of an index and of a sequential scan."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def text(vector):
    """A vector as pgvector reads it."""
    return "[" + ",".join(repr(float(value)) for value in vector) + "]"


def clustered(n, dims, seed=0):
    """Rows in clusters, as embeddings are: half of each row is its cluster's centre."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, n // 50), dims))
    rows = centres[rng.integers(0, len(centres), n)] + 0.7 * rng.standard_normal((n, dims))
    rows /= np.sqrt(1 + np.arange(dims) / 64)  # the later dims say less, as after a rotation
    return rows.astype(np.float16).astype(np.float32)


def fill(session, rows, table="docs", column="vector", first=0):
    """Creates a table when it is not there and puts rows in it, with ids that count up and a group of each from 0 to 999."""
    session.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (id integer, kind integer, embedding {column})"
    )
    with session.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for i, row in enumerate(rows, first):
            copy.write_row((i, i * 7919 % 1000, None if row is None else text(row)))


OPERATORS = {"cosine": "<=>", "ip": "<#>", "l2": "<->"}


def nearest(session, query, k=10, operator="<=>", where="true", table="docs", type_name="vector"):
    """The ids of the nearest rows, nearest first."""
    rows = session.execute(
        f"SELECT id FROM {table} WHERE {where} ORDER BY embedding {operator} '{text(query)}'::{type_name} LIMIT {k}"
    )
    return [row[0] for row in rows]


def exact(session, *arguments, **options):
    """The same by a sequential scan."""
    session.execute("SET enable_indexscan = off; SET enable_seqscan = on")
    try:
        return nearest(session, *arguments, **options)
    finally:
        session.execute("RESET enable_indexscan; SET enable_seqscan = off")


def both_answers(session, query, k=10, where="true"):
    """The nearest rows' (distance, id) by the index, and by a sequential scan of the same snapshot."""
    distance = f"embedding <=> '{text(query)}'"
    statement = f"SELECT {distance}, id FROM docs WHERE {where} ORDER BY {distance}, id LIMIT {k}"
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SET LOCAL enable_seqscan = off")
        by_index = session.execute(statement).fetchall()
        session.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = on")
        return by_index, session.execute(statement).fetchall()


def recall(session, queries, k=10, **options):
    """The share of the true nearest rows that a search finds, over all queries."""
    hits = sum(
        len(set(nearest(session, q, k, **options)) & set(exact(session, q, k, **options)))
        for q in queries
    )
    return hits / (k * len(queries))


def plan(session, statement):
    """A statement's plan as text."""
    return "\n".join(row[0] for row in session.execute(f"EXPLAIN (COSTS OFF) {statement}"))


def composed(comparisons, leaves):
    """Conditions made of others, as texts."""
    return st.recursive(
        comparisons,
        lambda parts: st.one_of(
            st.builds("({} AND {})".format, parts, parts),
            st.builds("({} OR {})".format, parts, parts),
            st.builds("NOT ({})".format, parts),
        ),
        max_leaves=leaves,
    )
