"""One collection on several servers answers as one."""

import numpy as np
import psycopg
import pytest
from parted import DIMS, EXACT, KEYS, N, assert_same, create, keys, tied
from psycopg import conninfo

import mrl_db
from mrl_db import parts
from mrl_db.model.plan import with_k
from mrl_db.parts import home_of


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


def test_a_server_that_is_listed_twice_is_refused(servers):
    for dsn in servers[:2]:
        create(dsn)
    again = conninfo.make_conninfo(servers[0], application_name="another name of it")

    with pytest.raises(mrl_db.ShapeError, match="server 2 is server 0 .*twice"):
        parts.open_servers([*servers[:2], again], "docs")


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


def test_a_server_with_few_rows_has_the_others_scan_nothing(servers, rng):
    for dsn, rows in zip(servers, (40, 1_500, 1_500), strict=True):
        create(dsn)
        with mrl_db.connect(dsn) as db:
            db.open("docs").add(np.arange(rows), rng.standard_normal((rows, DIMS)), year=[1] * rows)
    with parts.open_servers(servers, "docs") as docs:
        docs.load(cache=False)
        own = [part.opened.native().followed_plan for part in docs._holding.crew.parts]
        assert [plan.walks for plan in own] == [False, True, True]
        assert docs.plan.effort == max(plan.effort for plan in own)
        assert docs.plan.walks
