"""Readers of the change log: how long it is kept for them, their connections, processes and rights."""

import os
import threading
from functools import partial

import followed
import numpy as np
import psycopg
import pytest
from followed import (
    DIMS,
    ROW,
    Clock,
    N,
    assert_equal_to_the_database,
    changes,
    load_following,
    nearest,
    text,
)

import mrl_db
from mrl_db.engines.native import catching_up
from mrl_db.model import filters
from mrl_db.postgres import written
from mrl_db.postgres.request import Request

# Readers and the length of the log


def test_the_log_is_kept_for_readers_and_cut_behind_them(docs, vectors, execute):
    clock = Clock()
    load_following(docs, clock=clock)
    for i in range(N, N + 10):
        execute(ROW, (i, text(vectors[i])))
    assert changes(execute) >= 10

    assert execute("SELECT mrl.trim_changes()")[0][0] == 0  # the reader has not acknowledged
    assert nearest(docs, vectors[N + 3])[0] == N + 3
    clock.ahead += 61
    nearest(docs, vectors[0])

    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0
    docs.unload()
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 0


def test_a_reader_whose_lease_ended_finds_what_was_cut_away(docs, vectors, execute):
    execute("UPDATE mrl.reader SET lease = clock_timestamp() - interval '1 second'")
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM docs WHERE id = 5")
    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0

    assert nearest(docs, vectors[N])[0] == N
    assert_equal_to_the_database(docs, vectors[:3])
    execute("DELETE FROM docs WHERE id = 6")
    assert nearest(docs, vectors[6])[0] != 6


@pytest.mark.parametrize(
    "cut", ["DELETE FROM mrl.change", "TRUNCATE mrl.change", "DELETE FROM mrl.reader"]
)
@pytest.mark.superuser
def test_a_log_that_was_cut_by_hand_is_noticed_at_once(docs, vectors, execute, cut):
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM docs WHERE id = 5")
    execute(cut)
    execute("DELETE FROM mrl.change")
    assert_equal_to_the_database(docs, vectors[:3])
    generation = docs.loaded.generation
    execute("DELETE FROM mrl.change")  # nothing that was needed
    nearest(docs, vectors[0])
    assert docs.loaded.generation == generation


def test_the_health_of_the_log(docs, vectors, execute):
    execute(ROW, (N, text(vectors[N])))
    held, readers, logged = docs.log_health()
    assert held >= 1
    assert (readers, logged) == (1, True)
    execute("DROP TRIGGER mrl_log_update ON docs")
    assert docs.log_health()[2] is False


def test_a_dead_reader_holds_nothing(execute, docs, vectors):
    execute(
        "INSERT INTO mrl.reader (relation, lease) "
        "VALUES ('docs'::regclass, clock_timestamp() - interval '1 s')"
    )
    docs.unload()
    execute(ROW, (N, text(vectors[N])))
    execute("SELECT mrl.trim_changes()")
    assert changes(execute) == 0
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 0


def test_another_history_of_the_database_is_noticed(docs, vectors, execute):
    """As after a restored backup: the reader's token is gone, and rows differ without a log."""
    execute("DELETE FROM docs WHERE id < 50")
    execute(ROW, (N, text(vectors[N])))
    execute("DELETE FROM mrl.change")
    execute("UPDATE mrl.reader SET token = gen_random_uuid()")
    live = docs.loaded._live
    live._position = type(live._position)("1:1:", "another start", live._position.fingerprint)

    assert_equal_to_the_database(docs, vectors[:3])
    execute("DELETE FROM docs WHERE id = 60")
    assert_equal_to_the_database(docs, vectors[:3])


def while_rows_are_read(engine, happens):
    """Lets something happen whenever all rows have just been read, before they are taken."""
    read = engine._live._read

    def read_and_wait(*args):
        made = read(*args)
        happens()
        return made

    engine._live._read = read_and_wait


def test_an_index_that_was_built_anew_has_seen_what_the_one_before_has(docs, vectors, execute):
    """A search that has synced by the old one may search the new one."""
    engine = load_following(docs)
    first = engine.index

    def others_write():
        execute(ROW, (N, text(vectors[N])))
        execute("DELETE FROM docs WHERE id = 5")
        assert nearest(docs, vectors[N])[0] == N

    while_rows_are_read(engine, others_write)
    engine._live.rebuild(threading.Event())

    assert engine.index is not first
    assert engine.search_one(vectors[N], 1).ids.tolist() == [N]
    assert engine.search_one(vectors[5], 1).ids.tolist() != [5]
    execute("DELETE FROM docs WHERE id = 6")
    assert_equal_to_the_database(docs, vectors[:3])


def test_searches_go_on_while_all_rows_are_read_again(docs, vectors, execute):
    engine = load_following(docs)
    first, found = engine.index, []

    def another_searches():
        execute(ROW, (N, text(vectors[N])))
        other = threading.Thread(
            target=lambda: found.append(nearest(docs, vectors[N])[0]), daemon=True
        )
        other.start()
        other.join(30)
        assert found == [N]

    while_rows_are_read(engine, another_searches)
    docs.refresh()

    assert engine.index is not first
    assert nearest(docs, vectors[N])[0] == N
    assert_equal_to_the_database(docs, vectors[:3])


def test_a_write_while_a_search_asks_is_seen_by_the_next_one(db, vectors, monkeypatch):
    """Own writes are seen, whatever staleness is allowed, by a sync that asked before or after."""
    docs = followed.loaded(db, vectors)
    docs.load(cache=False, max_staleness=600)
    log = docs._opened.engines["native"]._live._log
    news = log.news

    def ask_and_write(*args):
        answer = news(*args)
        monkeypatch.undo()
        docs.add([2 * N], vectors[N : N + 1])
        return answer

    monkeypatch.setattr(log, "news", ask_and_write)
    docs.add([2 * N + 1], vectors[N + 1 : N + 2])
    assert nearest(docs, vectors[N + 1])[0] == 2 * N + 1
    assert nearest(docs, vectors[N])[0] == 2 * N


@pytest.mark.parametrize("used", ["now", "before"])
@pytest.mark.parametrize("way", ["with the news", "by a statement", "copied"])
@pytest.mark.parametrize("when", ["before they are fetched", "and then"])
def test_rows_that_pass_a_filter_are_asked_again_after_a_write(
    docs, vectors, execute, monkeypatch, used, way, when
):
    """What a search beside the write has noted of them may lack those that were written."""
    engine, searched = docs._opened.engines["native"], []
    request = Request(engine.info, filters.parse({"year": 77}, docs.columns), ())
    copy_rows, fetch, news = catching_up.copy_rows, written.rows, written.news

    def search():
        searched.append(engine.search(request, vectors[N : N + 1], engine.plan(1)))

    def search_meanwhile(fetched, *args):
        if when == "before they are fetched":
            search()
        answer = fetched(*args)
        if when == "and then":
            search()
        return answer

    def copied(*args):
        return iter(search_meanwhile(lambda *given: list(copy_rows(*given)), *args))

    if used == "before":
        search()
    monkeypatch.setattr(catching_up, "copy_rows", copied)
    monkeypatch.setattr(written, "rows", partial(search_meanwhile, fetch))
    monkeypatch.setattr(written, "news", partial(search_meanwhile, news))
    if way != "with the news":
        monkeypatch.setattr(written, "news", lambda log, *args: log.news(*args[:3]))
    if way == "copied":
        monkeypatch.setattr(written, "MOST", 0)
    searched.clear()
    execute(
        "INSERT INTO docs (id, year, embedding) VALUES (%s, 77, %s::vector)", (N, text(vectors[N]))
    )

    for _ in range(2):
        assert nearest(docs, vectors[N], where={"year": 77})[0] == N
    assert searched


def test_a_collection_that_grew_is_built_anew_while_searches_go_on(db, vectors):
    docs = db.create_collection("docs", dims=DIMS)
    engine = load_following(docs, grown=100)
    first = engine.index

    for begin in range(0, N, 50):
        docs.add(np.arange(begin, begin + 50), vectors[begin : begin + 50])
        assert docs.search(vectors[begin : begin + 50], k=1).ids[:, 0].tolist() == list(
            range(begin, begin + 50)
        )

    engine.settle()
    assert engine.index is not first
    docs.delete([3])
    assert_equal_to_the_database(docs, vectors[:3])
    docs.unload()


def test_another_collection_in_its_place_is_built_anew(docs, vectors, execute):
    first = load_following(docs, few=100).index
    with_all = "INSERT INTO docs (id, embedding) SELECT id + 1000, embedding FROM copied"
    execute(f"CREATE TABLE copied AS TABLE docs; TRUNCATE docs; {with_all}; DROP TABLE copied")
    assert_equal_to_the_database(docs, vectors[:3])
    assert docs.loaded.index is not first


# Connections and processes


def test_a_connection_that_was_cut_is_made_again(docs, vectors, execute, dsn):
    nearest(docs, vectors[0])
    execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    execute(ROW, (N, text(vectors[N])))
    assert nearest(docs, vectors[N])[0] == N


def test_a_forked_child_follows_for_itself(docs, vectors, execute):
    nearest(docs, vectors[0])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"no"
        try:
            execute(ROW, (N, text(vectors[N])))
            if nearest(docs, vectors[N])[0] == N:
                execute("DELETE FROM docs WHERE id = 3")
                if nearest(docs, vectors[3])[0] != 3:
                    answer = b"yes"
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 3) == b"yes"
    assert nearest(docs, vectors[N])[0] == N
    assert nearest(docs, vectors[3])[0] != 3
    assert execute("SELECT count(*) FROM mrl.reader")[0][0] == 2


@pytest.mark.superuser
def test_roles_with_only_the_documented_rights(docs, vectors, execute, dsn):
    execute("DROP ROLE IF EXISTS reader_of_docs; DROP ROLE IF EXISTS writer_of_docs")
    execute("CREATE ROLE reader_of_docs; CREATE ROLE writer_of_docs")
    execute(
        "GRANT SELECT ON docs TO reader_of_docs; "
        "GRANT INSERT, UPDATE, DELETE, SELECT ON docs TO writer_of_docs"
    )
    execute("GRANT SELECT ON mrl.collection, mrl.plan, mrl.migration TO reader_of_docs")
    as_reader = psycopg.conninfo.make_conninfo(dsn, options="-c role=reader_of_docs")
    try:
        with mrl_db.connect(as_reader) as db:
            mine = db.open("docs")
            with pytest.raises(mrl_db.PrivilegeError, match="mrl.reader"):
                mine.load()
            mine.load(max_staleness=float("inf"))
            execute(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON mrl.reader TO reader_of_docs; "
                "GRANT SELECT ON mrl.change TO reader_of_docs"
            )
            clock = Clock()
            load_following(mine, clock=clock)
            with psycopg.connect(dsn, autocommit=True) as writer:  # it knows nothing of mrl
                writer.execute("SET ROLE writer_of_docs")
                writer.execute(ROW, (N, text(vectors[N])))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writer.execute("DELETE FROM mrl.change")
            assert nearest(mine, vectors[N])[0] == N
            clock.ahead += 61
            assert nearest(mine, vectors[N])[0] == N
            execute("REVOKE SELECT ON docs FROM reader_of_docs")
            with pytest.raises(mrl_db.PrivilegeError):
                nearest(mine, vectors[N])
    finally:
        execute(
            "DROP OWNED BY reader_of_docs, writer_of_docs; DROP ROLE reader_of_docs, writer_of_docs"
        )


def test_dropping_an_attached_collection_takes_its_triggers_away(db, execute):
    execute(f"CREATE TABLE notes (id bigint PRIMARY KEY, embedding vector({DIMS}))")
    db.attach("notes", low_dim="index").load(cache=False)
    count = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'notes'::regclass AND NOT tgisinternal"
    assert execute(count)[0][0] == 4

    db.drop("notes")

    assert execute(count)[0][0] == 0
