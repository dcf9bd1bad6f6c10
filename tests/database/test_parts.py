"""Collections in parts answer as one: one table by threads, one collection on several servers."""

import os
import time
import uuid
from functools import partial

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import conninfo
from psycopg import sql as psql

import mrl_db
from mrl_db import parts
from mrl_db.engines.native.lease import Freshness, boot_time
from mrl_db.model.plan import with_k
from mrl_db.parts import home_of
from mrl_db.parts.together import Together

DIMS, N = 16, 300
KEYS = {
    "bigint": lambda n: 7 * n - 900,
    "uuid": lambda n: uuid.uuid5(uuid.NAMESPACE_OID, str(n)),
    "text": lambda n: f"ключ {n}" if n % 2 else f"Key-{n}",
}
EXACT = mrl_db.Plan("flat", 1, (mrl_db.Stage(DIMS, mrl_db.Precision.float32, 10),))
QUERIES = int(os.environ.get("MRL_DB_PART_QUERIES", "600"))


@pytest.fixture
def servers(server, dsn):
    """Three databases that stand for three servers."""
    names = [f"{conninfo.conninfo_to_dict(dsn)['dbname']}_{number}" for number in range(3)]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(
                psql.SQL("CREATE DATABASE {} TEMPLATE template_mrl STRATEGY file_copy").format(
                    psql.Identifier(name)
                )
            )
    yield [conninfo.make_conninfo(dsn, dbname=name) for name in names]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        for name in names:
            connection.execute(
                psql.SQL("DROP DATABASE {} WITH (FORCE)").format(psql.Identifier(name))
            )


def create(dsn, key_type="bigint", **options):
    with mrl_db.connect(dsn) as db:
        db.create_collection(
            "docs", dims=DIMS, key_type=key_type, columns={"year": "integer"}, **options
        )


def keys(key_type, numbers):
    made = [KEYS[key_type](int(n)) for n in numbers]
    return np.array(made) if isinstance(made[0], int) else made


def tied(rng, n):
    """Vectors of few values, so that many are equally near."""
    return rng.integers(-1, 2, (n, DIMS)).astype(np.float32) + np.eye(DIMS, dtype=np.float32)[0] * 3


def assert_same(hits, want):
    assert hits.ids.tolist() == want.ids.tolist()
    np.testing.assert_allclose(hits.distances, want.distances, atol=2e-6)


def asked_once(sent, search):
    """A search asks PostgreSQL once, in one of some tries: a server's own transactions are news, too."""
    for _ in range(20):
        sent.clear()
        search()
        if len(sent) == 1:
            return
    assert len(sent) == 1


# One table in parts


@pytest.fixture
def table(db, rng):
    docs = db.create_collection("docs", dims=DIMS, metric="l2", columns={"year": "integer"})
    docs.add(np.arange(N), tied(rng, N), year=np.arange(N) % 5)
    return docs


@pytest.fixture
def split(db, table):
    with parts.open_threads(db, "docs", parts=3, route="flat", cache=False) as split:
        yield split


def test_a_table_in_parts_answers_as_one_whatever_is_asked(split, table, rng):
    queries = tied(rng, 40)
    for options in (
        {"k": 10},
        {"k": 120},  # more than a part is asked for at first
        {"k": 10, "where": {"year": {"$in": [1, 3]}}, "columns": ["year"]},
        {"k": 5, "max_distance": 3.0},
        {"k": 4, "group_by": "year", "columns": ["year"]},
        {"k": 7, "offset": 13},
        {"k": 2 * N},
    ):
        hits = split.search(queries, plan=EXACT, **options)
        want = table.search(queries, exact=True, **options)
        assert_same(hits, want)
        assert {name: c.tolist() for name, c in hits.columns.items()} == {
            name: c.tolist() for name, c in want.columns.items()
        }
        assert hits.certified
        assert hits.missing == ()
    assert_same(split.search(like=[3, 50], plan=EXACT), table.search(like=[3, 50], exact=True))
    assert_same(split.search(queries, exact=True), table.search(queries, exact=True))
    assert_same(split.search(queries[0], engine="sql"), table.search(queries[0]))
    assert len(split.search(queries[0], k=3, mmr=0.5).ids) == 3


def test_writes_of_anybody_are_seen_by_the_next_merged_search(split, table, rng):
    queries = tied(rng, 10)
    split.add(np.arange(N, N + 30), tied(rng, 30), year=np.full(30, 1))
    table.delete(np.arange(0, 60, 2))
    split.upsert(np.arange(100, 130), tied(rng, 30))
    assert_same(split.search(queries, plan=EXACT), table.search(queries, exact=True))
    assert split.delete(where={"year": 3}) == len(
        [n for n in range(N) if n % 5 == 3 and not (n < 60 and n % 2 == 0)]
    )
    assert_same(split.search(queries, plan=EXACT), table.search(queries, exact=True))
    assert split.count() == table.count()
    assert split.get([1, 5]).ids.tolist() == [1, 5]


def test_one_part_asks_for_all_while_nothing_is_written(split, table, rng, sent):
    queries = tied(rng, 5)
    for query in (queries[0], queries):  # one, by this thread; a batch
        split.search(query, plan=EXACT)
        assert_same(split.search(query, plan=EXACT), table.search(query, exact=True))
        asked_once(sent, partial(split.search, query, plan=EXACT))
        split.search(query, plan=EXACT, max_staleness=3600)
        assert len(sent) == 1


def test_a_part_that_stands_elsewhere_asks_for_itself(split, table, rng):
    """Rows of every part are written by others, in turns with searches that allow staleness."""
    queries, crew = tied(rng, 10), split._holding.crew.parts
    for step in range(12):
        new = np.arange(N + 10 * step, N + 10 * step + 3)
        table.add(new, tied(rng, 3), year=np.full(3, 1))
        if step % 3:  # some of the parts have seen it already
            crew[step % 3].opened.engines["native"].sync(0.0)
        if step % 4 == 0:
            table.delete(np.arange(5 * step, 5 * step + 4))
            split.search(queries[0], plan=EXACT, max_staleness=3600)
        query = queries[0] if step % 2 else queries
        assert_same(split.search(query, plan=EXACT), table.search(query, exact=True))


def test_parts_are_taken_for_as_fresh_as_the_one_that_asked(split, monkeypatch):
    """It need not ask where another thread has, some moments before."""
    together = split._holding.together
    engines = [part.opened.engines["native"] for part in together._parts]
    earlier = boot_time() - 5
    for engine in engines:
        engine.sync(0.0)
        engine.live.freshness = Freshness()
        engine.live._position = engines[0].live._position  # of one table that nobody writes to
    leading = engines[0].live.freshness
    monkeypatch.setattr(engines[0], "sync", lambda _: leading.reach(leading.begin(earlier)))

    assert together.sync(1000.0) == {0, 1, 2}

    assert not any(engine.live.freshness.reaches(earlier + 1) for engine in engines)


@pytest.mark.parametrize("key_type", ["bigint", "text", "uuid"])
def test_one_query_with_no_more_said_is_answered_as_any_other(db, rng, monkeypatch, sent, key_type):
    """By the short way, which uuids do not have, or by the long one."""
    monkeypatch.setattr(Together, "take_turns", True)
    docs = db.create_collection("docs", dims=DIMS, metric="l2", key_type=key_type)
    docs.add(keys(key_type, range(N)), tied(rng, N))
    with parts.open_threads(db, "docs", parts=3, route="flat", cache=False) as split:
        plan = split._holding.native.plan(10)
        for step, query in enumerate(tied(rng, 12)):
            if step % 4 == 1:
                docs.add(keys(key_type, [N + step]), tied(rng, 1))
            want = split.search(query, plan=plan)
            asked_once(sent, partial(split.search, query))
            hits = split.search(query)
            assert_same(hits, want)
            assert hits.certified == want.certified
            assert hits.ids.dtype == want.ids.dtype
            assert [part.part for part in hits.trace.parts] == [(0, 3), (1, 3), (2, 3)]
            assert hits.trace.stages[0].rows_in == want.trace.stages[0].rows_in
            assert_same(split.search(query.tolist()), want)
            assert_same(split.search(query, k=3), split.search(query, k=3, plan=plan))
            assert_same(split.search(query, k=70), split.search(query, k=70, plan=plan))
        docs.upsert(keys(key_type, [5]), query[np.newaxis])
        assert KEYS[key_type](5) in split.search(query, k=40).ids.tolist()
        with pytest.raises(mrl_db.ShapeError):
            split.search(query[:5])
        with pytest.raises(mrl_db.ValueRangeError):
            split.search(query, k=0)


@pytest.mark.parametrize("here", [True, False])
def test_parts_that_take_turns_answer_as_those_that_have_threads(
    split, table, rng, monkeypatch, here
):
    monkeypatch.setattr(Together, "take_turns", here)
    for query in tied(rng, 5):
        assert_same(split.search(query, plan=EXACT), table.search(query, exact=True))
    monkeypatch.setattr(split._holding.crew.parts[1], "search", lost)
    with pytest.raises(mrl_db.PartUnavailableError, match="part 1 of 3.*is gone") as raised:
        split.search(query, plan=EXACT)
    assert raised.value.parts == (1,)
    assert split.search(query, plan=EXACT, partial=True).missing == (1,)


def lost(*_):
    raise mrl_db.ConnectError("the server is gone")


def test_own_writes_are_seen_however_stale_searches_may_be(db, table, rng):
    with parts.open_threads(
        db, "docs", parts=2, route="flat", cache=False, max_staleness=3600.0
    ) as split:
        row = np.full((1, DIMS), 9, dtype=np.float32)
        split.search(row[0])
        split.add([10**6], row, year=[1])

        assert split.search(row[0], k=1).ids.tolist() == [10**6]


def test_traces_and_states_tell_of_each_part(split):
    trace = split.search(np.ones(DIMS, np.float32)).trace
    explained = split.explain(np.ones(DIMS, np.float32), want=[1, 10**9])

    assert [part.part for part in trace.parts] == [(0, 3), (1, 3), (2, 3)]
    assert [part.part for part in explained.parts] == [(0, 3), (1, 3), (2, 3)]
    assert explained.stages[0].rows_in == N
    assert [fate.outcome for fate in explained.fates][1] == "absent"
    states = split.status()
    assert sum(state.rows for state in states) == N
    assert all(state.bytes > 0 and state.error is None for state in states)
    assert split.parts == ("part 0 of 3", "part 1 of 3", "part 2 of 3")
    assert "parts=3" in repr(split)


def test_a_renamed_table_and_a_new_column_are_followed(split, table, execute, rng):
    execute("ALTER TABLE docs RENAME TO papers")
    execute("ALTER TABLE papers ADD COLUMN stars integer DEFAULT 7")
    query = tied(rng, 1)[0]

    hits = split.search(query, k=3, columns=["stars"], where={"stars": 7}, plan=EXACT)

    assert hits.columns["stars"].tolist() == [7, 7, 7]
    assert hits.ids.tolist() == table.search(query, k=3, exact=True).ids.tolist()
    assert split.count({"stars": 7}) == N


# A collection on several servers


@pytest.mark.parametrize("key_type", KEYS)
@pytest.mark.parametrize("engine", ["sql", "native"])
def test_several_servers_answer_as_one(servers, db, rng, key_type, engine):
    for dsn in servers:
        create(dsn, key_type, metric="l2")
    whole = db.create_collection(
        "docs", dims=DIMS, metric="l2", key_type=key_type, columns={"year": "integer"}
    )
    vectors, queries = tied(rng, 2 * N), tied(rng, 20)
    options = {"load": True, "route": "flat", "cache": False} if engine == "native" else {}
    with parts.open_servers(servers, "docs", **options) as docs:
        for each in (whole, docs):
            assert each.add(keys(key_type, range(N)), vectors[:N], year=np.arange(N) % 5) == N
            each.upsert(keys(key_type, range(40, 90)), vectors[N : N + 50])
            assert each.delete(keys(key_type, range(0, 200, 9))) == 23
        plan = EXACT if engine == "native" else mrl_db.Plan("seqscan", 1, EXACT.stages)
        for asked in ({"k": 10}, {"k": 150}, {"k": 9, "where": {"year": {"$gt": 2}}}):
            want = whole.search(queries, exact=True, **asked)
            assert_same(docs.search(queries, plan=plan, **asked), want)
            assert_same(docs.search(queries, exact=True, **asked), want)
        likes = keys(key_type, range(109, 116))
        assert_same(docs.search(like=likes, exact=True), whole.search(like=likes, exact=True))
        assert docs.count() == whole.count()
        assert docs.count({"year": 1}) == whole.count({"year": 1})
        asked = keys(key_type, [5, 9, 70, 10**6, 3])
        got, wanted = docs.get(asked), whole.get(asked)
        assert got.ids.tolist() == wanted.ids.tolist()
        assert got.columns == wanted.columns
        np.testing.assert_array_equal(got.vectors, wanted.vectors)
        assert docs.delete(where={"year": 4}) == whole.delete(where={"year": 4})
        assert_same(docs.search(queries, plan=plan), whole.search(queries, exact=True))


@pytest.mark.parametrize("key_type", KEYS)
def test_rows_lie_where_sql_says_too(servers, rng, key_type):
    for dsn in servers:
        create(dsn, key_type)
    with parts.open_servers(servers, "docs") as docs:
        docs.add(keys(key_type, range(60)), tied(rng, 60), year=[1] * 60)
    of_module = parts.homes.__doc__.partition("by itself:")[2]
    expression = of_module.replace("key::text", "id::text").replace("servers", "3")

    for number, dsn in enumerate(servers):
        with psycopg.connect(dsn) as connection:
            rows = connection.execute(f"SELECT id, {expression} FROM docs").fetchall()
        assert rows
        assert all(home == number == home_of(key, 3) for key, home in rows)


def test_another_definition_on_one_of_the_servers_is_refused(servers):
    create(servers[0])
    create(servers[1])
    create(servers[2], metric="l2")
    with pytest.raises(mrl_db.ShapeError, match="server 2: its metric is .*l2.*server 0"):
        parts.open_servers(servers, "docs")


def test_an_answer_is_certified_where_the_last_that_each_part_gave_is(servers, rng):
    """Of one server are all that is near: it is asked again, for more than it is sure of."""
    for dsn in servers[:2]:
        create(dsn, metric="l2")
    near = rng.standard_normal((N, DIMS)).astype(np.float32)
    k, first = 60, parts.merge.first_ask(60, 2)
    int8 = mrl_db.Stage(DIMS, mrl_db.Precision.int8, k)
    plan = mrl_db.Plan("flat", 1, (int8, mrl_db.Stage(DIMS, mrl_db.Precision.float32, k)))
    options = {"route": "flat", "cache": False}
    with (
        mrl_db.connect(servers[0]) as one,
        mrl_db.connect(servers[1]) as other,
        parts.open_servers([one, other], "docs", load=True, **options) as docs,
    ):
        whole = one.open("docs")
        whole.add(np.arange(N), near, year=[1] * N)
        other.open("docs").add(np.arange(N, N + k), 100 + near[:k], year=[1] * k)
        whole.load(**options)
        query = np.zeros(DIMS, np.float32)

        assert whole.search(query, k=first, plan=plan).certified
        assert not whole.search(query, k=k, plan=plan).certified
        assert not docs.search(query, k=k, plan=plan).certified
        assert docs.search(query, k=k, exact=True).certified


@pytest.mark.parametrize("exact", [False, True])
def test_a_collection_that_was_made_anew_is_another_one_until_it_is_everywhere(servers, rng, exact):
    for dsn in servers:
        create(dsn)
    vectors = tied(rng, 60)
    with parts.open_servers(servers, "docs") as docs:
        docs.add(np.arange(60), vectors, year=[1] * 60)
        assert docs.search(vectors[0], k=60, exact=exact).ids[0] == 0
        for number, dsn in enumerate(servers):
            with mrl_db.connect(dsn) as db:
                db.drop("docs")
                made = db.create_collection("docs", dims=DIMS, metric="l2")
                own = [key for key in range(60) if home_of(key, 3) == number]
                made.add(own, vectors[own])
            if number < 2:
                with pytest.raises(
                    mrl_db.ShapeError, match=r"another one on server .*its metric is .*elsewhere"
                ):
                    docs.search(vectors[0], k=60, exact=exact)

        distances = docs.search(vectors[0], k=60, exact=exact).distances
        want = np.sort(np.linalg.norm(vectors - vectors[0], axis=1))
        np.testing.assert_allclose(distances, want, atol=2e-6)


def test_what_cannot_be_merged_is_refused(servers, rng):
    for dsn in servers:
        create(dsn)
    with parts.open_servers(servers, "docs") as docs:
        docs.add(np.arange(20), tied(rng, 20), year=[1] * 20)
        with pytest.raises(mrl_db.ValueRangeError, match="group_by= and several servers"):
            docs.search(np.ones(DIMS, np.float32), group_by="year")
        with pytest.raises(mrl_db.ShapeError, match="wanted a list"):
            parts.open_servers(servers[0], "docs")
        with pytest.raises(mrl_db.NotLoadedError):
            docs.search(np.ones(DIMS, np.float32), engine="native")
        docs.load(route="flat", cache=False)
        assert sum(state.rows for state in docs.status()) == 20
        docs.create_index()


@pytest.mark.parametrize("engine", ["exact", "sql", "native"])
def test_rows_as_queries_lack_themselves_alone_where_parts_have_few_rows(servers, db, rng, engine):
    """A part that has not the row that is hidden has all of its own to give."""
    for dsn in servers:
        create(dsn, metric="l2")
    whole = db.create_collection("docs", dims=DIMS, metric="l2", columns={"year": "integer"})
    vectors, own = tied(rng, 40), [*range(30)]
    options = {"load": True, "route": "flat", "cache": False} if engine == "native" else {}
    with parts.open_servers(servers, "docs", **options) as docs:
        for each in (docs, whole):
            each.add(np.arange(40), vectors, year=np.arange(40) % 2)
        opened = docs._opened
        searched = opened.exact if engine == "exact" else opened.engine(engine)
        first = mrl_db.Plan("flat" if engine == "native" else "seqscan", 1, EXACT.stages)
        for where in (None, {"year": 1}, {"year": {"$in": [0, 1]}, "id": {"$lt": 16}}):
            every = whole.search(vectors[own], k=60, where=where, exact=True).ids.tolist()
            left = [[key for key in ids if key != own[n]] for n, ids in enumerate(every)]
            for k in (1, 5, 8, 12, 15, 19, 20, 39, 60):
                plan = searched.plan(k) if engine == "exact" else with_k(first, k)
                searched.sync()
                hits = searched.search(opened.request(where), vectors[own], plan, hidden=own)
                width = min(k, *map(len, left))
                assert hits.ids.tolist() == [ids[:width] for ids in left], (where, k)


# Failures


@pytest.fixture
def three(servers, rng):
    for dsn in servers:
        create(dsn)
    with parts.open_servers(servers, "docs", connect_timeout=0.5) as docs:
        docs.add(np.arange(N), tied(rng, N), year=np.arange(N) % 5)
        yield docs


def refuse(server, dsn, allowed):
    """Ends a database's connections and lets no more in, or lets them in again."""
    name = conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            psql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                psql.Identifier(name), psql.Literal(allowed)
            )
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


def wait_until_all_are_back(parted):
    """A pool that found no server tries again after a while, which becomes longer each time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return parted.count()
        except mrl_db.ConnectError:
            assert time.monotonic() < deadline, "a server that is there again is not asked"


@pytest.mark.superuser
def test_a_part_that_is_gone_is_named_or_left_out_and_said_so(three, server, servers, rng):
    query = tied(rng, 1)[0]
    complete = three.search(query, k=30)
    refuse(server, servers[1], False)
    try:
        with pytest.raises(mrl_db.PartUnavailableError, match="server 1") as raised:
            three.search(query, k=30, timeout=20.0)
        assert raised.value.parts == (1,)
        hits = three.search(query, k=30, partial=True, timeout=20.0)
    finally:
        refuse(server, servers[1], True)

    assert hits.missing == (1,)
    assert "missing=(1,)" in repr(hits)
    assert not hits.certified
    assert hits.trace.promise is None
    there = [key for key in complete.ids.tolist() if home_of(key, 3) != 1]
    assert [key for key in hits.ids.tolist() if key in there] == there
    wait_until_all_are_back(three)
    assert_same(three.search(query, k=30), complete)


@pytest.mark.superuser
def test_a_write_that_some_servers_have_is_completed_by_the_same_call(three, server, servers, rng):
    vectors = tied(rng, 40)
    refuse(server, servers[2], False)
    try:
        with pytest.raises(mrl_db.PartlyWrittenError, match="server 2 has not") as raised:
            three.add(np.arange(1000, 1040), vectors, year=[1] * 40)
        assert raised.value.servers == (2,)
        assert raised.value.batch_id in str(raised.value)
    finally:
        refuse(server, servers[2], True)

    wait_until_all_are_back(three)
    again = three.add(np.arange(1000, 1040), vectors, year=[1] * 40, batch_id=raised.value.batch_id)
    assert again == 40
    assert three.count() == N + 40
    with pytest.raises(mrl_db.DuplicateKeyError):
        three.add([1000], vectors[:1], year=[1])


def test_a_part_that_takes_too_long_is_given_up(three, servers, rng):
    query = tied(rng, 1)[0]
    with psycopg.connect(servers[0]) as holder:
        holder.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(mrl_db.PartUnavailableError, match=r"server 0.*within timeout="):
            three.search(query, timeout=0.3)
        assert 0 in three.search(query, timeout=1.0, partial=True).missing
        holder.rollback()

    assert three.search(query).missing == ()


# Promises


def test_a_promise_is_measured_on_merged_answers_and_kept_by_all(three, servers, rng):
    docs = three
    promise = docs.tune(recall=0.9, budget_seconds=2, seed=3)

    assert promise.parts == 3
    assert promise.rows == N
    assert docs.promise.stale is None
    assert docs.promise.rows == N
    assert "recall" in docs.search(tied(rng, 1)[0]).trace.promise
    measured = docs.recall(sample=100, seed=5)
    assert measured.mean >= 0.9
    with mrl_db.connect(servers[0]) as db:
        alone = db.open("docs")
        assert alone.promise is None  # of merged answers, not of this server's
        assert alone.search(tied(rng, 1)[0]).trace.promise is None
    with parts.open_servers(servers, "docs") as again:
        assert again.promise.target == promise.target
        again.delete(where={})
        assert "server 0" in again.promise.stale


def test_a_promise_over_the_parts_of_a_table_is_not_the_whole_tables(db, table, split):
    promise = split.tune(recall=0.9, budget_seconds=2, seed=3)
    assert (promise.parts, promise.engine) == (3, "native")
    assert split.promise.stale is None
    assert split.recall(sample=60, seed=1).mean >= 0.9

    table.load(route="flat", cache=False)

    assert table.promise is None
    assert table.loaded.followed_plan == promise.plan
    table.unload()


@settings(max_examples=6)
@given(st.data())
def test_merged_exact_answers_are_one_servers_over_many_lives(server, data):
    """Ties, deletions and writes in between; MRL_DB_PART_QUERIES=100000 for longer."""
    seed = data.draw(st.integers(0, 2**31))
    key_type = data.draw(st.sampled_from(sorted(KEYS)))
    count = data.draw(st.integers(1, 5))
    rng = np.random.default_rng(seed)
    with mrl_db.connect(server.dsn) as db:
        if "lives" in db:
            db.drop("lives")
        docs = db.create_collection("lives", dims=DIMS, metric="l2", key_type=key_type)
        docs.add(keys(key_type, range(N)), tied(rng, N))
        with parts.open_threads(db, "lives", parts=count, route="flat", cache=False) as split:
            for _ in range(2):
                gone = rng.choice(N, 20, replace=False)
                docs.delete(keys(key_type, gone))
                docs.upsert(keys(key_type, rng.choice(N, 20, replace=False)), tied(rng, 20))
                queries = tied(rng, QUERIES // 12)
                k = int(rng.integers(1, 120))
                assert_same(
                    split.search(queries, k=k, plan=EXACT), docs.search(queries, k=k, exact=True)
                )
        db.drop("lives")
