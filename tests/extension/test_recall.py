"""Floors of recall in few dimensions, where pgvector's own tests have theirs, and rows all alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from extension.clients import session_on
from extension.tables import OPERATORS, both_answers, clustered, fill, nearest, recall

FLOORS = {"cosine": 0.99, "ip": 0.97, "l2": 0.99}
DIMS = {"vector": 3, "halfvec": 10}
QUERIES = np.random.default_rng(1).random((20, 10), dtype=np.float32)


def rows(n, dims, seed=2):
    """Coordinates between 0 and 1, small ones more often."""
    made = np.random.default_rng(seed).random((2, n, dims))
    return (made[0] * made[1]).astype(np.float32)


def at_once(dsn, clients, work):
    """Runs work(session, number) in so many sessions beside each other."""

    def run(number):
        with session_on(dsn) as session:
            return work(session, number)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(run, range(clients)))


@pytest.mark.parametrize("metric", OPERATORS)
@pytest.mark.parametrize("type_name", DIMS)
def test_a_build_and_inserts_of_many_clients_keep_the_floor(
    connection, new_database, type_name, metric
):
    dims = DIMS[type_name]
    options = {"operator": OPERATORS[metric], "type_name": type_name}
    fill(connection, rows(2500, dims), column=f"{type_name}({dims})")
    create = f"USING mrl (embedding {type_name}_{metric}_ops)"
    connection.execute(f"CREATE INDEX docs_mrl ON docs {create}")
    assert recall(connection, QUERIES[:, :dims], 20, **options) >= FLOORS[metric]

    connection.execute("TRUNCATE docs")
    at_once(
        new_database,
        4,
        lambda session, number: fill(session, rows(400, dims, number), first=400 * number),
    )

    assert recall(connection, QUERIES[:, :dims], 20, **options) >= FLOORS[metric]


@pytest.mark.parametrize("type_name", DIMS)
def test_three_quarters_are_deleted_and_vacuumed(connection, type_name):
    dims = DIMS[type_name]
    options = {"operator": "<->", "type_name": type_name}
    fill(connection, rows(4000, dims), column=f"{type_name}({dims})")
    connection.execute(f"CREATE INDEX docs_mrl ON docs USING mrl (embedding {type_name}_l2_ops)")

    connection.execute("DELETE FROM docs WHERE id >= 1000; SET mrl.effort = 20")

    assert recall(connection, QUERIES[:, :dims], 20, **options) >= 0.95
    connection.execute("VACUUM docs")
    assert recall(connection, QUERIES[:, :dims], 20, **options) >= 0.95


def test_all_but_one_are_deleted(connection):
    fill(connection, rows(3000, 3), column="vector(3)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)")

    connection.execute("DELETE FROM docs WHERE id <> 123")
    connection.execute("VACUUM docs")

    assert nearest(connection, np.zeros(3), operator="<->") == [123]


@pytest.mark.parametrize("type_name", DIMS)
def test_equal_rows_all_come_back(connection, new_database, type_name):
    """However they came: few and built, or of five clients, until a graph of them is made."""
    vector = np.ones(3)
    fill(connection, [vector] * 20, column=f"{type_name}(3)")
    connection.execute(f"CREATE INDEX docs_mrl ON docs USING mrl (embedding {type_name}_l2_ops)")
    connection.execute("SET mrl.effort = 1")
    options = {"operator": "<->", "type_name": type_name}
    assert len(nearest(connection, vector, 100, **options)) == 20

    connection.execute("TRUNCATE docs")
    at_once(
        new_database,
        5,
        lambda session, number: [
            fill(session, [vector] * 50, first=1000 * number + 50 * step) for step in range(5)
        ],
    )
    assert len(set(nearest(connection, vector, 9000, **options))) == 1250
    connection.execute("REINDEX INDEX docs_mrl")
    assert len(set(nearest(connection, vector, 9000, **options))) == 1250
    assert len(set(nearest(connection, -vector, 30, **options))) == 30


@pytest.mark.parametrize(("size", "noise"), [(40, 0.2), (400, 0.02), (400, 0.1)])
@pytest.mark.parametrize("grown", [False, True], ids=["built", "grown"])
def test_copies_among_other_rows_are_told_apart(connection, size, noise, grown):
    rng = np.random.default_rng(3)
    centres = clustered(400 // size, 64, seed=1)[:, None]
    steps = rng.standard_normal((len(centres), size, 64)).astype(np.float32)
    steps *= noise * np.linalg.norm(centres, axis=2, keepdims=True) / 8
    copies = (centres + steps).reshape(-1, 64)
    others = clustered(2500, 64)
    create = "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)"
    fill(connection, others, column="vector(64)")
    if grown:
        connection.execute(create)
    fill(connection, [*copies, *centres[:, 0]], first=10_000)
    if not grown:
        connection.execute(create)
    ids = range(0, len(copies), 20)

    assert np.mean([nearest(connection, copies[i])[0] == 10_000 + i for i in ids]) >= 0.95
    assert recall(connection, copies[ids], operator="<=>") >= 0.95


@pytest.mark.parametrize("storage", ["PLAIN", "EXTERNAL", "EXTENDED", "MAIN"])
def test_wide_rows_are_found_wherever_they_are_stored(connection, new_database, storage):
    """A page of rows holds four of these; ten clients bring them."""
    made = rows(60, 1900)
    connection.execute(f"CREATE TABLE docs (id integer, kind integer, embedding vector({1900}))")
    connection.execute(f"ALTER TABLE docs ALTER embedding SET STORAGE {storage}")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")

    at_once(
        new_database, 10, lambda session, n: fill(session, made[6 * n : 6 * n + 6], first=6 * n)
    )

    by_index, by_scan = both_answers(connection, made[7], 100)
    assert len(by_index) == 60
    assert by_index == by_scan


@pytest.mark.parametrize("strict", ["off", "on"])
def test_filters_keep_the_floor_and_every_row(connection, strict):
    fill(connection, rows(8000, 3), column="vector(3)")
    connection.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops)")
    connection.execute(f"SET mrl.strict_order = {strict}")

    for each in (50, 200):
        where = f"id % {each} = 0"
        assert recall(connection, QUERIES[:, :3], 20, operator="<->", where=where) >= 0.99
    few = nearest(connection, QUERIES[0, :3], 11, operator="<->", where="id % 800 = 0")
    assert sorted(few) == list(range(0, 8000, 800))
