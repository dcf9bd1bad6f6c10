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


def test_a_statement_of_very_many_rows_is_logged_as_any_row(docs, execute, log_kind):
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


FUNCTIONS = "SELECT proname::text FROM pg_proc WHERE proname LIKE 'log\\_of\\_%'"
CALLED = "SELECT DISTINCT tgfoid::regproc::text FROM pg_trigger WHERE tgname LIKE 'mrl\\_log\\_%'"


def test_the_functions_of_the_log_go_with_its_triggers(docs, execute, log_kind):
    docs.load(cache=False)
    own = "mrl_log_change" if log_kind == "compiled" else "mrl.log_of_docs"
    assert execute(CALLED) == [(own,)]

    execute("SELECT mrl.unlog_changes('docs')")

    assert execute(TRIGGERS) == [(0,)]
    assert execute(FUNCTIONS) == []


@pytest.mark.parametrize("first", ["SELECT", "DROP TABLE docs"])
def test_the_function_goes_with_its_collection(db, docs, execute, first, log_kind):
    docs.load(cache=False)
    execute(first)

    db.drop("docs")

    assert execute(FUNCTIONS) == []


@pytest.mark.parametrize(
    ("key_type", "name"),
    [("smallint", "SELECT"), ("integer", "r"), ("uuid", "keys"), ("varchar(9)", 'a"{type}%s')],
)
def test_keys_of_every_type_and_name_are_logged_by_their_values(
    db, execute, log_kind, key_type, name
):
    column = '"' + name.replace('"', '""') + '"'
    execute(f"CREATE TABLE t ({column} {key_type} PRIMARY KEY, embedding vector(8))")
    docs = db.attach("t", key=name)
    docs.load(cache=False)
    key = "gen_random_uuid()" if key_type == "uuid" else "7"

    execute(f"INSERT INTO t VALUES ({key}, '[1,2,3,4,5,6,7,8]')")
    execute("UPDATE t SET embedding = '[1,0,0,0,0,0,0,0]'")  # its key before, and after
    execute("UPDATE t SET embedding = embedding WHERE false")
    if key_type != "uuid":
        execute(f"UPDATE t SET {column} = '8'")
    execute("DELETE FROM t")

    logged = "SELECT cardinality(coalesce(integers::text[], uuids::text[], texts)) FROM mrl.change"
    same = 1 if log_kind == "compiled" else 2  # that an UPDATE left as it was, and is alone
    counts = [1, same, 2, 1] if key_type != "uuid" else [1, same, 1]
    assert [row[0] for row in execute(f"{logged} ORDER BY xid")] == counts
    assert docs.loaded.rows == 0 or len(docs.search(np.ones(8), k=1, engine="native").ids) == 0


def test_of_an_update_the_keys_that_stayed_are_logged_once(docs, execute, log_kind):
    docs.load(cache=False)
    execute("UPDATE docs SET embedding = embedding")
    execute("UPDATE docs SET id = id + 100")

    assert execute("SELECT cardinality(integers) FROM mrl.change ORDER BY xid") == [(10,), (20,)]
    assert sorted(docs.search(np.ones(DIMS), k=10).ids.tolist()) == list(range(100, 110))


@pytest.mark.parametrize(
    "change",
    [
        "RENAME COLUMN id TO other",
        "ALTER COLUMN id TYPE text USING 'a' || id",
        "ALTER COLUMN id TYPE uuid USING gen_random_uuid()",
    ],
)
def test_a_key_that_was_renamed_or_became_another_stops_nobody_who_writes(
    docs, execute, log_kind, change
):
    docs.load(cache=False)
    execute(ROW.format("generate_series(10, 11)"))
    execute("DELETE FROM mrl.change")

    execute(f"ALTER TABLE docs {change}")
    execute("UPDATE docs SET embedding = embedding")
    execute("DELETE FROM docs")

    assert execute("SELECT count(*), count(integers) FROM mrl.change") == [(2, 0)]


@pytest.mark.superuser  # writes to the catalogue itself
def test_a_log_of_another_key_is_made_anew(docs, execute, log_kind):
    docs.load(cache=False)
    docs.unload()
    execute("ALTER TABLE docs RENAME COLUMN id TO number")
    with pytest.raises(psycopg.Error, match='lost its column "id"'):
        execute("SELECT mrl.log_changes('docs')")
    execute("UPDATE mrl.collection SET key_column = 'number'")
    assert docs.log_health()[2] is False

    execute("SELECT mrl.log_changes('docs')")

    assert docs.log_health()[2] is True
    execute("UPDATE docs SET embedding = embedding WHERE number = 3")
    assert execute("SELECT integers FROM mrl.change") == [
        ([3] if log_kind == "compiled" else [3, 3],)
    ]


def test_a_log_goes_with_the_extension_and_its_reader_makes_another(docs, execute, as_superuser):
    docs.load(cache=False)
    assert nearest(docs, 3) in range(10)

    as_superuser("DROP EXTENSION mrl_db")
    execute(ROW.format("generate_series(1000, 1000)"))  # is logged nowhere

    assert nearest(docs, 1000) == 1000
    assert execute(CALLED) == [("mrl.log_of_docs",)]
    execute(ROW.format("generate_series(2000, 2000)"))
    assert execute(HELD) == [(1,)]
    assert nearest(docs, 2000) == 2000


def test_a_log_in_sql_becomes_the_extensions_when_it_is_made_again(docs, execute, as_superuser):
    as_superuser("DROP EXTENSION mrl_db")
    docs.load(cache=False)
    as_superuser("CREATE EXTENSION mrl_db")
    execute(ROW.format("generate_series(1000, 1000)"))
    assert docs.log_health()[2] is True
    assert nearest(docs, 1000) == 1000

    execute("SELECT mrl.log_changes('docs')")

    assert execute(CALLED) == [("mrl_log_change",)]
    assert execute(FUNCTIONS) == []
    execute(ROW.format("generate_series(2000, 2000)"))
    assert nearest(docs, 2000) == 2000


def test_other_triggers_and_rules_of_rights_go_beside_the_log(docs, execute, as_superuser):
    """Transition tables are shared with the user's own triggers, whichever comes first."""
    docs.load(cache=False)
    execute("CREATE TABLE seen (n bigint)")
    execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen SELECT count(*) FROM rows_; RETURN NULL; END $$"
    )
    for name in ("aa", "zz"):
        execute(
            f"CREATE TRIGGER {name} AFTER INSERT ON docs REFERENCING NEW TABLE AS rows_ "
            "FOR EACH STATEMENT EXECUTE FUNCTION note()"
        )

    execute(ROW.format("generate_series(20, 22)"))
    execute(
        f"{ROW.format('generate_series(22, 24)')} ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding"
    )

    assert execute("SELECT n FROM seen") == [(3,), (3,), (2,), (2,)]
    logged = [
        sorted(row[0]) for row in execute("SELECT integers FROM mrl.change ORDER BY xid, integers")
    ]
    assert sorted(logged) == [[20, 21, 22], [22], [23, 24]]


def test_the_function_of_the_extension_is_no_way_around(docs, execute):
    """It writes as who writes to the table, and only where mrl.log_changes() puts it."""
    execute("CREATE TABLE other (id bigint)")
    for when, level in (("BEFORE", "STATEMENT"), ("AFTER", "ROW")):
        execute(
            f"CREATE OR REPLACE TRIGGER odd {when} INSERT ON other FOR EACH {level} "
            "EXECUTE FUNCTION mrl_log_change('id', 'integers')"
        )
        with pytest.raises(psycopg.Error, match="is for the triggers that"):
            execute("INSERT INTO other VALUES (1)")
    with pytest.raises(psycopg.Error, match="trigger"):
        execute("SELECT mrl_log_change()")


@pytest.mark.superuser
def test_who_may_not_write_to_the_log_may_not_by_the_extensions_trigger(docs, execute):
    docs.load(cache=False)
    execute("REVOKE INSERT ON mrl.change FROM PUBLIC; DROP ROLE IF EXISTS mrl_log_guest")
    execute("CREATE ROLE mrl_log_guest; GRANT ALL ON docs TO mrl_log_guest")

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="change"):
        execute(f"SET ROLE mrl_log_guest; {ROW.format('generate_series(30, 30)')}")

    execute("DROP OWNED BY mrl_log_guest; DROP ROLE mrl_log_guest")


def test_what_a_reader_needs_is_not_looked_at_by_who_trims(docs, dsn, execute):
    docs.load(cache=False)
    with psycopg.connect(dsn, autocommit=True) as client:
        for _ in range(300):
            client.execute("UPDATE docs SET embedding = embedding WHERE id = 3")
    reads = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'change'"

    with psycopg.connect(dsn, autocommit=True) as client:
        client.execute("SELECT pg_stat_force_next_flush()")
        before = client.execute(reads).fetchone()[0]
        client.execute("SELECT mrl.trim_changes()")
        client.execute("SELECT pg_stat_force_next_flush()")
        after = client.execute(reads).fetchone()[0]

    assert after - before < 50
    assert execute(HELD)[0][0] >= 300
