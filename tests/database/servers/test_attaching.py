"""sql/parts.sql: which parts are attached, refused, let go, and brought back by a dump."""

import re
import subprocess
from pathlib import Path

import psycopg
import pytest
import standbys
from database.servers.places import (
    SEARCH,
    Place,
    both,
    foreign_server,
    knowing_passwords,
    make,
    psql,
)
from extension.clients import wait_for

import mrl_db

pytestmark = pytest.mark.superuser


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


def test_two_servers_that_are_one_database_are_refused(session, docs):
    session.execute(foreign_server("s1_again", docs[1][0]))
    try:
        with pytest.raises(psycopg.Error, match='"s1" and "s1_again" have the same rows') as error:
            session.execute("SELECT mrl.attach_parts('docs', ARRAY['s1', 's2', 's1_again'])")
    finally:
        session.execute("DROP SERVER s1_again CASCADE")

    assert error.value.sqlstate == "MR003"
    assert both(session) == [1, 2]


def test_a_primary_and_its_standby_are_refused(session, docs, tmp_path, postgres_version):
    primary = standbys.new_primary(tmp_path, postgres_version)
    try:
        knowing_passwords(primary)
        place = Place(primary, "copied")
        place.install()
        make(place)
        with standbys.standby_of(primary) as standby:
            session.execute(foreign_server("of_primary", place))
            session.execute(foreign_server("of_standby", place, port=standby.port))
            with pytest.raises(
                psycopg.Error, match='"of_primary" and "of_standby" have the same rows'
            ):
                session.execute(
                    "SELECT mrl.attach_parts('docs', ARRAY['of_primary', 'of_standby'])"
                )
    finally:
        session.execute("DROP SERVER of_primary, of_standby CASCADE")
        primary.embedded.release()
    assert both(session) == [1, 2]


DIFFERENT = {
    "dims": {"dims": 3},
    "metric": {"metric": "l2"},
    "key type": {"key_type": "integer"},
}


@pytest.mark.parametrize("what", [*DIFFERENT, "key", "vector type"])
def test_parts_that_differ_are_refused_saying_both_sides(session, docs, what):
    for place, other in zip(docs[1], (False, True), strict=True):
        if what in DIFFERENT:
            make(place, "odd", **(DIFFERENT[what] if other else {}))
        else:
            key = "name" if other and what == "key" else "id"
            vector = "halfvec" if other and what == "vector type" else "vector"
            place.execute(
                f"CREATE TABLE odd ({key} bigint PRIMARY KEY, embedding {vector}(2)); "
                f"SELECT mrl.attach('odd', key => '{key}'); GRANT SELECT ON odd TO searcher"
            )

    with pytest.raises(psycopg.Error, match=f'"odd" is not the same.*{what} is .*"s1" and') as e:
        session.execute("SELECT mrl.attach_parts('odd', ARRAY['s1', 's2'])")

    assert e.value.sqlstate == "MR003"
    assert session.execute("SELECT name FROM mrl.parted").fetchall() == [("docs",)]
    for place in docs[1]:
        place.execute("SELECT mrl.drop_collection('odd'); DROP TABLE IF EXISTS odd")


@pytest.mark.parametrize("partial", ["false", "true"])
def test_a_part_that_was_made_anew_and_is_another_one_is_not_merged(session, docs, partial):
    assert both(session) == [1, 2]
    docs[1][1].execute("SELECT mrl.drop_collection('docs')")
    make(docs[1][1], rows=[(2, [1, 2])], metric="l2")
    search = f"SELECT id FROM mrl.search_docs('[1,0]', 5, partial => {partial})"

    with pytest.raises(psycopg.Error, match='"docs" is another one on "s2" than when') as error:
        session.execute(search)
    assert error.value.sqlstate == "MR003"

    docs[1][1].execute("SELECT mrl.drop_collection('docs')")
    make(docs[1][1], rows=[(3, [1, 2])])
    assert both(session) == [1, 3]


EVIL = "bigint, x bigint) LANGUAGE sql AS 'DROP TABLE mrl.parted'; --"


def test_a_part_cannot_have_the_coordinator_run_its_sql(session):
    """What parts say of themselves becomes a function here, made with the rights of who attaches."""
    of_all = {"metric": "l2", "dims": 2, "key type": EVIL}

    with pytest.raises(psycopg.Error, match="key type"):
        session.execute(
            "SELECT mrl.define_parted_search('evil', '{s1}', %s)",
            [psycopg.types.json.Jsonb(of_all)],
        )

    assert session.execute("SELECT name FROM mrl.parted").fetchall() == [("docs",)]


def test_keys_are_merged_in_the_order_of_their_bytes_whatever_their_collation(session, docs):
    for place, rows in zip(docs[1], (["b", "Ä"], ["B", "a"]), strict=True):
        values = ", ".join(f"('{key}', '[1,0]')" for key in rows)
        place.execute(
            """CREATE COLLATION "Ours" (provider = libc, locale = 'C.utf8'); """
            'CREATE TABLE words (id text COLLATE "Ours" PRIMARY KEY, '
            f"embedding vector(2)); INSERT INTO words VALUES {values}; "
            "SELECT mrl.attach('words'); GRANT SELECT ON words TO searcher"
        )

    session.execute("SELECT mrl.attach_parts('words', ARRAY['s1', 's2'])")

    answer = session.execute("SELECT id FROM mrl.search_words('[1,0]', 3)").fetchall()
    assert answer == [("B",), ("a",), ("b",)]
    body = "SELECT prosrc FROM pg_proc WHERE proname = 'search_words'"
    assert 'hit.key COLLATE "C"' in session.execute(body).fetchone()[0]
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
    page = Path(__file__).parents[3].joinpath("docs", "servers.md").read_text()
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
