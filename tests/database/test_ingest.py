"""Loading many rows: arrays, iterables, Arrow, Parquet; all or nothing; progress; the index."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mrl_db


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=4, columns={"title": "text", "year": "bigint"})


def table(rng, n=100):
    vectors = rng.standard_normal((n, 4)).astype(np.float32)
    columns = {
        "id": pa.array(np.arange(n)),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4),
        "title": pa.array([None if i % 7 == 0 else f"t{i}" for i in range(n)]),
        "year": pa.array(np.arange(n)),
        "other": pa.array(["ignored"] * n),
    }
    return vectors, pa.table(columns)


def check(docs, vectors):
    found = docs.get(np.arange(len(vectors)))
    np.testing.assert_array_equal(found.vectors, vectors)
    assert found.columns["title"] == [None if i % 7 == 0 else f"t{i}" for i in range(len(vectors))]
    assert found.columns["year"] == list(range(len(vectors)))


def test_an_arrow_table(docs, rng):
    vectors, source = table(rng)

    assert docs.ingest(source) == 100

    check(docs, vectors)


@pytest.mark.parametrize("kind", ["fixed", "list", "large_list"])
def test_a_parquet_file(docs, rng, tmp_path, kind):
    vectors, source = table(rng, 20_000)
    if kind != "fixed":
        lists = pa.list_(pa.float32()) if kind == "list" else pa.large_list(pa.float32())
        source = source.set_column(1, "embedding", source["embedding"].combine_chunks().cast(lists))
    path = tmp_path / "rows with space.parquet"
    pq.write_table(source, path, row_group_size=3000)
    seen = []

    assert docs.ingest(path, progress=lambda done, total: seen.append((done, total))) == 20_000

    check(docs, vectors)
    assert docs.indexed
    assert seen[-1] == (20_000, 20_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_record_batches_and_a_reader(docs, rng):
    vectors, source = table(rng)
    batches = source.to_batches(max_chunksize=30)
    half = [batch for batch in batches if batch["id"][0].as_py() < 60]
    rest = pa.RecordBatchReader.from_batches(
        batches[0].schema, [batch for batch in batches if batch["id"][0].as_py() >= 60]
    )

    docs.ingest(half)
    docs.ingest(rest)

    check(docs, vectors)


def test_arrays_with_columns_and_batches_of_tuples(docs, rng):
    vectors, _ = table(rng)
    titles = np.array([None if i % 7 == 0 else f"t{i}" for i in range(100)], dtype=object)
    docs.ingest(np.arange(60), vectors[:60], title=titles[:60], year=np.arange(60), index=False)
    docs.ingest(
        (
            np.arange(i, i + 20),
            vectors[i : i + 20],
            {"title": titles[i : i + 20], "year": np.arange(i, i + 20)},
        )
        for i in (60, 80)
    )

    check(docs, vectors)
    assert not docs.indexed


def test_a_fault_in_the_last_batch_leaves_nothing(docs, rng):
    vectors, _ = table(rng)
    bad = vectors.copy()
    bad[99, 2] = np.nan

    with pytest.raises(mrl_db.ValueRangeError, match="row 19: a NaN"):
        docs.ingest((np.arange(i, i + 20), bad[i : i + 20]) for i in range(0, 100, 20))
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.ingest([(np.arange(20), vectors[:20]), (np.arange(19, 39), vectors[:20])])

    assert docs.count() == 0
    assert docs.ingest([(np.arange(20), vectors[:20])]) == 20


def test_an_interrupted_load_leaves_nothing_and_the_collection_usable(docs, rng):
    vectors, _ = table(rng)

    def batches():
        yield np.arange(50), vectors[:50]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        docs.ingest(batches())

    assert docs.count() == 0
    assert docs.add([1], vectors[:1]) == 1


def test_an_upserting_load_replaces(docs, rng):
    vectors, source = table(rng)
    docs.add(np.arange(50), np.ones((50, 4)))

    assert docs.ingest(source, upsert=True) == 100

    check(docs, vectors)


def test_memory_stays_bounded(docs):
    """A load of 400 batches made on the fly never holds more than a few of them."""
    import weakref

    alive = []

    class Tracked(np.ndarray):
        pass

    def batches():
        for i in range(400):
            vectors = np.full((64, 4), i + 1, dtype=np.float32).view(Tracked)
            alive.append(weakref.ref(vectors))
            assert sum(reference() is not None for reference in alive) <= 4
            yield np.arange(64 * i, 64 * i + 64), vectors

    assert docs.ingest(batches(), index=False) == 25_600


@pytest.mark.parametrize(
    ("source", "arguments", "error", "said"),
    [
        ("no such file.parquet", {}, mrl_db.ValueRangeError, "no file"),
        (pa.table({"key": [1]}), {}, mrl_db.ValueRangeError, "no column 'id'.*it has key"),
        (
            pa.table({"id": [1], "embedding": [[1.0, None, 2.0, 3.0]]}),
            {},
            mrl_db.ValueRangeError,
            "NULLs inside",
        ),
        (pa.table({"id": [1], "embedding": [None]}), {}, mrl_db.ValueRangeError, "NULLs"),
        (pa.table({"id": [1], "embedding": ["x"]}), {}, mrl_db.DtypeError, "list of floats"),
        (
            pa.table({"id": [1], "embedding": pa.array([[1, 2, 3, 4]], pa.list_(pa.int8()))}),
            {},
            mrl_db.DtypeError,
            "wanted floats",
        ),
        (
            pa.table({"id": [1, 2], "embedding": [[1.0], [1.0, 2.0]]}),
            {},
            mrl_db.ShapeError,
            "one width",
        ),
        (np.arange(3), {}, mrl_db.ShapeError, "without vectors"),
        (5, {}, mrl_db.DtypeError, "int"),
        ([5], {}, mrl_db.ShapeError, "batch is a int"),
        ([], {"year": [1]}, mrl_db.ShapeError, "without vectors"),
        ([1], {"vectors": np.ones((2, 4))}, mrl_db.ShapeError, "1 ids for 2 vectors"),
    ],
)
def test_sources_that_cannot_be_read(docs, source, arguments, error, said):
    with pytest.raises(error, match=said):
        docs.ingest(source, **arguments)

    assert docs.count() == 0


def test_a_file_that_is_no_parquet(docs, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"not parquet")

    with pytest.raises(mrl_db.ValueRangeError, match="not a Parquet file"):
        docs.ingest(path)


def test_an_index_build_reports_its_progress(db, rng):
    docs = db.create_collection("large", dims=64)
    docs.ingest(np.arange(12_000), rng.standard_normal((12_000, 64), dtype=np.float32), index=False)
    seen = []
    docs.create_index(ef_construction=200, progress=lambda done, total: seen.append((done, total)))

    assert docs.indexed
    assert seen
    assert all(0 <= done <= total for done, total in seen)
    docs.create_index()  # it stands: nothing happens


def test_an_index_can_be_built_beside_writers(db, rng):
    docs = db.create_collection("docs", dims=4)
    docs.add(np.arange(100), rng.standard_normal((100, 4)))
    docs.create_index(concurrently=True)

    assert db.open("docs").indexed


@pytest.mark.parametrize(("m", "ef"), [(1, 64), (101, 300), (16, 20), (16, 1001)])
def test_index_parameters_that_pgvector_would_refuse(docs, m, ef):
    with pytest.raises(mrl_db.ValueRangeError, match="pgvector takes"):
        docs.create_index(m=m, ef_construction=ef)


def test_the_index_is_built_once_whoever_asks_and_again_when_it_is_gone(db, execute, rng):
    """Two handles on one collection: neither trusts what it knew when it was opened."""
    first = db.create_collection("docs", dims=4)
    first.add(np.arange(50), rng.standard_normal((50, 4)))
    second = db.open("docs")

    first.create_index()
    second.create_index()
    assert execute(
        "SELECT count(*) FROM pg_indexes WHERE tablename = 'docs' AND indexdef ~ 'USING (mrl|hnsw)'"
    ) == [(1,)]

    execute("DO $$ BEGIN EXECUTE 'DROP INDEX ' || mrl.index_of('docs'); END $$")
    first.create_index()
    assert execute("SELECT mrl.index_of('docs') IS NOT NULL") == [(True,)]
