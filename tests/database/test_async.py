"""The face for asyncio: the same answers, and tasks that end whenever they are cancelled."""

import asyncio
import functools
import inspect
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import conninfo
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import mrl_db
from mrl_db.collection import promising

DIMS = 8
ROWS = 400
_HUNG = 120  # seconds


def vectors(n=ROWS, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


def in_loop(test):
    """Runs a coroutine as a test, with an `AsyncDatabase` of eight connections."""

    @functools.wraps(test)
    def run(dsn, **fixtures):
        async def main():
            async with await mrl_db.connect_async(dsn, pool_size=8, query_log=False) as db:
                await asyncio.wait_for(test(db, **fixtures), _HUNG)

        asyncio.run(main())

    signature = inspect.signature(test)
    own = [each for each in signature.parameters.values() if each.name != "db"]
    dsn = inspect.Parameter("dsn", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[dsn, *own])
    del run.__wrapped__
    return run


async def made(db, n=ROWS):
    docs = await db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    await docs.add(range(n), vectors(n), year=[2000 + key % 10 for key in range(n)])
    return docs


def statements(dsn):
    """What other clients' connections to the database do now."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        ).fetchall()


# One description of both faces

ONLY_PLAIN = {
    "parse_key",
    "promise",
    "adaptor",
    "index_kind",
    "indexed",
    "low_dims",
    "plan",
    "table",
}


def public(kind):
    return {name for name in vars(kind) if not name.startswith("_")}


def test_the_faces_have_the_same_methods():
    plain, of_tasks = public(mrl_db.Collection), public(mrl_db.AsyncCollection)

    assert plain - of_tasks == ONLY_PLAIN - {"promise"}
    assert of_tasks - plain == {"plain"}
    assert public(mrl_db.AsyncDatabase) - public(mrl_db.Database) == {"plain"}


def test_methods_are_described_once():
    for plain, of_tasks in (
        (mrl_db.Collection, mrl_db.AsyncCollection),
        (mrl_db.Database, mrl_db.AsyncDatabase),
    ):
        for name in public(plain) & public(of_tasks) - {"adapt", "close"}:
            method, coroutine = getattr(plain, name), getattr(of_tasks, name)
            if isinstance(method, property) and name != "promise":
                assert coroutine.__doc__ == method.__doc__, name
                continue
            if name == "promise":
                method = promising.promise
            assert inspect.signature(coroutine) == inspect.signature(method), name
            assert coroutine.__doc__ == method.__doc__, name
            assert inspect.iscoroutinefunction(coroutine) == (name != "scan"), name


def test_both_connect_alike():
    plain = dict(inspect.signature(mrl_db.connect).parameters)
    plain.pop("pool")

    assert dict(inspect.signature(mrl_db.connect_async).parameters) == plain


def test_without_greenlet_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "greenlet", None)
    for module in ("async_", "tasks"):
        monkeypatch.delitem(sys.modules, f"mrl_db.{module}")
        monkeypatch.delattr(mrl_db, module)

    with pytest.raises(mrl_db.MissingDependencyError, match=r"mrl_db\[async\]"):
        _ = mrl_db.connect_async


# The same answers


@in_loop
async def test_rows_are_written_and_read(db):
    docs = await made(db, 10)

    assert await docs.upsert([9, 10], vectors(2, 1), year=[1, 2]) == 2
    assert await docs.update([10], year=3) == 1
    assert await docs.delete([0]) == 1
    assert await docs.count() == 10
    assert await docs.count({"year": 3}) == 1
    assert (await docs.get([10])).columns == {"year": [3]}
    assert await docs.ingest([{"id": 11, "embedding": [1.0] * DIMS}]) == 1
    assert [len(page) async for page in docs.scan(page=4)] == [4, 4, 3]
    assert (await docs.scan({"year": 3}).records()).ids.tolist() == [10]
    assert (await docs.scan(limit=1).to_list())[0]["id"] == 1
    assert await db.list() == ["docs"]
    assert (await db.open("docs")).dims == DIMS
    with pytest.raises(mrl_db.DuplicateKeyError):
        await docs.add([11], vectors(1))
    with pytest.raises(mrl_db.FilterError):
        await docs.scan({"nothing": 1}).records()
    await db.drop("docs")
    with pytest.raises(mrl_db.CollectionNotFoundError):
        await db.open("docs")


@in_loop
async def test_searches_answer_as_the_plain_ones(db):
    docs = await made(db)
    queries = vectors(12, 1)
    await docs.load(route="flat")

    for further in (
        {"engine": "sql"},
        {"engine": "native"},
        {"exact": True},
        {"where": {"year": 2003}},
        {"columns": ["year"], "vectors": True},
        {"group_by": "year"},
        {"engine": "sql", "threads": 2},
    ):
        for query in (queries[0], queries):
            hits = await docs.search(query, k=5, **further)
            plain = await asyncio.to_thread(docs.plain.search, query, k=5, **further)
            np.testing.assert_array_equal(hits.ids, plain.ids)
            np.testing.assert_array_equal(hits.distances, plain.distances)
    trace = await docs.explain(queries[0], want=[1])
    assert trace.fates


@in_loop
async def test_loaded_rows_follow_what_anybody_writes(db, execute):
    docs = await made(db)
    await docs.load(route="flat")
    query = vectors(1, seed=5)[0]

    for key in range(1000, 1010):
        await docs.upsert([key], [query])
        execute(
            "UPDATE docs SET embedding = embedding * %s::vector WHERE id = %s",
            (str([-1.0] * DIMS), key - 1000),
        )
        answers = await asyncio.gather(*(docs.search(query, k=1) for _ in range(50)))
        assert all(hits.distances[0] < 1e-6 for hits in answers)
        assert (await docs.search(-vectors()[key - 1000], k=1)).ids[0] == key - 1000
    execute("TRUNCATE docs")
    assert len(await docs.search(query, k=1)) == 0
    await docs.unload()


@in_loop
async def test_searches_take_no_threads(db):
    docs = await made(db)
    await docs.search(vectors(1)[0])
    before = set(threading.enumerate())

    await asyncio.gather(*(docs.search(query, k=3, where={"year": 2001}) for query in vectors(40)))

    assert set(threading.enumerate()) <= before


@in_loop
async def test_threads_that_wait_for_a_task_do_not_keep_it_waiting(db, execute):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    docs = await made(db)
    await docs.load(route="flat")

    for key in range(20):
        execute("DELETE FROM docs WHERE id = %s", (key,))
        searches = [docs.search(vectors()[key], k=1, engine="native") for _ in range(5)]
        found = [docs.explain(vectors()[key], engine="native") for _ in range(3)]
        for hits in (await asyncio.gather(*searches, *found))[:5]:
            assert hits.ids[0] != key


# Cancelled tasks


@in_loop
async def test_a_thousand_searches_and_a_hundred_cancelled(db):
    docs = await made(db)
    queries = vectors(1000, 1)
    expected = (await docs.search(queries, k=5, exact=True)).ids
    rng = np.random.default_rng(2)
    cancelled = set(rng.choice(1000, 100, replace=False).tolist())

    tasks = [asyncio.create_task(docs.search(query, k=5, engine="sql")) for query in queries]
    for number in sorted(cancelled):
        await asyncio.sleep(0.0005)
        tasks[number].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    for number, (answer, ids) in enumerate(zip(answers, expected, strict=True)):
        if isinstance(answer, asyncio.CancelledError):
            assert number in cancelled
        else:
            assert answer.ids.tolist() == ids.tolist()
    assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) > 20
    states = await asyncio.to_thread(statements, db.dsn)
    assert {state for _, state, _ in states} == {"idle"}
    await asyncio.gather(*(docs.search(queries[0], engine="sql") for _ in range(8)))
    after = await asyncio.to_thread(statements, db.dsn)
    assert {pid for pid, _, _ in states} <= {pid for pid, _, _ in after}  # none was lost


@pytest.mark.parametrize("call", ["upsert", "ingest", "delete", "update", "create_index", "search"])
@in_loop
async def test_a_cancelled_call_ends_its_statement(db, call):
    docs = await made(db)
    given = {
        "upsert": lambda: docs.upsert([1, 2000], vectors(2)),
        "ingest": lambda: docs.ingest(np.array([1, 2000]), vectors(2), upsert=True),
        "delete": lambda: docs.delete(where={}),
        "update": lambda: docs.update([1], year=1),
        "create_index": lambda: docs.create_index(kind="hnsw"),
        "search": lambda: docs.search(vectors(1)[0], where={"year": 2001}),
    }
    async with await psycopg.AsyncConnection.connect(db.dsn) as other:
        await other.execute("LOCK TABLE docs")
        task = asyncio.create_task(given[call]())
        while not await waiting(other):
            await asyncio.sleep(0.01)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not await waiting(other)
    assert await docs.count() == ROWS
    assert {state for _, state, _ in await asyncio.to_thread(statements, db.dsn)} == {"idle"}


async def waiting(connection):
    cursor = await connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return (await cursor.fetchone())[0]


@in_loop
async def test_a_timeout_leaves_the_collection_usable(db):
    docs = await made(db)
    await docs.load(route="flat")
    async with await psycopg.AsyncConnection.connect(db.dsn) as other:
        await other.execute("LOCK TABLE docs")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(docs.search(vectors(1)[0], engine="sql"), 0.1)
        await other.execute("DELETE FROM docs WHERE id < 10")

    assert len(await docs.search(vectors(1)[0], k=ROWS, engine="native")) == ROWS - 10


@in_loop
async def test_lost_connections_are_made_again(db, execute):
    docs = await made(db)
    await docs.load(route="flat")
    await asyncio.gather(*(docs.search(vectors(1)[0], engine="sql") for _ in range(8)))

    execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    for engine in ("sql", "native"):
        answers = await asyncio.gather(
            *(docs.search(vectors(1)[0], engine=engine) for _ in range(20))
        )
        assert all(hits.ids[0] == 0 for hits in answers)


def test_a_statement_that_takes_too_long_is_cancelled(db, dsn):
    db.create_collection("docs", dims=DIMS).add(range(ROWS), vectors())

    async def main():
        async with await mrl_db.connect_async(dsn, statement_timeout=1) as limited:
            docs = await limited.open("docs")
            async with await psycopg.AsyncConnection.connect(dsn) as other:
                await other.execute("LOCK TABLE docs")
                with pytest.raises(mrl_db.CancelledError):
                    await docs.count()
            assert await docs.count() == ROWS

    asyncio.run(main())


# The caller's connection


@in_loop
async def test_calls_are_part_of_the_callers_transaction(db):
    docs = await made(db, 10)
    async with await psycopg.AsyncConnection.connect(db.dsn) as connection:
        await docs.add([20], vectors(1, 5), connection=connection)
        with pytest.raises(mrl_db.DuplicateKeyError):
            await docs.add([20], vectors(1), connection=connection)
        hits = await docs.search(vectors(1, 5)[0], k=1, connection=connection)
        assert hits.ids.tolist() == [20]
        assert await docs.count() == 10
        await connection.rollback()
        await docs.add([21], vectors(1), connection=connection)
        rows = [{"id": 22, "embedding": [1.0] * DIMS}]
        assert await docs.ingest(rows, connection=connection) == 1
        assert [len(page) async for page in docs.scan(page=6, connection=connection)] == [6, 6]
        with pytest.raises(mrl_db.DtypeError, match="AsyncConnection"):
            await docs.count(connection=object())
    assert (await docs.get([20, 21, 22])).ids.tolist() == [21, 22]


@in_loop
async def test_sqlalchemys_asynchronous_kinds_are_taken(db):
    docs = await made(db, 10)
    at = conninfo.conninfo_to_dict(db.dsn)
    url = sa.URL.create(
        "postgresql+psycopg", username=at["user"], database=at["dbname"], query={"host": at["host"]}
    )
    engine = create_async_engine(url)

    async with AsyncSession(engine) as session:
        await docs.add([20], vectors(1), connection=session)
        assert (await docs.count(connection=session), await docs.count()) == (11, 10)
        await session.rollback()
        await docs.add([21], vectors(1), connection=session)
        await session.commit()
    async with engine.connect() as connection:
        await docs.add([22], vectors(1), connection=connection)
        await connection.commit()
        await docs.add([23], vectors(1), connection=connection)
    await docs.add([24], vectors(1), connection=engine)
    await engine.dispose()

    assert (await docs.get([20, 21, 22, 23, 24])).ids.tolist() == [21, 22, 24]
