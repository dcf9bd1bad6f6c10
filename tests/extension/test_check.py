"""mrl_check_index finds what is damaged, and mrl_index_info says what is there."""

from __future__ import annotations

import struct

import numpy as np
import psycopg
import pytest
from extension.tables import clustered, fill, nearest

import mrl_db

DIMS = 32
ROWS = clustered(1600, DIMS)
PAGE, HEAD, MAGIC = 8192, 64, 0x6D726C31
LINKS, LINES, TABLE_ROWS, INCLUDED = range(4)  # sections
TAILS_AT = HEAD + (PAGE - HEAD) // (64 + 16) * 64  # codes of 32 dims take 64 bytes


@pytest.fixture
def docs(connection):
    """A table of 1,300 rows with an index, and 300 rows that came later."""
    fill(connection, ROWS[:1300], column=f"vector({DIMS})")
    connection.execute(
        "CREATE INDEX docs_mrl ON docs USING mrl (embedding vector_l2_ops) INCLUDE (kind)"
    )
    fill(connection, ROWS[1300:], first=1300)
    return connection


def check(session, heap=True):
    return session.execute("SELECT mrl_check_index('docs_mrl', %s)", (heap,)).fetchone()[0]


def info(session):
    cursor = session.execute("SELECT * FROM mrl_index_info('docs_mrl')")
    names = [column.name for column in cursor.description]
    return dict(zip(names, cursor.fetchone(), strict=True))


def test_an_index_is_whole_through_its_life(docs):
    assert check(docs) == 1600
    assert info(docs)["waiting"] == 300
    docs.execute("VACUUM docs")
    assert check(docs) == 1600
    docs.execute("UPDATE docs SET kind = 0 WHERE id % 5 = 0")
    docs.execute("UPDATE docs SET embedding = NULL WHERE id % 7 = 0")
    docs.execute("DELETE FROM docs WHERE id % 3 = 0")
    live = docs.execute("SELECT count(embedding) FROM docs").fetchone()[0]
    assert check(docs) >= live  # rows that are gone and no VACUUM has seen

    docs.execute("VACUUM docs")  # makes a graph without the dead

    assert check(docs) == live
    fill(docs, ROWS[:300], first=5000)
    assert check(docs) == live + 300
    docs.execute("VACUUM docs")
    assert check(docs) == live + 300


def test_what_an_index_says_of_itself(docs):
    docs.execute("ALTER INDEX docs_mrl SET (effort = 77)")
    docs.execute("DELETE FROM docs WHERE id < 50")
    docs.execute("VACUUM docs")

    said = info(docs)
    assert said.pop("default_recall") >= 0.96
    assert said == {
        "rows": 1550,
        "dead": 50,
        "waiting": 0,
        "free": 0,
        "bytes": docs.execute("SELECT pg_relation_size('docs_mrl')").fetchone()[0],
        "dims": DIMS,
        "code_dims": DIMS,
        "entries": 193,  # one for each eight rows, as they are few
        "generation": 0,
        "fitted": 1300,
        "effort": 77,
        "default_effort": 64,
        "default_queries": 1300 // 16,
    }


def page_of(data, section, number):
    for at in range(0, len(data), PAGE):
        magic, _, its_section, its_number = struct.unpack_from("<IHHI", data, at + 24)
        if (magic, its_section, its_number) == (MAGIC, section, number):
            return at
    raise AssertionError("no such page")


def damage_link(data):
    struct.pack_into("<I", data, page_of(data, LINKS, 2) + HEAD + 5 * 128, 1_000_000)
    return "slot 131 links to 1000000, of 1600 slots"


def damage_label(data):
    struct.pack_into("<H", data, page_of(data, LINES, 1) + 24 + 4 + 2, LINKS)
    return "is not page 1 of section 1"


def damage_tail(data):
    page = page_of(data, TABLE_ROWS, 0)
    data[page + TAILS_AT : page + TAILS_AT + 16] = data[page + TAILS_AT + 16 : page + TAILS_AT + 32]
    return "stands in it twice"


def damage_flags(data):
    struct.pack_into("<H", data, page_of(data, TABLE_ROWS, 0) + TAILS_AT + 14, 1)  # dead
    return 'of table "docs" is not in it'


def damage_item(data):
    # Of items of 8 bytes all states come first, of 4 bytes each with what aligns the values.
    kinds = page_of(data, INCLUDED, 0) + HEAD + (PAGE - HEAD) // 8 * 4
    struct.pack_into("<i", data, kinds + 7 * 4, -1)
    return "the included columns of slot 7 are not those of row"


DAMAGES = [damage_link, damage_label, damage_tail, damage_flags, damage_item]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(docs, extension_server, new_database, damage):
    docs.execute("VACUUM docs")
    path = docs.execute("SELECT pg_relation_filepath('docs_mrl')").fetchone()[0]
    docs.execute("CHECKPOINT")
    file = extension_server.home / "server" / "data" / path
    data = bytearray(file.read_bytes())
    message = damage(data)
    file.write_bytes(data)

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET ignore_checksum_failure = on")  # PostgreSQL's own would say it first
        with pytest.raises(psycopg.errors.IndexCorrupted, match=message):
            check(session)
        session.execute("REINDEX INDEX docs_mrl")
        assert check(session) == 1600


def test_an_index_of_another_format_says_that_it_must_be_made_anew(
    docs, extension_server, new_database
):
    path = docs.execute("SELECT pg_relation_filepath('docs_mrl')").fetchone()[0]
    docs.execute("CHECKPOINT")
    file = extension_server.home / "server" / "data" / path
    data = bytearray(file.read_bytes())
    (format_now,) = struct.unpack_from("<H", data, 24 + 4)
    struct.pack_into("<H", data, 24 + 4, format_now - 1)
    file.write_bytes(data)

    extension_server.kill()

    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET ignore_checksum_failure = on; SET enable_seqscan = off")
        said = f"of format {format_now - 1}, and this library reads format {format_now}"
        for ask in (lambda: nearest(session, ROWS[0], operator="<->"), lambda: info(session)):
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=said) as refused:
                ask()
            assert refused.value.diag.message_hint == "REINDEX it."
        session.execute("REINDEX INDEX docs_mrl")
        assert len(nearest(session, ROWS[0], operator="<->")) == 10
        assert check(session) == 1600


def test_a_crash_in_a_refit_loses_no_pages_for_long(docs, extension_server, new_database):
    """Pages that belong to nothing, as such a crash leaves them: VACUUM makes them free."""
    path = docs.execute("SELECT pg_relation_filepath('docs_mrl')").fetchone()[0]
    docs.execute("CHECKPOINT")
    file = extension_server.home / "server" / "data" / path
    data = file.read_bytes()
    page = page_of(data, LINKS, 0)
    file.write_bytes(data + data[page : page + PAGE] * 20 + bytes(PAGE))
    extension_server.kill()
    warnings = []
    with psycopg.connect(new_database, autocommit=True) as session:
        session.execute("SET enable_seqscan = off; SET ignore_checksum_failure = on")
        session.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
        check(session)
        assert [w for w in warnings if "docs_mrl" in w] == [
            'index "docs_mrl": 21 pages belong to nothing'
        ]
        warnings.clear()
        before = info(session)["bytes"]

        session.execute("VACUUM docs")

        session.execute("SET ignore_checksum_failure = off")
        check(session)
        assert not [w for w in warnings if "docs_mrl" in w]
        fill(session, ROWS[:300] + np.float32(0.01), first=2000)  # they are used
        assert info(session)["bytes"] == before
        assert len(nearest(session, ROWS[3], 5000, "<->")) == check(session) == 1900


def test_only_its_owner_checks_an_index_of_kind_mrl(docs):
    docs.execute("CREATE INDEX docs_hnsw ON docs USING hnsw (embedding vector_l2_ops)")
    for name, function in [("docs_hnsw", "mrl_check_index"), ("docs_hnsw", "mrl_index_info")]:
        with pytest.raises(psycopg.errors.WrongObjectType, match="kind mrl"):
            docs.execute(f"SELECT {function}('{name}')")
    with pytest.raises(psycopg.errors.WrongObjectType, match="not an index"):
        docs.execute("SELECT mrl_check_index('docs')")
    docs.execute("CREATE ROLE stranger; SET ROLE stranger")
    try:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of index"):
            docs.execute("SELECT mrl_check_index('docs_mrl')")
    finally:
        docs.execute("RESET ROLE; DROP ROLE stranger")


def test_the_schema_mrl_has_them_where_collections_are(docs, new_database):
    with mrl_db.connect(new_database) as db:
        db.create_collection("kept", dims=4)
    docs.execute("CREATE SCHEMA elsewhere; ALTER EXTENSION mrl_db SET SCHEMA elsewhere")

    assert docs.execute("SELECT mrl.check_index('docs_mrl', true)").fetchone() == (1600,)
    assert docs.execute("SELECT mrl.index_info('docs_mrl') ->> 'rows'").fetchone() == ("1600",)

    docs.execute("DROP EXTENSION mrl_db CASCADE")
    with pytest.raises(psycopg.errors.UndefinedFunction, match="extension mrl_db is not in"):
        docs.execute("SELECT mrl.check_index('docs'::regclass)")
