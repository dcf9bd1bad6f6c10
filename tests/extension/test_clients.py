"""Clients that insert, update, delete, VACUUM, search and REINDEX beside each other for a while.

A search is asked twice of one snapshot, by the index at an effort that looks at every code, and by
a sequential scan: both are to say the same, whatever the others do meanwhile.
"""

from __future__ import annotations

import itertools
import os
import time

import numpy as np
from extension.clients import session_on, working
from extension.conftest import check_indexes
from extension.tables import both_answers, clustered, fill, text

SECONDS = float(os.environ.get("MRL_DB_CLIENT_SECONDS", "2"))
DIMS = 24
POOL = clustered(2000, DIMS, seed=4)
QUERIES = POOL[::40] + np.float32(0.02)
ROWS = 3000  # about so many stay
MOST_CANDIDATES = 12_000  # at the effort here: beyond them rows may come late

turns = itertools.count()


def slots(session):
    while True:  # NULL: another index took its place between its name and its number
        (n,) = session.execute(
            "SELECT rows + dead + free FROM mrl_index_info('docs_mrl')"
        ).fetchone()
        if n is not None:
            return n


def has_room(session):
    """Whether VACUUM comes along with the writers, who wait for it elsewhere."""
    if slots(session) <= MOST_CANDIDATES - 2000:
        return True
    time.sleep(0.01)
    return False


def insert(session, step):
    first = 10_000 + 60 * next(turns)
    if has_room(session):
        fill(session, POOL[first % 1900 :][:60], first=first)


def update(session, step):
    if not has_room(session):
        return
    number = text(POOL[step % len(POOL)])
    session.execute(f"UPDATE docs SET embedding = '{number}' WHERE id % 101 = {step % 101}")
    session.execute(f"UPDATE docs SET kind = kind + 1 WHERE id % 53 = {step % 53}")
    with session.transaction(force_rollback=True):
        session.execute(f"UPDATE docs SET embedding = '{number}' WHERE id % 89 = {step % 89}")


def delete(session, step):
    session.execute(f"DELETE FROM docs WHERE id % 71 = {step % 71}")
    session.execute(
        f"DELETE FROM docs WHERE id < (SELECT min(id) FROM (SELECT id FROM docs ORDER BY id DESC "
        f"LIMIT {ROWS}) AS last)"
    )


def vacuum(session, step):
    session.execute(f"VACUUM ({'INDEX_CLEANUP on' if step % 2 else 'FREEZE'}) docs")


def reindex(session, step):
    session.execute("DROP INDEX IF EXISTS docs_mrl_ccnew")  # of one that was ended by a deadlock
    session.execute("REINDEX INDEX CONCURRENTLY docs_mrl")
    if step % 8 == 7:
        check_indexes(session)


def search(session, step):
    query = QUERIES[step % len(QUERIES)]
    where = ("true", "kind < 150", "id % 3 = 0")[step % 3]
    limit = (10, 200, 100_000)[step // 3 % 3]
    session.execute(f"SET mrl.page_access = {('unpinned', 'pinned')[step // 9 % 2]}")
    before = slots(session)
    by_index, by_scan = both_answers(session, query, limit, where)
    if max(before, slots(session)) <= MOST_CANDIDATES:
        assert by_index == by_scan
    elif limit == 100_000:
        assert sorted(by_index) == by_scan


def fetch(session, step):
    """A cursor that stays open while others write."""
    distance = f"embedding <=> '{text(QUERIES[step % len(QUERIES)])}'"
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        everything = sorted(session.execute("SELECT id FROM docs").fetchall())
        session.execute(f"DECLARE page CURSOR FOR SELECT id FROM docs ORDER BY {distance}")
        rows = []
        while page := session.execute("FETCH 400 FROM page").fetchall():
            rows += page
        assert sorted(rows) == everything


def test_clients_beside_each_other_see_what_their_snapshots_hold(new_database):
    with session_on(new_database) as session:
        fill(session, POOL, column=f"vector({DIMS})")
        session.execute("CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_cosine_ops)")
        session.execute(f"ALTER DATABASE {session.info.dbname} SET mrl.effort = 100000")
    works = [insert, update, delete, vacuum, reindex, search, fetch]

    with working(new_database, *works) as clients:
        clients[0].done.wait(SECONDS)

    print({work.__name__: len(c.answers) for work, c in zip(works, clients, strict=True)})
    assert [client.gone for client in clients] == [None] * len(clients)
    assert all(client.answers for client in clients)
    with session_on(new_database) as session:
        check_indexes(session)
