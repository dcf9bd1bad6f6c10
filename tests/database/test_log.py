"""The change log: made for readers, short, and no burden for those who write."""

import numpy as np
import psycopg
import pytest
from psycopg import conninfo

import mrl_db

DIMS = 8
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'docs'::regclass AND NOT tgisinternal"
HELD = "SELECT count(*) FROM mrl.change"
ROW = "INSERT INTO docs (id, embedding) SELECT i, array_fill((i / 10.0)::real, ARRAY[8])::vector FROM {} AS i"


@pytest.fixture
def docs(db, rng):
    docs = db.create_collection("docs", dims=DIMS, metric="l2")
    docs.add(np.arange(10), rng.standard_normal((10, DIMS)).astype(np.float32))
    return docs


def nearest(docs, key):
    return docs.search(np.full(DIMS, key / 10, dtype=np.float32), k=1, engine="native").ids[0]


def test_a_collection_that_nobody_reads_in_a_process_has_no_log(docs, execute):
    execute("UPDATE docs SET embedding = embedding")

    assert execute(TRIGGERS) == [(0,)]
    assert execute(HELD) == [(0,)]


def test_the_first_load_makes_the_log_and_a_week_without_readers_ends_it(docs, dsn, execute):
    docs.load(cache=False)
    assert execute(TRIGGERS) == [(4,)]
    execute(ROW.format("generate_series(1000, 1001)"))
    assert nearest(docs, 1000) == 1000
    execute("UPDATE mrl.logged SET needed_until = now() - interval '1 day'")
    mrl_db.connect(dsn).close()
    assert execute(TRIGGERS) == [(4,)]  # a reader is there

    docs.unload()
    execute("UPDATE mrl.logged SET needed_until = now() - interval '1 day'")
    mrl_db.connect(dsn).close()

    assert execute(TRIGGERS) == [(0,)]
    assert execute(HELD) == [(0,)]
    docs.load(cache=False)
    execute(ROW.format("generate_series(2000, 2000)"))
    assert nearest(docs, 2000) == 2000


def test_a_log_in_use_is_left_for_another_time(docs, dsn, execute):
    docs.load(cache=False)
    docs.unload()
    execute("UPDATE mrl.logged SET needed_until = now() - interval '1 day'")
    with psycopg.connect(dsn) as writing:
        writing.execute(ROW.format("generate_series(3000, 3000)"))
        mrl_db.connect(dsn).close()
        assert execute(TRIGGERS) == [(4,)]
        writing.commit()


def test_what_is_written_while_the_log_is_made_is_read(docs, dsn):
    """A transaction that wrote before holds the triggers up, and is in what is loaded."""
    impatient = conninfo.make_conninfo(dsn, options="-c lock_timeout=200ms")
    with mrl_db.connect(impatient) as db, psycopg.connect(dsn) as writing:
        mine = db.open("docs")
        writing.execute(ROW.format("generate_series(4000, 4000)"))
        with pytest.raises(mrl_db.MrlDbError, match="lock timeout"):
            mine.load(cache=False)
        writing.commit()
        mine.load(cache=False)
        assert nearest(mine, 4000) == 4000


def test_a_statement_of_very_many_rows_is_logged_as_any_row(docs, execute):
    docs.load(cache=False)

    execute(ROW.format("generate_series(100000, 200020)"))
    execute("UPDATE docs SET embedding = embedding WHERE id >= 100000")
    execute("DELETE FROM docs WHERE id > 100010")

    assert execute("SELECT count(*), count(integers) FROM mrl.change") == [(3, 0)]
    assert nearest(docs, 100_007) == 100_007
    assert docs.loaded.rows == docs.count()


def test_a_log_without_readers_is_trimmed_by_those_who_write(docs, execute):
    docs.load(cache=False)
    docs.unload()
    for key in range(30):
        execute(ROW.format(f"generate_series({5000 + key}, {5000 + key})"))
    assert execute(HELD)[0][0] > 0

    execute("SELECT mrl.trim_by_chance()")

    assert execute(HELD) == [(0,)]
