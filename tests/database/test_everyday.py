"""Tables as they are out there: policies, identity keys, other widths, columns that come later."""

import numpy as np
import pytest

import mrl_db
from mrl_db.postgres.server import embedded

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
    "rest", ["p@S3cretTail@127.0.0.1/db", "p@S3cretTail@[::1]:5432/db", "p%zz@S3cretTail@h/db"]
)
def test_no_part_of_a_password_is_shown_whatever_libpq_makes_of_the_string(rest):
    with pytest.raises(mrl_db.ConnectError, match="malformed") as caught:
        mrl_db.connect(f"postgresql://user:{rest}", connect_timeout=1.0)
    assert "S3cretTail" not in str(caught.value)


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


CHANGES = {  # of the type of a column with integers, and what 2020 is then
    "real": ("real", "", 2020.0),
    "double precision": ("double precision", "", 2020.0),
    "bigint": ("bigint", "", 2020),
    "numeric": ("numeric", "", 2020),
}


@pytest.mark.parametrize("rows", [2, 3000])
@pytest.mark.parametrize("method", ["add", "upsert", "ingest"])
@pytest.mark.parametrize("change", CHANGES)
def test_many_rows_are_written_as_the_columns_types_are_now(db, execute, method, rows, change):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    new_type, using, stored = CHANGES[change]
    execute(f"ALTER TABLE docs ALTER year TYPE {new_type} {using}")

    assert getattr(docs, method)(range(rows), vectors(rows), year=[2020] * rows) == rows

    assert execute("SELECT DISTINCT year FROM docs") == [(stored,)]


def test_a_value_that_does_not_fit_the_new_type_is_refused_by_its_column(db, execute):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    execute("ALTER TABLE docs ALTER year TYPE date USING make_date(year, 1, 1)")

    with pytest.raises(mrl_db.DtypeError, match="'year' is date"):
        docs.add(range(3000), vectors(3000), year=[2020] * 3000)

    assert docs.count() == 0


@pytest.mark.parametrize("way", ["dicts", "pandas", "arrow", "ingest", "ingested dicts"])
def test_frames_bring_columns_that_another_client_has_just_added(db, execute, way):
    docs = db.create_collection("docs", dims=DIMS, columns={"a": "integer"})
    execute("ALTER TABLE docs ADD n text")
    rows = [{"id": 7, "embedding": vectors(1)[0].tolist(), "a": 1, "n": "new"}]

    if way == "dicts":
        docs.upsert(rows)
    elif way == "pandas":
        docs.upsert(pytest.importorskip("pandas").DataFrame(rows))
    elif way == "arrow":
        docs.upsert(pytest.importorskip("pyarrow").Table.from_pylist(rows).to_reader())
    elif way == "ingest":
        docs.ingest([7], vectors(1), n=["new"])
    else:
        docs.ingest(rows)

    assert execute("SELECT n FROM docs") == [("new",)]


def test_a_column_called_batch_id_is_not_taken_for_the_option(db):
    docs = db.create_collection(
        "docs", dims=DIMS, columns={"batch_id": "text", "t": "text"}, vectors_required=False
    )
    docs.add([{"id": 1, "t": "a", "batch_id": "inside"}], batch_id="nightly")

    for write in (
        lambda: docs.update([1], t="b", batch_id="nightly"),
        lambda: docs.update(where={"t": "a"}, t="b", batch_id="nightly"),
        lambda: docs.add([2], t=["b"], batch_id="nightly"),
        lambda: docs.upsert([2], t=["b"], batch_id="nightly"),
    ):
        with pytest.raises(mrl_db.ValueRangeError, match="has a column batch_id"):
            write()

    assert docs.scan().to_list() == [{"id": 1, "batch_id": "inside", "t": "a"}]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("way", ["dropped", "attached again"])
def test_a_collection_that_was_made_anew_is_searched_by_its_own_metric(db, execute, way, exact):
    if way == "attached again":
        execute(f"CREATE TABLE docs (id bigint PRIMARY KEY, embedding vector({DIMS}))")
        docs = db.attach("docs", low_dim="index")
    else:
        docs = db.create_collection("docs", dims=DIMS)
    rows, query = [[1, 0, 0, 0], [10, 10, 0, 0]], [1, 0.9, 0, 0]
    docs.add([1, 2], rows)
    for _ in range(7):  # statements are prepared after some
        assert docs.search(query, k=1, exact=exact).ids.tolist() == [2]

    db.drop("docs")
    if way == "attached again":
        db.attach("docs", low_dim="index", metric="l2")
    else:
        db.create_collection("docs", dims=DIMS, metric="l2").add([1, 2], rows)

    assert docs.search(query, k=1, exact=exact).ids.tolist() == [1]
    assert docs.metric is mrl_db.Metric.l2


@pytest.mark.parametrize(("before", "after"), [("bigint", "integer"), ("text", "bigint")])
def test_a_collection_that_was_made_anew_takes_its_own_keys(db, before, after):
    docs = db.create_collection("docs", dims=DIMS, key_type=before)
    docs.add([1 if before == "bigint" else "1"], vectors(1))
    db.drop("docs")
    db.create_collection("docs", dims=DIMS, key_type=after)

    assert docs.add(range(3000), vectors(3000)) == 3000
    assert docs.search(vectors(1)[0], k=1, exact=True).ids.tolist() == [0]
    assert docs.get([5]).ids.tolist() == [5]


@pytest.mark.parametrize(
    "change", ["DROP b", "RENAME b TO c", "ALTER b TYPE bigint USING length(b)"]
)
def test_an_open_collection_goes_on_after_a_column_was_changed(db, execute, change):
    docs = db.create_collection("docs", dims=DIMS, columns={"a": "integer", "b": "text"})
    docs.add([1], vectors(1), a=[1], b=["x"])
    scan = docs.scan()
    execute(f"ALTER TABLE docs {change}")

    assert docs.get([1]).to_list()[0]["a"] == 1
    assert scan.to_list()[0]["a"] == 1
    assert docs.scan().to_list()[0]["a"] == 1


@pytest.mark.parametrize("change", ["DROP b", "RENAME b TO c"])
def test_a_column_that_is_there_no_more_is_named(db, execute, change):
    docs = db.create_collection("docs", dims=DIMS, columns={"a": "integer", "b": "text"})
    docs.add([1], vectors(1), a=[1], b=["x"])
    calls = (
        lambda docs: docs.count({"b": "x"}),
        lambda docs: docs.update([1], b="y"),
        lambda docs: docs.add([2], vectors(1), b=["y"]),
        lambda docs: docs.search(vectors(1)[0], columns=["b"]),
        lambda docs: docs.get([1], columns=["b"]),
        lambda docs: docs.scan(columns=["b"]).to_list(),
    )
    opened = [db["docs"] for _ in calls]
    execute(f"ALTER TABLE docs {change}")

    for call, each in zip(calls, opened, strict=True):
        with pytest.raises((mrl_db.ValueRangeError, mrl_db.FilterError), match="no column 'b'"):
            call(each)


@pytest.mark.parametrize(("column", "other"), [("id", "pk"), ("embedding", "emb")])
def test_a_key_or_a_vector_column_with_another_name_is_named_with_the_way_out(
    db, execute, column, other
):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add([1], vectors(1))
    execute(f"ALTER TABLE docs RENAME {column} TO {other}")

    for call in (
        lambda: docs.add([2], vectors(1)),
        lambda: docs.search(vectors(1)[0]),
        lambda: docs.get([1]),
        lambda: docs.scan(vectors=True).to_list(),
        lambda: docs.load(),
        lambda: db["docs"],
    ):
        with pytest.raises(
            mrl_db.CollectionNotFoundError,
            match=f'lost its column "{column}".*RENAME COLUMN that name TO {column}',
        ):
            call()

    execute(f"ALTER TABLE docs RENAME {other} TO {column}")
    assert docs.get([1]).ids.tolist() == [1]
