"""Loads of several transactions: what is committed stays, and the same call goes on with the rest."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mrl_db
from mrl_db.door import Batch
from mrl_db.model.key import encode
from mrl_db.postgres import batches


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=2, columns={"year": "integer"})


def source(sizes, fail_after=None):
    """Batches of these sizes with running ids; at a row number it breaks off."""
    first = 0
    for size in sizes:
        if fail_after is not None and first + size > fail_after:
            raise OSError("the source is gone")
        ids = np.arange(first, first + size)
        yield ids, np.stack([ids + 1.0, ids + 2.0], axis=1), {"year": ids % 7}
        first += size


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12), st.data())
def test_parts_have_all_rows_in_order_and_one_size(sizes, size, data):
    made, first = [], 0
    for rows in sizes:
        keys = list(range(first, first + rows))
        vectors = np.repeat(np.array(keys, np.float32)[:, None], 2, axis=1)
        made.append(Batch(encode(keys, "bigint"), vectors, {"year": keys}))
        first += rows

    lengths, seen = [], []
    for number, part in enumerate(batches.parts(made, size)):
        if data.draw(st.booleans()):  # passed over
            lengths.append(min(size, first - number * size))
            continue
        rows = [year for batch in part for year in batch.columns["year"]]
        assert rows == list(range(number * size, number * size + len(rows)))
        lengths.append(len(rows))
        seen += rows

    assert sum(lengths) == first
    assert all(length == size for length in lengths[:-1])
    assert all(lengths)


@pytest.mark.parametrize("every", [1, 3, 10, 25, 1000])
@pytest.mark.parametrize("upsert", [False, True])
def test_any_size_gives_the_same_rows(docs, every, upsert):
    done = []

    count = docs.ingest(
        source([10, 0, 7, 8]),
        commit_every=every,
        upsert=upsert,
        progress=lambda rows, _: done.append(rows),
    )

    assert count == docs.count() == 25
    assert docs.get(range(25)).columns["year"] == [number % 7 for number in range(25)]
    assert done == sorted(done)
    assert done[-1] == 25


def test_a_load_that_was_broken_off_goes_on(docs, execute):
    with pytest.raises(OSError, match="gone"):
        docs.ingest(source([10] * 5, fail_after=30), commit_every=8, batch_id="load")
    assert docs.count() == 24
    docs.update([3], year=99)

    count = docs.ingest(source([25, 25]), commit_every=8, batch_id="load")

    assert count == docs.count() == 50
    assert docs.get(3).columns["year"] == [99]  # it was not written again
    assert docs.ingest(source([50]), commit_every=8, batch_id="load") == 50
    assert execute("SELECT count(*) FROM mrl.batch") == [(7,)]


def test_without_a_batch_id_what_was_committed_stays(docs):
    with pytest.raises(OSError, match="gone"):
        docs.ingest(source([10] * 5, fail_after=30), commit_every=8)

    assert docs.count() == 24
    with pytest.raises(mrl_db.DuplicateKeyError):
        docs.ingest(source([50]), commit_every=8)


def test_other_rows_than_before_are_noticed(docs):
    docs.ingest(source([20]), commit_every=8, batch_id="load")

    with pytest.raises(mrl_db.ValueRangeError, match="part 0 had 8 rows.*has 5 now"):
        docs.ingest(source([20]), commit_every=5, batch_id="load")
    with pytest.raises(mrl_db.ValueRangeError, match="part 2 had 4 rows.*has 8 now"):
        docs.ingest(source([30]), commit_every=8, batch_id="load")


@pytest.mark.parametrize(("every", "said"), [(0, "commit_every is 0"), ("7", "an option here")])
def test_what_cannot_be_meant(docs, every, said):
    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.ingest(source([5]), commit_every=every)

    assert docs.count() == 0


def test_a_transaction_of_yours_is_not_committed(docs, dsn):
    import psycopg

    with psycopg.connect(dsn) as connection, pytest.raises(mrl_db.ValueRangeError, match="yours"):
        docs.ingest(source([5]), commit_every=2, connection=connection)


def test_tasks_load_alike(dsn):
    async def main():
        async with await mrl_db.connect_async(dsn) as db:
            docs = await db.create_collection("docs", dims=2, columns={"year": "integer"})
            count = await docs.ingest(source([10, 10]), commit_every=7, batch_id="load")
            return count, await docs.count()

    assert asyncio.run(main()) == (20, 20)
