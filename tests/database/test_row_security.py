"""Row-level security under tables that are loaded: whose rows an index has, and for how long."""

import followed
import pytest
from database.partitions.tables import LEAF, LOOSE, RANGES, ROWS, same_as_the_database
from followed import DIMS, N, assert_equal_to_the_database
from psycopg import conninfo

import mrl_db

pytestmark = pytest.mark.superuser
READER = """
    CREATE ROLE policed LOGIN;
    GRANT SELECT ON docs TO policed;
    GRANT USAGE ON SCHEMA mrl TO policed;
    GRANT ALL ON ALL TABLES IN SCHEMA mrl TO policed;
    SELECT mrl.log_changes('docs')
"""
POLICY = "CREATE POLICY early ON docs USING (year < 5); ALTER TABLE docs ENABLE ROW LEVEL SECURITY"


@pytest.fixture
def vectors(rng):
    return followed.made(rng)


@pytest.fixture
def docs(db, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path))
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    docs.add(range(N), vectors[:N], year=[i % 10 for i in range(N)])
    return docs


@pytest.fixture
def as_reader(dsn, execute):
    """Opens the collection as a role that policies bind, with settings."""
    opened = []

    def connect(**settings):
        if not opened:
            execute(READER)
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        db = mrl_db.connect(
            conninfo.make_conninfo(dsn, user="policed", options=options.replace("__", "."))
        )
        opened.append(db)
        return db.open("docs")

    yield connect
    for db in opened:
        db.close()
    if opened:
        execute("DROP OWNED BY policed; DROP ROLE policed")


def test_a_file_never_holds_what_policies_left_over(docs, vectors, execute, as_reader, tmp_path):
    execute(POLICY)
    theirs = as_reader()
    theirs.load(allow_rls_bypass=True)
    assert theirs.loaded.rows == N / 2
    theirs.unload()
    assert list(tmp_path.glob("*.mrl")) == []

    docs.load(allow_rls_bypass=True)
    assert docs.loaded.rows == N
    docs.unload()
    assert list(tmp_path.glob("*.mrl")) != []

    theirs.load(allow_rls_bypass=True)
    assert theirs.loaded.rows == N / 2
    assert_equal_to_the_database(theirs, vectors[:3])


def test_policies_that_ask_for_a_setting_share_no_file(docs, vectors, execute, as_reader):
    execute(POLICY.replace("year < 5", "year = current_setting('app.year')::integer"))

    for year in (3, 7):
        theirs = as_reader(app__year=year)
        theirs.load(allow_rls_bypass=True)
        assert set(theirs.search(vectors[0], k=N).ids % 10) == {year}
        theirs.unload()


def test_a_file_is_left_as_it_is_by_a_reader_whom_policies_bind_since(
    docs, vectors, execute, as_reader
):
    theirs = as_reader()
    theirs.load(allow_rls_bypass=True)
    execute(POLICY)
    assert_equal_to_the_database(theirs, vectors[:3])
    assert theirs.loaded.rows == N / 2
    theirs.unload()

    docs.load(allow_rls_bypass=True)

    assert docs.loaded.rows == N
    assert_equal_to_the_database(docs, vectors[:3])


@pytest.mark.parametrize(
    "change",
    [
        "ALTER POLICY early ON docs USING (year < 3)",
        "DROP POLICY early ON docs",
        "CREATE POLICY more ON docs USING (year = 7)",
        "ALTER ROLE policed BYPASSRLS",
        "ALTER TABLE docs DISABLE ROW LEVEL SECURITY",
    ],
)
def test_a_change_of_policies_is_seen_by_the_next_search(docs, vectors, execute, as_reader, change):
    execute(POLICY)
    theirs = as_reader()
    theirs.load(allow_rls_bypass=True)

    execute(change)

    assert_equal_to_the_database(theirs, vectors[:3])


def test_rows_of_a_partition_with_policies_of_its_own_are_found(db, execute, as_reader):
    execute(f"{RANGES}; {LEAF.format(0)}")
    db.attach("docs", metric="l2")
    execute(ROWS.format("docs", 0, 99))
    theirs = as_reader()
    theirs.load(cache=False)
    execute(
        f"{LOOSE.format(300)}; {ROWS.format('docs_300', 300, 309)};"
        "GRANT SELECT ON docs_300 TO policed; ALTER TABLE docs_300 ENABLE ROW LEVEL SECURITY"
    )

    execute(
        "ALTER TABLE docs ATTACH PARTITION docs_300 FOR VALUES FROM (300) TO (400);"
        "SELECT mrl.log_changes('docs')"
    )

    assert same_as_the_database(theirs) == {*range(100), *range(300, 310)}
