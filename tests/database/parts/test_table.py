"""One table in parts answers as one."""

from functools import partial

import numpy as np
import pytest
from parted import DIMS, EXACT, KEYS, N, assert_same, keys, tied

import mrl_db
from mrl_db import parts
from mrl_db.engines.native.lease import Freshness, boot_time
from mrl_db.parts.together import Together


def asked_once(sent, search):
    """A search asks PostgreSQL once, in one of some tries: a server's own transactions are news, too."""
    for _ in range(20):
        sent.clear()
        search()
        if len(sent) == 1:
            return
    assert len(sent) == 1


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
