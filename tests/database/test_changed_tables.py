"""Tables that another client changes under open collections: types, columns, the whole table."""

import numpy as np
import psycopg
import pytest
from psycopg_pool import ConnectionPool

import mrl_db

DIMS = 4


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, DIMS)).astype(np.float32)


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


@pytest.mark.parametrize(
    ("column", "where"),
    [("mood", {"m": "a"}), ("mood[]", {"m": "{a}"}), ("moods", {"m": "{a}"})],
)
def test_a_filter_that_is_remembered_follows_the_names_of_an_enums_values(
    db, execute, column, where
):
    db.create_collection("docs", dims=DIMS).add([1, 2], vectors(2))
    execute("CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN moods AS mood[]")
    execute(f"ALTER TABLE docs ADD m {column}")
    for key, value in (1, "a"), (2, "b"):
        execute(f"UPDATE docs SET m = '{where['m'].replace('a', value)}' WHERE id = {key}")
    docs, query = db.open("docs"), vectors(1)[0]
    docs.load(cache=False)
    assert docs.search(query, where=where, engine="native").ids.tolist() == [1]

    execute("ALTER TYPE mood RENAME VALUE 'a' TO 'c'; ALTER TYPE mood RENAME VALUE 'b' TO 'a'")

    assert docs.search(query, where=where, engine="native").ids.tolist() == [2]


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("rows", [1, 200])
def test_a_key_that_is_unique_no_more_stands_twice_and_is_named(db, execute, rows, seen):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(range(500), vectors(500))
    docs.load(cache=False)
    execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    if seen:
        docs.search(vectors(1)[0], engine="native")

    execute(f"INSERT INTO docs (id, embedding) SELECT id, embedding FROM docs WHERE id < {rows}")

    for _ in range(2):
        with pytest.raises(mrl_db.DuplicateKeyError, match=f"{rows} keys of table.*lists them"):
            docs.search(vectors(1)[0], engine="native")
    with pytest.raises(mrl_db.DuplicateKeyError):
        db.open("docs").load(cache=False)
    execute("DELETE FROM docs WHERE ctid NOT IN (SELECT min(ctid) FROM docs GROUP BY id)")
    assert len(docs.search(vectors(1)[0], k=1000, engine="native").ids) == 500


def test_in_a_transaction_of_the_callers_the_next_call_goes_by_the_new_types(db, dsn, execute):
    docs = db.create_collection("docs", dims=DIMS, columns={"year": "integer"})
    execute("ALTER TABLE docs ALTER year TYPE real")

    with psycopg.connect(dsn) as connection:
        with pytest.raises(mrl_db.ConflictError, match="the same call may succeed now"):
            docs.add(range(3000), vectors(3000), year=[2020] * 3000, connection=connection)
        assert docs.add(range(3000), vectors(3000), year=[2020] * 3000, connection=connection)

    assert execute("SELECT DISTINCT year FROM docs") == [(2020.0,)]


def test_an_error_asks_for_no_connection_of_a_pool_that_is_in_use(dsn):
    with (
        ConnectionPool(dsn, min_size=1, max_size=1, timeout=1, open=True) as pool,
        mrl_db.connect(pool=pool) as db,
    ):
        docs = db.create_collection("docs", dims=DIMS)
        with pool.connection() as connection:
            queued = pool.get_stats().get("requests_queued", 0)
            with pytest.raises(mrl_db.ShapeError):
                docs.add([1], vectors(2), connection=connection)
            assert pool.get_stats().get("requests_queued", 0) == queued
