"""Who writes to a followed table without firing its triggers is noticed, whenever he comes."""

import contextlib

import pytest
from database.partitions.tables import LEAF, RANGES, ROWS, same_as_the_database
from followed import DIMS, ROW, N, assert_equal_to_the_database, nearest, text

import mrl_db
from mrl_db.engines import native

INHERITED = f"""
    CREATE TABLE things (id bigint, note text);
    CREATE TABLE docs (embedding vector({DIMS}), PRIMARY KEY (id)) INHERITS (things)
"""


def assert_refused(docs, vectors, said):
    for _ in range(2):
        with pytest.raises(mrl_db.FreshnessError, match=f"{said}.*load\\(max_staleness="):
            docs.search(vectors[0], k=1, engine="native")


def test_a_table_that_inherits_is_refused(db, execute, vectors):
    execute(INHERITED)
    docs = db.attach("docs", low_dim="index")
    docs.add(range(10), vectors[:10])

    with pytest.raises(mrl_db.FreshnessError, match="inherits from"):
        docs.load()

    docs.load(max_staleness=float("inf"))
    assert nearest(docs, vectors[3])[0] == 3


def test_a_table_that_becomes_a_child_is_refused_until_it_is_none(docs, vectors, execute):
    execute("CREATE TABLE things (id bigint NOT NULL); ALTER TABLE docs INHERIT things")
    execute("DELETE FROM things WHERE id < 10")

    assert_refused(docs, vectors, "inherits from")

    execute("ALTER TABLE docs NO INHERIT things")
    assert_equal_to_the_database(docs, vectors[:3])


def test_a_child_of_a_table_that_had_one_before_is_noticed(docs, vectors, execute):
    """PostgreSQL remembers that there was one, so that the table's own entry stays as it is."""
    execute("CREATE TABLE heirs () INHERITS (docs); DROP TABLE heirs")
    nearest(docs, vectors[0])
    execute("CREATE TABLE heirs () INHERITS (docs)")
    execute(ROW.replace("docs", "heirs"), (N, text(vectors[N])))

    assert_refused(docs, vectors, "children")

    execute("DROP TABLE heirs")
    assert_equal_to_the_database(docs, vectors[:3])


COMES = {
    "heirs": ("CREATE TABLE IF NOT EXISTS heirs () INHERITS (docs)", "children"),
    "no trigger": ("DROP TRIGGER IF EXISTS mrl_log_insert ON docs", "are not logged"),
}


@pytest.mark.parametrize("step", ["read", "compare"])
@pytest.mark.parametrize("comes", COMES)
def test_what_comes_between_the_look_and_the_rows_is_noticed(
    docs, vectors, execute, monkeypatch, comes, step
):
    statement, said = COMES[comes]
    module = {"read": native.engine, "compare": native.following}[step]
    reading = getattr(module, step)
    monkeypatch.setattr(
        module, step, lambda *of, **with_: execute(statement) or reading(*of, **with_)
    )

    def follow():
        if step == "read":
            docs.load(cache=False)
        for _ in range(2):
            docs.search(vectors[0], engine="native")

    if step == "compare":
        execute("TRUNCATE docs")

    with pytest.raises(mrl_db.FreshnessError, match=said):
        follow()


def test_refresh_sees_to_it_that_a_partition_that_came_is_followed(db, execute):
    execute(f"{RANGES}; {LEAF.format(0)}")
    docs = db.attach("docs", metric="l2")
    execute(ROWS.format("docs", 0, 49))
    docs.load(cache=False)
    execute(LEAF.format(300))

    docs.refresh()

    execute(ROWS.format("docs_300", 300, 303))
    assert same_as_the_database(docs) == {*range(50), *range(300, 304)}


@contextlib.contextmanager
def subscription(as_superuser, table):
    """Makes a table a subscription's, of a publisher that is nowhere."""
    as_superuser(
        "CREATE SUBSCRIPTION brings CONNECTION 'host=/nowhere' PUBLICATION p "
        "WITH (connect = false, slot_name = NONE)"
    )
    try:
        as_superuser(
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
            f"SELECT oid, '{table}'::regclass, 'r' FROM pg_subscription WHERE subname = 'brings'"
        )
        yield
    finally:
        as_superuser("DROP SUBSCRIPTION brings")


def write_as_its_worker(as_superuser, statement):
    """Writes what no trigger logs."""
    as_superuser(
        f"SET session_replication_role = replica; {statement}; "
        "DELETE FROM mrl.change WHERE xid = pg_current_xact_id()"
    )


def test_a_subscription_that_comes_is_noticed_and_what_it_wrote_is_found_once_it_is_gone(
    docs, vectors, as_superuser
):
    nearest(docs, vectors[0])
    with subscription(as_superuser, "docs"):
        write_as_its_worker(as_superuser, "DELETE FROM docs WHERE id < 10")
        assert_refused(docs, vectors, "subscription")

    assert_equal_to_the_database(docs, vectors[:3])


def test_a_file_whose_reader_met_a_subscription_is_compared(db, vectors, as_superuser):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(range(N), vectors[:N])
    docs.load()
    with subscription(as_superuser, "docs"):
        write_as_its_worker(as_superuser, "DELETE FROM docs WHERE id < 10")
        with pytest.raises(mrl_db.FreshnessError):
            docs.search(vectors[0], engine="native")
        docs.unload()

    docs.load()

    assert_equal_to_the_database(docs, vectors[:3])


def test_a_subscription_of_a_partition_is_noticed(db, execute, vectors, as_superuser):
    execute(
        f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS})) "
        "PARTITION BY HASH (id);"
        "CREATE TABLE leaf PARTITION OF docs FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    )
    docs = db.attach("docs", low_dim="index")
    docs.add(range(N), vectors[:N])
    docs.load(cache=False)
    with subscription(as_superuser, "leaf"):
        write_as_its_worker(as_superuser, "DELETE FROM docs WHERE id < 10")
        assert_refused(docs, vectors, "subscription")

    assert_equal_to_the_database(docs, vectors[:3])
