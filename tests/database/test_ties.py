"""Rows that are equally near come in the order of their keys: text in that of its bytes, whatever
its collation is, as the engine in memory and the merge of parts have it.
"""

import numpy as np
import psycopg
import pytest

import mrl_db
from mrl_db import parts

WORDS = ["b", "B", "a", "ä", "Z", "z", "é", "日", "_", "1", "a b", "ab", "A"]
QUERY = np.ones(4, np.float32)


@pytest.fixture
def docs(db, dsn):
    """All rows are equally near; the server orders their keys otherwise, where it has a locale."""
    with psycopg.connect(dsn, autocommit=True) as session:
        order = session.execute(
            "SELECT c.oid::regcollation::text FROM pg_collation AS c "
            "WHERE c.collprovider = 'c' AND c.collencoding IN (-1, 6) "
            "ORDER BY c.collname ~ '^en' DESC, c.collname <> 'C' DESC LIMIT 1"
        ).fetchone()[0]
        session.execute(
            f"CREATE TABLE docs (id text COLLATE {order} PRIMARY KEY, embedding vector(4), "
            "kind text, body text)"
        )
        session.cursor().executemany(
            "INSERT INTO docs VALUES (%s, '[1,1,1,2]', %s, 'the same words')",
            [(word, word) for word in WORDS],
        )
    db.attach("docs", text="body")
    return db.open("docs")


@pytest.mark.parametrize("k", [1, 5, 20])
def test_ties_go_by_the_bytes_of_the_key(db, docs, k):
    want = sorted(WORDS)[:k]
    exact = mrl_db.Plan("seqscan", 1, (mrl_db.Stage(4, mrl_db.Precision.float32, 30),))
    few = mrl_db.Plan("seqscan", 1, (mrl_db.Stage(2, mrl_db.Precision.float16, 30), *exact.stages))

    def ids(**options):
        return docs.search(QUERY, k=k, **options).ids.tolist()

    assert ids(exact=True) == want
    assert ids(engine="sql") == want
    for plan in (exact, few):
        assert ids(engine="sql", plan=plan) == want
    assert ids(group_by="kind") == want
    assert ids(text="words") == want
    assert docs.search(text="words", k=k).ids.tolist() == want
    docs.load(route="flat")
    assert ids(engine="native") == want
    with parts.open_threads(db, "docs", parts=3, route="flat") as split:
        assert split.search(QUERY, k=k).ids.tolist() == want


def test_the_order_is_that_of_every_statement(docs, dsn):
    with psycopg.connect(dsn, autocommit=True) as session:
        for plan in (None, '{"route": "seqscan", "stages": [{"dims": 4, "keep": 10}]}'):
            statement = session.execute(
                "SELECT mrl.search_statement('docs', %s::jsonb)", [plan]
            ).fetchone()[0]
            assert 'ORDER BY 2, row_.id COLLATE pg_catalog."C"' in statement
        answer = session.execute("SELECT id FROM mrl.search_docs('[1,1,1,1]', 20)").fetchall()
        assert [row[0] for row in answer] == sorted(WORDS)
        assert session.execute("SELECT mean FROM mrl.recall('docs', 3)").fetchone()[0] == 1
