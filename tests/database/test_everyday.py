"""Tables as they are out there: policies, identity keys, other widths, columns that come later."""

import numpy as np
import psycopg
import pytest
from psycopg_pool import ConnectionPool

import mrl_db
from mrl_db.postgres.server import embedded, settings

DIMS = 4


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


@pytest.mark.superuser
def test_rows_are_added_under_row_level_security(db, dsn, execute):
    db.create_collection("docs", dims=DIMS, columns={"tenant": "text"})
    execute("CREATE ROLE everyday_writer LOGIN")
    try:
        execute(
            "GRANT ALL ON docs TO everyday_writer; GRANT USAGE ON SCHEMA mrl TO everyday_writer"
        )
        execute("GRANT ALL ON ALL TABLES IN SCHEMA mrl TO everyday_writer")
        execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        execute("CREATE POLICY own ON docs USING (tenant = 'a') WITH CHECK (tenant = 'a')")
        with mrl_db.connect(f"{dsn} user=everyday_writer") as theirs:
            docs = theirs.open("docs")
            assert docs.add([1, 2], vectors(2), tenant=["a", "a"]) == 2
            assert docs.upsert([2, 3], vectors(2), tenant=["a", "a"]) == 2
            with pytest.raises(mrl_db.DuplicateKeyError):
                docs.add([1], vectors(1), tenant=["a"])
            with pytest.raises(mrl_db.PrivilegeError):
                docs.add([4], vectors(1), tenant=["b"])
            assert docs.count() == 3
    finally:
        execute("DROP OWNED BY everyday_writer; DROP ROLE everyday_writer")


@pytest.mark.parametrize("always", ["ALWAYS", "BY DEFAULT"])
def test_keys_made_by_the_server_may_be_given_too(db, execute, always):
    execute(
        f"CREATE TABLE docs (id bigint GENERATED {always} AS IDENTITY PRIMARY KEY, "
        f"embedding vector({DIMS}))"
    )
    docs = db.attach("docs")

    assert docs.add([10, 11], vectors(2)) == 2
    assert docs.upsert([11, 12], vectors(2, seed=1)) == 2

    np.testing.assert_allclose(docs.get([11]).vectors, vectors(2, seed=1)[:1])
    assert docs.count() == 3


@pytest.mark.parametrize("low_dim", ["column", "index"])
def test_an_untyped_column_takes_no_row_of_another_width(db, execute, low_dim):
    execute("CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector)")
    docs = db.attach("docs", dims=DIMS, low_dim=low_dim)
    docs.add([1, 2], vectors(2))

    with pytest.raises(Exception, match="violates check constraint"):
        execute("INSERT INTO docs VALUES (3, '[1,2,3,4,5]')")
    execute("INSERT INTO docs VALUES (4, NULL)")

    assert sorted(docs.search(vectors(1)[0], k=5).ids.tolist()) == [1, 2]
    db.drop("docs")
    execute("INSERT INTO docs VALUES (3, '[1,2,3,4,5]')")


def test_a_key_that_may_be_null_is_refused_with_the_way_out(db, execute):
    execute(f"CREATE TABLE docs (id bigint UNIQUE, embedding vector({DIMS}))")

    with pytest.raises(mrl_db.ValueRangeError, match="SET NOT NULL"):
        db.attach("docs")

    execute("ALTER TABLE docs ALTER COLUMN id SET NOT NULL")
    assert db.attach("docs").count() == 0


def test_columns_added_later_are_known_to_an_open_collection(db, execute):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add([1, 2], vectors(2))
    execute("ALTER TABLE docs ADD COLUMN year integer DEFAULT 2020")

    assert docs.count({"year": 2020}) == 2
    assert docs.search(vectors(1)[0], k=1, columns=["year"]).columns["year"].tolist() == [2020]
    execute("ALTER TABLE docs ADD COLUMN title text")
    docs.add([3], vectors(1), title=["new"])
    assert docs.get([3], columns=["title"]).columns["title"] == ["new"]
    with pytest.raises(mrl_db.FilterError, match="nowhere"):
        docs.count({"nowhere": 1})


def test_another_unique_column_is_not_taken_for_the_key(db, execute):
    execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, url text UNIQUE, embedding vector({DIMS}))")
    docs = db.attach("docs")
    docs.add([1], vectors(1), url=["a"])

    with pytest.raises(mrl_db.DuplicateKeyError, match=r"\(url\)=\(a\)") as caught:
        docs.add([2], vectors(1), url=["a"])
    assert "whose key" in str(caught.value)


def test_views_and_foreign_tables_are_refused_with_the_way_out(db, execute):
    execute(f"CREATE TABLE base (id bigint PRIMARY KEY, embedding vector({DIMS}))")
    execute("CREATE VIEW docs AS SELECT * FROM base")

    with pytest.raises(mrl_db.ValueRangeError, match="below the view"):
        db.attach("docs")


def test_a_name_that_would_end_the_search_function_is_refused(db):
    with pytest.raises(mrl_db.ValueRangeError, match="body"):
        db.create_collection("a$body$b", dims=DIMS)


@pytest.mark.parametrize(
    "rest",
    [
        "p@S3cretTail@127.0.0.1/db",
        "p@S3cretTail@[::1]:5432/db",
        "p%zz@S3cretTail@h/db",
        "p/S3cretTail@h/db",
        "S3cretTail/x@h/db",
        "p@/S3cretTail@h/db",
        "S3cretTail",
        "p@h/postgresql://u:S3cretTail",
    ],
)
def test_no_part_of_a_password_is_shown_whatever_libpq_makes_of_the_string(rest):
    with pytest.raises(mrl_db.ConnectError, match="malformed") as caught:
        mrl_db.connect(f"postgresql://user:{rest}", connect_timeout=1.0)
    assert "S3cretTail" not in str(caught.value)


def test_a_database_of_an_odd_name_is_none_of_a_password():
    for dsn in ("host=127.0.0.1 port=1 dbname=a@b", "postgresql://127.0.0.1:1/a%40b?options=@"):
        with pytest.raises(mrl_db.ConnectError, match="database a@b"):
            mrl_db.connect(dsn, connect_timeout=1.0)


def test_keys_are_the_same_whatever_encoding_a_client_asks_for(db, dsn, execute):
    docs = db.create_collection("docs", dims=DIMS, key_type="text")
    with mrl_db.connect(f"{dsn} client_encoding=latin1") as other:
        for ids in (["é"], [f"ß{number}" for number in range(3000)]):
            assert other["docs"].add(ids, vectors(len(ids))) == len(ids)
            assert docs.get(ids).ids.tolist() == other["docs"].get(ids).ids.tolist() == ids

    assert ("é",) in execute("SELECT id FROM docs")


def test_a_connection_of_the_callers_in_another_encoding_is_refused(db, dsn):
    docs = db.create_collection("docs", dims=DIMS, key_type="text")
    with psycopg.connect(f"{dsn} client_encoding=latin1") as connection:
        with pytest.raises(mrl_db.ValueRangeError, match="client_encoding is LATIN1.*SET client"):
            docs.add(["é"], vectors(1), connection=connection)
        connection.execute("SET client_encoding TO 'UTF8'")
        assert docs.add(["é"], vectors(1), connection=connection) == 1

    with (
        ConnectionPool(f"{dsn} client_encoding=latin1", min_size=1, max_size=1, open=True) as pool,
        pytest.raises(mrl_db.ValueRangeError, match="client_encoding is LATIN1"),
    ):
        mrl_db.connect(pool=pool)


def test_a_closed_connection_of_the_callers_is_called_closed(db, dsn):
    docs = db.create_collection("docs", dims=DIMS)
    connection = psycopg.connect(dsn)
    connection.close()

    with pytest.raises(mrl_db.ConnectError, match="the connection that was given is closed"):
        docs.count(connection=connection)


@pytest.mark.superuser
def test_a_database_of_another_encoding_is_refused_with_the_way_out(server):
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute(
            "CREATE DATABASE everyday_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' "
            "LOCALE_PROVIDER libc TEMPLATE template0"
        )
        try:
            there = psycopg.conninfo.make_conninfo(server.dsn, dbname="everyday_latin")
            with pytest.raises(mrl_db.ServerError, match="LATIN1, wanted UTF8.*CREATE DATABASE"):
                mrl_db.connect(there)
        finally:
            session.execute("DROP DATABASE everyday_latin WITH (FORCE)")


def test_a_client_that_knows_no_encoding_gets_one(dsn):
    with mrl_db.connect(f"{dsn} client_encoding=sql_ascii") as db:
        docs = db.create_collection("docs", dims=DIMS, key_type="text")
        docs.add(["é"], vectors(1))
        assert docs.get(["é"]).ids.tolist() == ["é"]


@pytest.mark.parametrize("home", ["~nouser/x", "a\0b", 5, b"a", "\udcff"])
def test_a_home_that_no_system_has_is_refused(tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mrl_db.ValueRangeError, match="home is"):
        mrl_db.connect(home=home)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_names_with_texts_or_numbers(tmp_path):
    assert settings.checked_settings({"max_connections": 50, "jit": False}) == {
        "max_connections": "50",
        "jit": "False",
    }
    for bad in ({"a b": "c"}, {"work_mem": None}, {"work_mem": "1\n2"}, {1: "2"}, ["work_mem"]):
        with pytest.raises(mrl_db.ValueRangeError, match="settings"):
            mrl_db.connect(home=tmp_path / "home", settings=bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", ["$(touch seen)", "`touch seen`", 'a"b', "a,b", "a\\b"])
def test_no_shell_reads_the_name_of_a_servers_folder(tmp_path, monkeypatch, odd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mrl_db.ServerError, match="choose another home"):
        mrl_db.connect(home=tmp_path / odd)
    assert list(tmp_path.iterdir()) == []


def test_a_tilde_is_the_users_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/mine")
    monkeypatch.setenv("MRL_DB_HOME", "~/data")
    assert str(embedded.default_home()) == "/home/of/mine/data"


@pytest.mark.parametrize("key_type", ["bigint", "uuid", "text"])
def test_no_rows_are_written_read_and_deleted_like_many(db, key_type):
    docs = db.create_collection("docs", dims=DIMS, key_type=key_type, columns={"year": "integer"})
    nothing = np.empty((0, DIMS), dtype=np.float32)

    assert docs.add([], nothing) == 0
    assert docs.add([], [], year=[]) == 0
    assert docs.upsert([], nothing) == 0
    assert docs.delete([]) == 0
    assert docs.get([]).vectors.shape == (0, DIMS)
    with pytest.raises(mrl_db.ShapeError):
        docs.add([], vectors(1))
    with pytest.raises(mrl_db.ShapeError):
        docs.search(nothing)


def test_an_empty_batch_does_not_end_an_ingest(db):
    docs = db.create_collection("docs", dims=DIMS)
    batches = [([], np.empty((0, DIMS))), ([1], vectors(1)), ([], []), ([2], vectors(1))]

    assert docs.ingest(iter(batches), index=False) == 2
    assert docs.count() == 2


@pytest.mark.parametrize("index", [None, "hnsw", "mrl"])
def test_a_table_of_another_name_or_schema_is_searched_by_psql_as_before(db, execute, index):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(range(50), vectors(50))
    if index is not None:
        docs.create_index(kind=index)
    search = "SELECT id, distance FROM mrl.search_docs(%s::vector, 5)"
    query = (str(vectors(50)[7].tolist()),)
    before = execute(search, query)

    execute("ALTER TABLE docs RENAME TO papers")
    assert execute(search, query) == before
    execute("CREATE SCHEMA library; ALTER TABLE papers SET SCHEMA library")

    assert execute(search, query) == before
    assert docs.search(vectors(50)[7], k=5).ids.tolist() == [row[0] for row in before]
    docs.upsert([7], vectors(1))
    assert docs.count() == 50


@pytest.mark.parametrize("rows", [2, 3000])
@pytest.mark.parametrize("commit_every", [None, 2])
def test_rows_that_a_trigger_keeps_out_are_not_counted(db, execute, rows, commit_every):
    docs = db.create_collection("docs", dims=DIMS, columns={"a": "integer", "b": "integer"})
    execute(
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN CASE WHEN NEW.id > 0 THEN NEW END; END $$; "
        "CREATE TRIGGER keep_out BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION keep_out()"
    )
    if commit_every is not None:
        assert docs.ingest(range(5), vectors(5), commit_every=commit_every, batch_id="n") == 4
    else:
        assert docs.add(range(rows), vectors(rows), a=[1] * rows, b=[1] * rows) == rows - 1
        assert docs.upsert(range(rows), vectors(rows), a=[1] * rows, b=[1] * rows) == rows - 1
        assert docs.upsert(range(rows), vectors(rows), a=[1] * rows) == rows - 1  # b is left out
        assert docs.add(range(rows + 1), vectors(rows + 1), on_conflict="skip") == 1


def test_a_column_where_a_hit_has_its_own_is_refused(db):
    names = ("query", "rank", "vector", "distance")
    docs = db.create_collection("docs", dims=DIMS, columns=dict.fromkeys(names, "text"))
    docs.add([1], vectors(1), **{name: ["x"] for name in names})
    one, batch = vectors(1)[0], vectors(1)

    for query, options, name in (
        (batch, {"columns": ["query"]}, "query"),
        (batch, {"columns": ["rank"]}, "rank"),
        (batch, {"group_by": "rank"}, "rank"),
        (one, {"columns": ["vector"], "vectors": True}, "vector"),
        (one, {"group_by": "distance"}, "distance"),
    ):
        with pytest.raises(mrl_db.ValueRangeError, match=f"a hit has its own '{name}'"):
            docs.search(query, k=1, **options)

    hits = docs.search(one, k=1, columns=["query", "rank", "vector"])
    assert hits.to_list()[0]["vector"] == hits.to_list()[0]["rank"] == "x"


@pytest.mark.parametrize("concurrently", [False, True])
def test_an_index_does_not_wait_without_end_for_a_session_that_wrote(dsn, concurrently):
    with mrl_db.connect(f"{dsn} options='-c lock_timeout=200ms'") as db:
        docs = db.create_collection("docs", dims=DIMS)
        with psycopg.connect(dsn) as idle:
            idle.execute("INSERT INTO docs (id, embedding) VALUES (1, '[1,2,3,4]')")
            with pytest.raises(mrl_db.ConflictError, match="another session holds the table"):
                docs.create_index(kind="hnsw", concurrently=concurrently)
        docs.create_index(kind="hnsw", concurrently=concurrently)
        assert docs.indexed


def test_an_index_waits_for_a_table_as_long_as_whoever_makes_or_drops_one(db, sent):
    db.create_collection("docs", dims=DIMS).create_index(kind="hnsw")

    texts = [each if isinstance(each, str) else each.as_string(None) for each in sent]
    limit = next(number for number, text in enumerate(texts) if "mrl.wait_briefly" in text)
    assert any("CREATE INDEX" in text for text in texts[limit:])
