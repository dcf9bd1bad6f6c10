"""Adaptors in the catalogue: rows and queries are changed alike, whichever client sends them."""

import uuid

import numpy as np
import psycopg
import pytest

import mrl_db
from mrl_db.learn import Adaptor, Rotation
from mrl_db.learn.transform import transform_from_bytes

DIMS = 16


def made(n, seed=0):
    """Rows whose length lies in directions that no prefix holds."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, DIMS)) * np.geomspace(0.05, 2.0, DIMS)).astype(np.float32)


def network(seed=0):
    """An adaptor with all its parts, made by hand."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((DIMS, DIMS)))[0].astype(np.float32)
    parts = (
        rng.standard_normal(shape).astype(np.float32) * 0.2
        for shape in ((DIMS, 6), (6,), (6, DIMS), (DIMS,))
    )
    return Adaptor((4, DIMS), rotation, *parts)


CHANGES = {"rotation": lambda: Rotation.fit(made(500)), "network": network}


@pytest.mark.parametrize("kind", CHANGES)
def test_rows_and_queries_are_changed_alike_by_every_client(db, kind):
    change, rows, asked = CHANGES[kind](), made(400), made(7, seed=1)
    docs = db.create_collection("docs", dims=DIMS, nesting_dims=(4, DIMS), adaptor=change)
    docs.add(np.arange(300), rows[:300])
    other = db.open("docs")  # what another client gets
    other.upsert(np.arange(290, 400), rows[290:])
    other.ingest(np.arange(1000, 1010), rows[:10])

    changed = change.apply(np.concatenate([rows, rows[:10]]))
    keys = np.concatenate([np.arange(400), np.arange(1000, 1010)])
    np.testing.assert_allclose(docs.get(keys).vectors, changed, rtol=1e-6, atol=1e-6)
    unit = changed / np.linalg.norm(changed, axis=1, keepdims=True)
    queries = change.apply(asked) / np.linalg.norm(change.apply(asked), axis=1, keepdims=True)
    for _ in ("sql", "native"):
        for found in (
            other.search(asked, k=5, exact=True),
            other.search(asked, k=5, shortlist=400)
            if other.loaded is None
            else other.search(asked),
        ):
            np.testing.assert_allclose(
                found.distances[:, 0], 1 - (queries @ unit.T).max(axis=1), atol=1e-5
            )
        single = other.search(asked[0], k=5)
        np.testing.assert_allclose(single.distances[0], 1 - (queries[0] @ unit.T).max(), atol=1e-5)
        assert other.recall(asked, k=5).mean > 0.5
        assert other.explain(asked[0], want=[int(single.ids[0])]).fates[0].outcome == "found"
        other.load(route="flat", cache=False)
    assert type(other.adaptor) is type(change)
    assert db.create_collection("plain", dims=DIMS).adaptor is None


@pytest.mark.parametrize("key_type", ["bigint", "uuid", "text"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_collection_is_copied_with_its_vectors_changed(db, kind, key_type, monkeypatch):
    change, rows = CHANGES[kind](), made(500)
    key = {
        "bigint": int,
        "uuid": lambda i: uuid.UUID(int=i),
        "text": lambda i: f"100 % of row {i}",
    }[key_type]
    keys = [key(i) for i in range(500)]
    columns = {"year": "integer", "tags": "text[]", "half %": "double precision"}
    docs = db.create_collection(
        "docs",
        dims=DIMS,
        nesting_dims=(4, 8, DIMS),
        shortlist_dims=8,
        key_type=key_type,
        columns=columns,
    )
    years, tags = (
        [None if i % 7 == 0 else i for i in range(500)],
        [[f"t{i}", "a"] for i in range(500)],
    )
    docs.add(keys, rows, year=years, tags=tags, **{"half %": [i / 2 for i in range(500)]})
    monkeypatch.setattr("mrl_db.postgres.adapting._BLOCK_BYTES", 64 * 130)  # some blocks
    seen = []

    adapted = docs.adapt(
        "docs, adapted", change, progress=lambda done, total: seen.append((done, total))
    )

    got = adapted.get(keys)
    np.testing.assert_allclose(got.vectors, change.apply(rows), rtol=1e-6, atol=1e-6)
    assert got.columns["year"] == years
    assert got.columns["tags"] == tags
    assert got.columns["half %"][3] == 1.5
    assert adapted.count() == 500
    assert adapted.low_dims == 8
    assert adapted.nesting_dims == (4, 8, DIMS)
    assert seen[-1] == (500, 500)
    assert len(seen) > 2
    np.testing.assert_array_equal(docs.get(keys).vectors, rows)  # left as it was
    for nearest in (
        adapted.search(rows[3], k=1, exact=True),
        adapted.search(got.vectors[3], k=1, exact=True, as_stored=True),
    ):
        assert nearest.ids[0] == keys[3]
        assert nearest.distances[0] == pytest.approx(0, abs=1e-5)
    assert adapted.search(got.vectors[3], k=1, exact=True).distances[0] > 1e-3  # changed twice
    with pytest.raises(mrl_db.ValueRangeError, match="adapted already"):
        adapted.adapt("again", change)
    with pytest.raises(mrl_db.CollectionExistsError):
        docs.adapt("docs, adapted", change)


def test_a_copy_that_fails_leaves_nothing(db):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add(np.arange(50), made(50))
    bad = network()
    bad.outer[:] = np.nan

    with pytest.raises(mrl_db.MrlDbError):
        docs.adapt("copy", bad)
    assert db.list() == ["docs"]


def test_what_can_be_no_adaptor_of_a_collection_is_refused(db):
    with pytest.raises(mrl_db.ValueRangeError, match="16 dims"):
        db.create_collection("docs", dims=8, adaptor=network())
    with pytest.raises(mrl_db.ValueRangeError, match="cosine"):
        db.create_collection("docs", dims=DIMS, metric="l2", adaptor=network())
    with pytest.raises(mrl_db.ValueRangeError, match="wanted a Rotation"):
        db.create_collection("docs", dims=DIMS, adaptor=np.eye(DIMS))
    assert db.list() == []
    assert (
        db.create_collection("docs", dims=DIMS, metric="l2", adaptor=Rotation.fit(made(50))).adaptor
        is not None
    )


def test_an_adaptor_is_for_good(db):
    docs = db.create_collection("docs", dims=DIMS)
    docs.add([1], made(1))
    db.create_collection("adapted", dims=DIMS, adaptor=network())
    with psycopg.connect(db.dsn, autocommit=True) as connection:
        for name in ("docs", "adapted"):
            with pytest.raises(psycopg.Error) as raised:
                connection.execute("SELECT mrl.set_adaptor(%s, %s)", (name, network().to_bytes()))
            assert raised.value.sqlstate == "MR003"
        db.drop("adapted")
        assert connection.execute("SELECT count(*) FROM mrl.adaptor").fetchone() == (0,)


@pytest.mark.parametrize("kind", CHANGES)
def test_stored_bytes_say_which_of_the_two_it_is(kind):
    change, rows = CHANGES[kind](), made(20)
    again = transform_from_bytes(change.to_bytes())

    assert type(again) is type(change)
    np.testing.assert_array_equal(again.apply(rows), change.apply(rows))
