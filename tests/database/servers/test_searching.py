"""sql/parts.sql: one collection in parts on two servers, searched by psql on a third database."""

import contextlib
import os
import signal
import socket
import threading
import time

import psycopg
import pytest
from database.servers.places import (
    PASSWORD,
    SEARCH,
    SLOW,
    both,
    foreign_server,
    insert,
    make,
    stop,
)
from extension.clients import wait_for
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proxy import Proxy

from mrl_db.postgres import statements

pytestmark = pytest.mark.superuser

EXAMPLES = int(os.environ.get("MRL_DB_SERVERS_EXAMPLES", "25"))
COORDINATES = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
KEYS = {
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "uuid": st.uuids(),
    "text": st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6),
}
ODD = ["NULL", "", '"', "{a,b}", "\\", "a'b", "%s %1$s", " ", "ä", "B", "b", "日"]


@pytest.mark.parametrize("key_type", KEYS)
def test_merged_answers_are_those_of_one_server_with_all_rows(places, key_type):
    """On exact settings, with many ties: distances are equal to the bit. The two PostgreSQLs have
    pgvectors of different builds, which round differently; these numbers need no rounding.
    """
    coordinator, parts, whole = places
    name = f"all {key_type}"
    metric = {"uuid": "l2", "text": "inner_product"}.get(key_type, "cosine")
    for place in (*parts, whole):
        make(place, name, key_type, metric=metric)
    coordinator.execute(f"SELECT mrl.attach_parts('{name}', ARRAY['s2', 's1'])")
    search = f'SELECT id, distance FROM mrl."search_{name}"(%s::vector, k => %s, shortlist => 900)'

    with contextlib.ExitStack() as stack:
        on = stack.enter_context
        merging, *holding = [
            on(psycopg.connect(place.dsn, autocommit=True))
            for place in (coordinator, *parts, whole)
        ]

        @settings(max_examples=EXAMPLES)
        @example(keys=ODD if key_type == "text" else [], points=[(0.0, 1.0)], query=(1.0, 0.5), k=9)
        @given(
            keys=st.lists(KEYS[key_type], unique=True, max_size=30),
            points=st.lists(
                st.tuples(COORDINATES, COORDINATES).filter(any), min_size=1, max_size=6
            ),
            query=st.tuples(COORDINATES, COORDINATES).filter(any),
            k=st.integers(1, 35),
        )
        def equal(keys, points, query, k):
            rows = [(key, list(points[i % len(points)])) for i, key in enumerate(keys)]
            for of, held in zip((rows[::3], rows[1::3] + rows[2::3], rows), holding, strict=True):
                held.execute(f'DELETE FROM "{name}"')
                insert(held, name, of)
            asked = (str(list(query)), k)

            answer = merging.execute(search, asked).fetchall()

            assert answer == holding[2].execute(search, asked).fetchall()
            assert len(answer) == min(k, len(rows))

        equal()
    coordinator.execute(f"SELECT mrl.detach_parts('{name}')")


def test_a_search_is_called_and_answered_like_that_of_a_plain_collection(session):
    defaults = session.execute("SELECT id FROM mrl.search_docs('[1,0]')").fetchall()
    named = session.execute(
        "SELECT * FROM mrl.search_docs(query => '[1,0]', k => 1, shortlist => 50)"
    )

    assert defaults == [(1,), (2,)]
    assert [column.name for column in named.description] == ["id", "distance"]
    assert named.fetchall() == [(1, pytest.approx(1 - 0.5**0.5))]
    lateral = "SELECT n, id FROM generate_series(1, 3) AS n, mrl.search_docs('[0,1]', n)"
    assert session.execute(lateral).fetchall() == [(1, 2), (2, 2), (2, 1), (3, 2), (3, 1)]
    with pytest.raises(psycopg.Error, match='part "s1".*has 3 dims.*has 2') as error:
        session.execute("SELECT * FROM mrl.search_docs('[1,0,0]')")
    assert error.value.sqlstate == "MR003"
    for bad in ("'[1,0]', 0", "'[1,0]', NULL", "NULL"):
        with pytest.raises(psycopg.Error, match='part "s1"') as error:
            session.execute(f"SELECT * FROM mrl.search_docs({bad})")
        assert error.value.sqlstate == "MR003"
    assert both(session) == [1, 2]
    assert session.notices == []


def test_a_session_keeps_one_connection_to_each_part(session, docs):
    both(session)
    before = [place.searching() for place in docs[1]]

    for _ in range(5):
        both(session)

    after = [place.searching() for place in docs[1]]
    assert [len(found) for found in after] == [1, 1]
    assert [found[0][0] for found in after] == [found[0][0] for found in before]


@pytest.mark.parametrize("ended", ["cancelled", "timeout", "an error of the other part"])
def test_whatever_ends_a_search_leaves_no_connection_busy(session, docs, ended):
    coordinator, (fast, slow) = docs
    both(session)
    before = [place.searching()[0][0] for place in (fast, slow)]
    slow.execute(SLOW)

    if ended == "timeout":
        session.execute("SET statement_timeout = '300ms'")
    elif ended != "cancelled":
        fast.execute("REVOKE SELECT ON docs FROM searcher")
    else:
        wait = threading.Thread(target=cancel_when_it_waits, args=(coordinator, session, slow))
        wait.start()
    began = time.monotonic()
    with pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege)):
        session.execute(SEARCH)
    assert time.monotonic() - began < 30

    for place in (fast, slow):
        wait_for(lambda place=place: {state for _, state, _ in place.searching()} == {"idle"})
    session.execute("RESET statement_timeout")
    fast.execute("GRANT SELECT ON docs TO searcher")
    slow.execute("SELECT mrl.define_search('docs')")
    assert both(session) == [1, 2]
    assert [place.searching()[0][0] for place in (fast, slow)] == before  # the same connections
    assert session.notices == []


def test_a_part_that_had_not_begun_is_cancelled_again(session, docs):
    """A server takes no notice of a cancellation that comes before it has read the statement."""
    fast, slow = docs[1]
    both(session)
    pids = [place.searching()[0][0] for place in (fast, slow)]
    slow.execute(SLOW)
    fast.execute("REVOKE SELECT ON docs FROM searcher")
    os.kill(pids[1], signal.SIGSTOP)
    later = threading.Timer(1, os.kill, (pids[1], signal.SIGCONT))
    later.start()

    began = time.monotonic()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(SEARCH)
    assert time.monotonic() - began < 30

    later.join()
    fast.execute("GRANT SELECT ON docs TO searcher")
    slow.execute("SELECT mrl.define_search('docs')")
    assert both(session) == [1, 2]
    assert [place.searching()[0][0] for place in (fast, slow)] == pids


def test_a_part_that_does_not_listen_at_all_is_let_go(session, docs):
    fast, slow = docs[1]
    both(session)
    pid = slow.searching()[0][0]
    fast.execute("REVOKE SELECT ON docs FROM searcher")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(SEARCH)
        assert time.monotonic() - began < 30

        fast.execute("GRANT SELECT ON docs TO searcher")
        assert both(session) == [1, 2]
        assert slow.searching()[-1][0] != pid
    finally:
        os.kill(pid, signal.SIGCONT)


def cancel_when_it_waits(coordinator, session, slow):
    wait_for(lambda: any(state == "active" for _, state, _ in slow.searching()))
    coordinator.execute(f"SELECT pg_cancel_backend({session.info.backend_pid})")


def test_a_connection_that_was_left_busy_is_opened_anew(session, docs):
    """As after a second cancellation, of the handler that reads what is left."""
    both(session)
    name = session.execute("SELECT c FROM unnest(dblink_get_connections()) AS c LIMIT 1").fetchone()
    for left in ("SELECT 7::text, NULL::float8", "SELECT pg_sleep(600)::text, NULL::float8"):
        session.execute("SELECT dblink_send_query(%s, %s)", (name[0], left))

        assert both(session) == [1, 2]
        assert both(session) == [1, 2]
        for place in docs[1]:
            wait_for(lambda place=place: [how for _, how, _ in place.searching()] == ["idle"])


def test_what_is_left_of_the_timeout_is_passed_on(session, docs):
    """As keys: the timeouts of the parts, in milliseconds; one has a limit of its own."""
    for place in docs[1]:
        place.execute(
            "CREATE OR REPLACE FUNCTION mrl.search_docs(query vector, k integer DEFAULT 10, "
            "shortlist integer DEFAULT NULL) RETURNS TABLE (id bigint, distance double precision) "
            "LANGUAGE sql AS 'SELECT (1000 * extract(epoch FROM "
            "current_setting(''statement_timeout'')::interval))::bigint, 0.0'"
        )
    docs[1][1].execute("ALTER ROLE searcher SET statement_timeout = 1700")
    try:
        assert sorted(both(session)) == [0, 1700]
        session.execute("SET statement_timeout = '10min'")
        of_second, of_first = sorted(both(session))
        assert of_second == 1700
        assert 300_000 < of_first <= 600_000
        later = "SELECT id FROM pg_sleep(0.2) AS s, mrl.search_docs('[1,0]', 5 + length(s::text))"
        assert max(session.execute(later).fetchall())[0] <= 600_000 - 200
        session.execute("RESET statement_timeout")
        assert sorted(both(session)) == [0, 1700]
    finally:
        docs[1][1].execute("ALTER ROLE searcher RESET statement_timeout")


def test_a_part_that_ends_the_search_by_a_limit_of_its_own_is_named(session, docs):
    docs[1][1].execute(f"{SLOW}; ALTER ROLE searcher SET statement_timeout = 100")
    try:
        with pytest.raises(psycopg.errors.QueryCanceled, match='^part "s2" of .*: cancel'):
            both(session)
    finally:
        docs[1][1].execute("ALTER ROLE searcher RESET statement_timeout")


def test_a_part_that_was_restarted_between_two_searches_is_reconnected(session, docs, second):
    for how in ("fast", "immediate"):
        assert both(session) == [1, 2]
        stop(second, how)
        second.embedded.revive()

        assert both(session) == [1, 2]
    assert session.notices == []


def test_a_part_that_is_down_is_named_and_the_others_are_left_idle(session, docs, second):
    coordinator, parts = docs
    assert both(session) == [1, 2]
    stop(second)
    try:
        named = 'part "s2" of collection "docs".*No such file'
        with pytest.raises(psycopg.Error, match=named) as e:
            both(session)
        assert e.value.sqlstate == "08001"
        wait_for(lambda: [state for _, state, _ in parts[0].searching()] == ["idle"])
        partial = "SELECT id FROM mrl.search_docs('[1,0]', partial => true)"
        for _ in range(2):
            session.notices.clear()
            assert session.execute(partial).fetchall() == [(1,)]
            assert len(session.notices) == 1
            assert session.notices[0].startswith('part "s2" of collection "docs": ')
        coordinator.execute("SELECT mrl.attach_parts('docs', ARRAY['s1'])")
        coordinator.execute("ALTER SERVER s1 OPTIONS (SET host '/nowhere')")
        with pytest.raises(psycopg.Error, match='part "s1".*nowhere'):  # nobody is left to answer
            session.execute(partial)
    finally:
        second.embedded.revive()
        coordinator.execute(f"ALTER SERVER s1 OPTIONS (SET host '{parts[0].address['host']}')")
    coordinator.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 's2'])")
    assert both(session) == [1, 2]


@contextlib.contextmanager
def machine_that_is_gone():
    """A port whose packets nobody answers: the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_machine_that_is_gone_is_named_after_the_time_that_its_server_has(session, docs):
    coordinator, parts = docs
    both(session)
    with machine_that_is_gone() as port:
        gone = {"host": "127.0.0.1", "port": port, "tcp_user_timeout": 1000, "connect_timeout": 2}
        coordinator.execute(foreign_server("gone", parts[1], **gone))
        began = time.monotonic()
        with pytest.raises(psycopg.Error, match='part "gone".*[Tt]ime') as error:
            session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 'gone'])")
        assert time.monotonic() - began < 60  # without the options: two minutes

    assert error.value.sqlstate == "08001"
    assert both(session) == [1, 2]
    coordinator.execute("DROP SERVER gone CASCADE")


def test_a_part_that_says_nothing_is_named_when_the_time_is_over(session, docs, tmp_path):
    """PostgreSQL 16 and later leave connect_timeout to who waits, and dblink does not ask for it."""
    coordinator, parts = docs
    proxy = Proxy(tmp_path, parts[1].address["host"])
    try:
        coordinator.execute(
            foreign_server("deaf", parts[1], host=tmp_path)
            + "SELECT mrl.attach_parts('docs', ARRAY['s1', 'deaf'])"
        )
        assert both(session) == [1, 2]
        session.execute("SELECT dblink_disconnect(c) FROM unnest(dblink_get_connections()) AS c")
        wait_for(lambda: parts[1].searching() == [])
        session.execute("SET statement_timeout = '1500ms'")
        proxy.arm("deaf", 0)

        with pytest.raises(psycopg.errors.QueryCanceled, match='timeout, while part "deaf" of'):
            both(session)

        wait_for(lambda: [state for _, state, _ in parts[0].searching()] == ["idle"])
        session.execute("RESET statement_timeout")
        assert both(session) == [1, 2]  # the next connection is heard
    finally:
        proxy.close()
        coordinator.execute("SELECT mrl.detach_parts('docs'); DROP SERVER deaf CASCADE")


def test_who_lacks_rights_is_told_of_which_part(session, docs):
    coordinator, parts = docs
    coordinator.execute("CREATE ROLE stranger; GRANT USAGE ON SCHEMA mrl TO stranger")
    session.execute("SET ROLE stranger")
    with pytest.raises(psycopg.errors.UndefinedObject, match='part "s1".*user mapping.*stranger'):
        both(session)
    coordinator.execute("CREATE USER MAPPING FOR stranger SERVER s1 OPTIONS (user 'searcher')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match='part "s1".*server s1'):
        both(session)
    coordinator.execute("GRANT USAGE ON FOREIGN SERVER s1, s2 TO stranger")
    with pytest.raises(psycopg.Error, match='part "s1".*password'):
        both(session)  # no other role's, and not that of the coordinator's operating-system user
    session.execute("RESET ROLE")

    parts[1].execute("REVOKE SELECT ON docs FROM searcher")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match='part "s2".*table docs'):
        both(session)
    parts[1].execute("GRANT SELECT ON docs TO searcher")
    assert both(session) == [1, 2]
    coordinator.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_role_with_rights_attaches_and_each_role_uses_its_own_connections(docs):
    """sql/grants.sql, and what docs/servers.md says beside it; no superuser's rights."""
    coordinator, parts = docs
    grants = (statements.sql_folder() / "grants.sql").read_text().replace(':"role"', "app")
    coordinator.execute(
        f"CREATE ROLE app; {grants} GRANT INSERT, UPDATE, DELETE ON mrl.parted TO app; "
        "GRANT USAGE ON FOREIGN SERVER s1, s2 TO app"
    )
    for number in (1, 2):
        coordinator.execute(
            f"CREATE USER MAPPING FOR app SERVER s{number} "
            f"OPTIONS (user 'reader', password '{PASSWORD}')"
        )
    for place in parts:
        place.execute("GRANT SELECT ON mrl.collection, mrl.plan, docs TO reader")
    who = "SELECT key FROM mrl.ask_parts('docs', '{s1,s2}', 'SELECT session_user::text, NULL')"
    with psycopg.connect(coordinator.dsn, autocommit=True) as session:
        assert session.execute(who).fetchall() == [("searcher",), ("searcher",)]
        session.execute("SET ROLE app")
        assert session.execute(who).fetchall() == [("reader",), ("reader",)]
        assert both(session) == [1, 2]
        session.execute("CREATE TEMP TABLE unused ()")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="owner"):
            session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1'])")  # another's function
        session.execute("RESET ROLE")
        session.execute("SELECT mrl.detach_parts('docs')")
        session.execute("SET ROLE app")
        session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 's2'])")
        assert both(session) == [1, 2]
        session.execute("SELECT mrl.detach_parts('docs')")
        session.execute("RESET ROLE")
        assert session.execute(who).fetchall() == [("searcher",), ("searcher",)]
    coordinator.execute("DROP OWNED BY app; DROP ROLE app")
    for place in parts:
        place.execute("DROP OWNED BY reader")


def test_no_password_is_in_a_statement(session, docs):
    coordinator, (_, slow) = docs
    slow.execute(SLOW)
    seen = []

    def look():
        wait_for(lambda: any(state == "active" for _, state, _ in slow.searching()))
        for place in docs[1]:
            seen.extend(query for _, _, query in place.searching())
        seen.extend(row[0] for row in coordinator.execute("SELECT query FROM pg_stat_activity"))
        coordinator.execute(f"SELECT pg_cancel_backend({session.info.backend_pid})")

    thread = threading.Thread(target=look)
    thread.start()
    with pytest.raises(psycopg.errors.QueryCanceled) as error:
        both(session)
    thread.join()

    bodies = "SELECT prosrc FROM pg_proc WHERE pronamespace = 'mrl'::regnamespace"
    seen += [row[0] for row in coordinator.execute(bodies)]
    assert any("search_docs" in query for query in seen)
    assert not [query for query in seen if PASSWORD in query]
    assert PASSWORD not in str(error.value)
