"""sql/parts.sql: one collection in parts on two servers, searched by psql on a third database.

The coordinator and its first part are databases of a PostgreSQL with dblink; the second part is on
a server of its own, which the tests stop and start.
"""

import contextlib
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import contrib
import psycopg
import pytest
from extension.clients import wait_for
from extension.conftest import Server
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proxy import Proxy
from psycopg import conninfo

import mrl_db
from mrl_db.postgres import statements
from mrl_db.postgres.server import programs

pytestmark = pytest.mark.superuser

PASSWORD = "not to be seen"
EXAMPLES = int(os.environ.get("MRL_DB_SERVERS_EXAMPLES", "25"))
SLOW = """
    CREATE OR REPLACE FUNCTION mrl.search_docs(
        query vector, k integer DEFAULT 10, shortlist integer DEFAULT NULL
    )
        RETURNS TABLE (id bigint, distance double precision) LANGUAGE sql
        AS 'SELECT 1, 0.0 FROM pg_sleep(60)'"""
SEARCH = "SELECT id, distance FROM mrl.search_docs('[1,0]', 5)"


class Place:
    """A database on one of the servers."""

    def __init__(self, server, name):
        self.server = server
        self.execute(server.dsn, f"CREATE DATABASE {name}")
        self.dsn = conninfo.make_conninfo(server.dsn, dbname=name)
        self.address = {"host": str(server.embedded._run), "dbname": name}

    def execute(self, *statement):
        *dsn, text = statement
        with psycopg.connect(dsn[0] if dsn else self.dsn, autocommit=True) as session:
            cursor = session.execute(text)
            return cursor.fetchall() if cursor.description else None

    def searching(self):
        """What those who came with the password do here: [(pid, state, query)]."""
        return self.execute(
            "SELECT pid, state, query FROM pg_stat_activity "
            "WHERE usename = 'searcher' AND datname = current_database() ORDER BY pid"
        )


def knowing_passwords(server):
    """Lets the role `searcher` in by its password; no client of the tests comes so."""
    hba = server.home / "server" / "data" / "pg_hba.conf"
    hba.write_text("local all searcher,reader,coordinator scram-sha-256\n" + hba.read_text())
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
        session.execute(f"CREATE ROLE searcher LOGIN PASSWORD '{PASSWORD}'")
        session.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The server with dblink."""
    folder = contrib.installation(tmp_path_factory.mktemp("contrib") / "programs")
    with contrib.in_place_of_the_carried(folder) as major:
        server = Server(tmp_path_factory.mktemp("first"), major)
    knowing_passwords(server)
    yield server
    server.embedded.release()


@pytest.fixture(scope="module")
def second(first, tmp_path_factory, postgres_version):
    server = Server(tmp_path_factory.mktemp("second"), postgres_version)
    knowing_passwords(server)
    yield server
    server.embedded.release()


def stop(server, how="fast"):
    data = server.home / "server" / "data"
    programs.pg_ctl(server.embedded.binaries, data, "stop", "-m", how, "-w")


def psql(server, place, *files):
    """Runs files of sql/ as the page says; returns what psql said."""
    return subprocess.run(
        [
            server.embedded.binaries.program("psql"),
            "-q",
            *(part for file in files for part in ("-f", str(statements.sql_folder() / file))),
            place.dsn,
        ],
        check=False,
        capture_output=True,
        text=True,
    )


def foreign_server(name, place, role="postgres", **options):
    """The SQL of a server with its user mapping."""
    given = {**place.address, **options}
    listed = ", ".join(f"{key} '{value}'" for key, value in given.items())
    return (
        f"CREATE SERVER {name} FOREIGN DATA WRAPPER dblink_fdw OPTIONS ({listed}); "
        f"CREATE USER MAPPING FOR {role} SERVER {name} "
        f"OPTIONS (user 'searcher', password '{PASSWORD}'); "
    )


@pytest.fixture(scope="module")
def places(first, second):
    """The coordinator, its two parts, and a database that holds everything: with nothing in them."""
    coordinator = Place(first, "coordinator")
    coordinator.execute("CREATE EXTENSION vector; CREATE EXTENSION dblink")
    assert psql(second, coordinator, "install.sql").returncode == 0
    said = psql(second, coordinator, "parts.sql")
    assert (said.stderr, said.returncode) == ("", 0)
    parts = [Place(first, "part_1"), Place(second, "part_2")]
    whole = Place(first, "whole")
    for place in (*parts, whole):
        mrl_db.connect(place.dsn).close()
        grants = (statements.sql_folder() / "grants.sql").read_text()
        place.execute(grants.replace(':"role"', "searcher"))
    for number, place in enumerate(parts, 1):
        coordinator.execute(foreign_server(f"s{number}", place))
    return coordinator, parts, whole


def make(place, name="docs", key_type="bigint", rows=(), **further):
    """A collection of two dims and its rows, which `searcher` may read."""
    dims = further.pop("dims", 2)
    arguments = "".join(f", {key} => '{value}'" for key, value in further.items())
    with psycopg.connect(place.dsn, autocommit=True) as session:
        session.execute(
            f"SELECT mrl.create_collection('{name}', {dims}, key_type => '{key_type}'{arguments})"
        )
        session.execute(f'GRANT SELECT ON "{name}" TO searcher')
        insert(session, name, rows)


def insert(session, name, rows):
    if rows:
        into = f'INSERT INTO "{name}" VALUES (%s, %s::real[]::vector)'
        session.cursor().executemany(into, rows)


@pytest.fixture
def docs(places):
    """Two rows in two parts, attached: the coordinator and the parts."""
    coordinator, parts, _ = places
    for number, place in enumerate(parts, 1):
        make(place, rows=[(number, [1, number])])
    coordinator.execute("SELECT mrl.attach_parts('docs', servers => ARRAY['s1', 's2'])")
    yield coordinator, parts
    coordinator.execute("SELECT mrl.detach_parts(name) FROM mrl.parted")
    for place in parts:
        place.execute("SELECT mrl.drop_collection(name) FROM mrl.collection")


@pytest.fixture
def session(docs):
    """A session on the coordinator, whose notices are in `session.notices`."""
    with psycopg.connect(docs[0].dsn, autocommit=True) as opened:
        opened.notices = []
        opened.add_notice_handler(lambda said: opened.notices.append(said.message_primary))
        yield opened


def both(session):
    """The keys that a search finds."""
    return [row[0] for row in session.execute(SEARCH).fetchall()]


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


def test_an_altered_server_is_seen_by_the_next_search(session, docs, places):
    coordinator, parts = docs
    assert both(session) == [1, 2]
    make(places[2], rows=[(70, [1, 0])])
    coordinator.execute("ALTER SERVER s1 OPTIONS (SET dbname 'whole')")
    try:
        assert both(session) == [70, 2]
        wait_for(lambda: parts[0].searching() == [])  # the connection of before is closed
    finally:
        coordinator.execute("ALTER SERVER s1 OPTIONS (SET dbname 'part_1')")
        places[2].execute("SELECT mrl.drop_collection('docs')")
    assert both(session) == [1, 2]


def test_parts_are_attached_again_and_detached(session, docs):
    parts = docs[1]
    assert both(session) == [1, 2]
    session.execute("SELECT mrl.attach_parts('docs', ARRAY['s2'])")
    assert both(session) == [2]
    assert session.execute("SELECT name, servers FROM mrl.parted").fetchall() == [("docs", ["s2"])]

    for place in parts:  # of another kind by now
        place.execute("SELECT mrl.drop_collection('docs')")
        make(place, key_type="text", rows=[("é", [1, 0])], metric="l2")
    session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 's2'])")
    assert both(session) == ["é", "é"]
    session.execute("SELECT mrl.detach_parts('docs')")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        both(session)
    wait_for(lambda: [place.searching() for place in parts] == [[], []])
    with pytest.raises(psycopg.Error, match='no collection "docs" in parts') as error:
        session.execute("SELECT mrl.detach_parts('docs')")
    assert error.value.sqlstate == "MR002"


DIFFERENT = {
    "dims": {"dims": 3},
    "metric": {"metric": "l2"},
    "key type": {"key_type": "integer"},
}


@pytest.mark.parametrize("what", [*DIFFERENT, "key", "vector type", "order of keys"])
def test_parts_that_differ_are_refused_saying_both_sides(session, docs, what):
    for place, other in zip(docs[1], (False, True), strict=True):
        if what in DIFFERENT:
            make(place, "odd", **(DIFFERENT[what] if other else {}))
        else:
            key = "name" if other and what == "key" else "id"
            collation = "here" if other else "there"
            key_type = f"text COLLATE {collation}" if what == "order of keys" else "bigint"
            vector = "halfvec" if other and what == "vector type" else "vector"
            place.execute(
                f"CREATE COLLATION {collation} (provider = libc, locale = 'C.utf8'); "
                f"CREATE TABLE odd ({key} {key_type} PRIMARY KEY, embedding {vector}(2)); "
                f"SELECT mrl.attach('odd', key => '{key}'); GRANT SELECT ON odd TO searcher"
            )

    with pytest.raises(psycopg.Error, match=f'"odd" is not the same.*{what} is .*"s1" and') as e:
        session.execute("SELECT mrl.attach_parts('odd', ARRAY['s1', 's2'])")

    assert e.value.sqlstate == "MR003"
    assert session.execute("SELECT name FROM mrl.parted").fetchall() == [("docs",)]
    for place in docs[1]:
        place.execute("SELECT mrl.drop_collection('odd'); DROP TABLE IF EXISTS odd")
        place.execute("DROP COLLATION IF EXISTS here; DROP COLLATION IF EXISTS there")


EVIL = "bigint, x bigint) LANGUAGE sql AS 'DROP TABLE mrl.parted'; --"


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"key type": EVIL}, "key type"),
        ({"key type": "text", "order of keys": f'collation "C"; {EVIL}'}, "name|collation"),
        ({"key type": "text", "order of keys": 'collation public."none"'}, "collation"),
    ],
)
def test_a_part_cannot_have_the_coordinator_run_its_sql(session, definition, said):
    """What parts say of themselves becomes a function here, made with the rights of who attaches."""
    of_all = {"metric": "l2", "dims": 2, **definition}

    with pytest.raises(psycopg.Error, match=said):
        session.execute(
            "SELECT mrl.define_parted_search('evil', '{s1}', %s)",
            [psycopg.types.json.Jsonb(of_all)],
        )

    assert session.execute("SELECT name FROM mrl.parted").fetchall() == [("docs",)]


def test_keys_with_a_collation_are_merged_in_its_order(session, docs):
    collation = """CREATE COLLATION "Ours" (provider = libc, locale = 'C.utf8')"""
    for place, rows in zip(docs[1], (["b", "Ä"], ["B", "a"]), strict=True):
        values = ", ".join(f"('{key}', '[1,0]')" for key in rows)
        place.execute(
            f'{collation}; CREATE TABLE words (id text COLLATE "Ours" PRIMARY KEY, '
            f"embedding vector(2)); INSERT INTO words VALUES {values}; "
            "SELECT mrl.attach('words'); GRANT SELECT ON words TO searcher"
        )
    attach = "SELECT mrl.attach_parts('words', ARRAY['s1', 's2'])"

    with pytest.raises(psycopg.Error, match='order of collation public."Ours" on the parts'):
        session.execute(attach)
    session.execute(collation)
    session.execute(attach)
    answer = session.execute("SELECT id FROM mrl.search_words('[1,0]', 3)").fetchall()

    assert answer == [("B",), ("a",), ("b",)]
    body = "SELECT prosrc FROM pg_proc WHERE proname = 'search_words'"
    assert 'hit.key COLLATE public."Ours"' in session.execute(body).fetchone()[0]
    session.execute('DROP COLLATION "Ours"')
    for place in docs[1]:
        place.execute("SELECT mrl.drop_collection('words'); DROP TABLE words")
        place.execute('DROP COLLATION "Ours"')


def test_what_cannot_be_attached_is_refused(session, docs, places):
    coordinator, parts = docs
    coordinator.execute(foreign_server("empty", places[0]))
    make(parts[0], "here")
    for servers, said, sqlstate in [
        ("NULL", "wanted the names", "MR003"),
        ("'{}'", "wanted the names", "MR003"),
        ("ARRAY['s1', NULL]", "wanted the names", "MR003"),
        ("ARRAY['s1', 's2', 's1']", '"s1" twice', "MR003"),
        ("ARRAY['s1', 's9']", 'part "s9".*no such foreign server', "MR002"),
        ("ARRAY['s1', 's2']", 'part "s2".*no collection "here"', "MR002"),
    ]:
        with pytest.raises(psycopg.Error, match=said) as error:
            session.execute(f"SELECT mrl.attach_parts('here', {servers})")
        assert error.value.sqlstate == sqlstate
    parts[0].execute("SELECT mrl.drop_collection('here')")
    coordinator.execute("DROP SERVER empty CASCADE")


def test_a_name_is_that_of_one_collection(session, docs):
    with pytest.raises(psycopg.Error, match='"docs" is here in parts already') as error:
        session.execute("SELECT mrl.create_collection('docs', 2)")
    assert error.value.sqlstate == "MR001"
    session.execute("SELECT mrl.create_collection('other', 2)")
    with pytest.raises(psycopg.Error, match='"docs" is here in parts already'):
        session.execute("UPDATE mrl.collection SET name = 'docs' WHERE name = 'other'")
    make(docs[1][0], "other")
    with pytest.raises(psycopg.Error, match='"other" exists already') as error:
        session.execute("SELECT mrl.attach_parts('other', ARRAY['s1'])")
    assert error.value.sqlstate == "MR001"
    session.execute("SELECT mrl.drop_collection('other')")
    docs[1][0].execute("SELECT mrl.drop_collection('other')")


@pytest.mark.parametrize("name", ["100% odd", 'say "it"', "it's $1", "ä{,}\\"])
def test_any_name_will_do(session, docs, name):
    quoted = name.replace('"', '""')
    coordinator, parts = docs
    server = name + " server"
    coordinator.execute(foreign_server(f'"{quoted} server"', parts[0]))
    with psycopg.connect(parts[0].dsn, autocommit=True) as part:
        part.execute("SELECT mrl.create_collection(%s, 2)", [name])
        part.execute(f'GRANT SELECT ON "{quoted}" TO searcher')
        part.execute(f"INSERT INTO \"{quoted}\" VALUES (5, '[1,0]')")

    session.execute("SELECT mrl.attach_parts(%s, ARRAY[%s])", [name, server])

    found = session.execute(f"SELECT id FROM mrl.\"search_{quoted}\"('[1,0]')").fetchall()
    assert found == [(5,)]
    session.execute("SELECT mrl.detach_parts(%s)", [name])
    coordinator.execute(f'DROP SERVER "{quoted} server" CASCADE')
    with psycopg.connect(parts[0].dsn, autocommit=True) as part:
        part.execute("SELECT mrl.drop_collection(%s)", [name])


def test_a_server_whose_machine_may_go_unnoticed_is_told_of(session, docs):
    docs[0].execute(foreign_server("far", docs[1][1], host="127.0.0.1"))  # which listens there not

    with pytest.raises(psycopg.Error, match='part "far".*refused'):
        session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 'far'])")

    assert len(session.notices) == 1
    assert 'server "far" has no tcp_user_timeout' in session.notices[0]
    docs[0].execute("DROP SERVER far CASCADE")


def test_the_script_may_run_again_and_says_what_it_needs(session, docs, second):
    said = psql(second, docs[0], "parts.sql")
    assert (said.stderr, said.returncode) == ("", 0)
    assert both(session) == [1, 2]
    said = psql(second, docs[1][1], "parts.sql")
    assert said.returncode != 0
    assert "CREATE EXTENSION dblink first" in said.stderr
    found = session.execute(
        "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'mrl'::regnamespace "
        "AND (p.prosecdef OR obj_description(p.oid, 'pg_proc') IS NULL)"
    )
    assert found.fetchall() == []


def test_a_dumped_coordinator_is_restored(docs, first, second):
    restored = Place(first, "restored")
    dump = first.embedded.binaries.program("pg_dump")
    text = subprocess.run([dump, docs[0].dsn], capture_output=True, check=True).stdout
    subprocess.run(
        [first.embedded.binaries.program("psql"), "-q", "-v", "ON_ERROR_STOP=1", restored.dsn],
        input=text,
        capture_output=True,
        check=True,
    )

    assert [key for key, _ in restored.execute(SEARCH)] == [1, 2]
    restored.execute(
        "SELECT mrl.attach_parts('docs', ARRAY['s2']); SELECT mrl.detach_parts('docs')"
    )


def test_dblink_may_live_in_any_schema(session, docs):
    docs[0].execute('CREATE SCHEMA "100% odd"; ALTER EXTENSION dblink SET SCHEMA "100% odd"')
    try:
        assert both(session) == [1, 2]
    finally:
        docs[0].execute('ALTER EXTENSION dblink SET SCHEMA public; DROP SCHEMA "100% odd"')


def test_the_page_says_what_to_do(first, second, places):
    """Its blocks, on parts of their own, as they are written but for the hosts."""
    page = Path(__file__).parents[2].joinpath("docs", "servers.md").read_text()
    on_parts, on_coordinator = re.findall(r"^```postgresql\n(.*?)^```$", page, re.M | re.S)
    coordinator = Place(first, "page")
    coordinator.execute("CREATE EXTENSION vector; CREATE EXTENSION dblink")
    assert psql(second, coordinator, "install.sql", "parts.sql").returncode == 0
    for number, server in enumerate((first, second), 1):
        part = Place(server, "app")
        mrl_db.connect(part.dsn).close()
        part.execute(on_parts)
        part.execute(f"INSERT INTO docs VALUES ({number}, '[1, {number}, 0]')")
        host = f"host '{'ab'[number - 1]}.example'"
        assert host in on_coordinator
        on_coordinator = on_coordinator.replace(host, f"host '{part.address['host']}'")
    *before, search = filter(str.strip, on_coordinator.split(";"))

    coordinator.execute(";".join(before))

    assert [key for key, _ in coordinator.execute(search)] == [1, 2]
