"""A part of a table in this process: the parts make up the whole, whatever is written when."""

import uuid

import numpy as np
import pytest

import mrl_db

DIMS, N, PARTS = 16, 400, 3
KEYS = {
    "bigint": lambda n: 7 * n - 900,
    "smallint": lambda n: n - 200,
    "uuid": lambda n: uuid.uuid5(uuid.NAMESPACE_OID, str(n)),
    "text": lambda n: f"ключ {n}" if n % 2 else f"Key-{n}",
}
"""The key of each type for a number."""


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((2 * N, DIMS)).astype(np.float32)


def keys(key_type, numbers):
    made = [KEYS[key_type](int(n)) for n in numbers]
    return np.array(made) if isinstance(made[0], int) else made


def make(db, vectors, key_type="bigint"):
    docs = db.create_collection("docs", dims=DIMS, key_type=key_type, columns={"year": "integer"})
    docs.add(keys(key_type, range(N)), vectors[:N], year=np.arange(N) % 4)
    return docs


def opened_in_parts(db, parts=PARTS, **options):
    opened = [db.open("docs") for _ in range(parts)]
    for number, part in enumerate(opened):
        part.load(part=(number, parts), route="flat", **options)
    return opened


def assert_parts_are_the_whole(parts, docs, query, where=None):
    """Each part gives its rows by distance and key; together they are all rows, each once."""
    whole = docs.search(query, k=2 * N, exact=True, where=where)
    answers = [part.search(query, k=2 * N, where=where) for part in parts]
    pairs = sorted((distance, key) for hits in answers for key, distance in hits)

    assert [key for _, key in pairs] == whole.ids.tolist()
    np.testing.assert_allclose([distance for distance, _ in pairs], whole.distances, atol=1e-6)
    return [len(hits) for hits in answers]


@pytest.mark.parametrize("key_type", KEYS)
def test_the_parts_make_up_the_whole_and_follow_what_is_written(db, vectors, execute, key_type):
    docs = make(db, vectors, key_type)
    parts = opened_in_parts(db)
    sizes = assert_parts_are_the_whole(parts, docs, vectors[0])
    assert min(sizes) > N / PARTS / 2
    assert [part.loaded.rows for part in parts] == sizes

    docs.add(keys(key_type, range(N, N + 60)), vectors[N : N + 60], year=np.full(60, 1))
    docs.delete(keys(key_type, range(0, 90, 3)))
    docs.upsert(keys(key_type, range(100, 140)), vectors[N + 100 : N + 140])
    assert_parts_are_the_whole(parts, docs, vectors[0])
    assert_parts_are_the_whole(parts, docs, vectors[1], where={"year": {"$in": [1, 2]}})

    execute("VACUUM FULL docs")  # all rows are compared
    execute("DELETE FROM docs WHERE year = 3")
    assert_parts_are_the_whole(parts, docs, vectors[2])
    docs.add(keys(key_type, range(N + 60, N + 70)), vectors[N + 60 : N + 70], year=np.full(10, 3))
    assert_parts_are_the_whole(parts, docs, vectors[3])
    for part in parts:
        part.unload()


def test_a_row_whose_key_changes_moves_to_the_part_of_its_new_key(db, vectors, execute):
    docs = make(db, vectors)
    parts = opened_in_parts(db)

    execute("UPDATE docs SET id = id + 1 WHERE year = 0")

    assert_parts_are_the_whole(parts, docs, vectors[0])


def test_each_part_has_a_file_of_its_own(db, vectors, monkeypatch, tmp_path):
    monkeypatch.setenv("MRL_DB_CACHE", str(tmp_path / "cache"))
    docs = make(db, vectors)
    for part in opened_in_parts(db):
        part.unload()
    docs.load(route="flat")
    files = sorted((tmp_path / "cache").glob("*.mrl"))
    assert len(files) == PARTS + 1
    docs.add([10**6], vectors[N : N + 1], year=[1])
    monkeypatch.setattr("mrl_db.engines.native.engine.read", None)  # nothing is read

    again = opened_in_parts(db)

    assert_parts_are_the_whole(again, docs, vectors[N])


def test_a_part_takes_its_share_of_the_memory(db, vectors):
    docs = make(db, vectors)
    docs.load(route="flat", cache=False)
    whole = docs.loaded.vector_bytes

    parts = opened_in_parts(db, cache=False)

    shares = [part.loaded.vector_bytes for part in parts]
    assert sum(shares) == whole
    with pytest.raises(mrl_db.MemoryLimitError, match="rows take"):
        parts[0].load(part=(0, PARTS), max_memory=1000)


def test_a_search_of_a_part_says_so_and_the_rest_sees_the_whole(db, vectors):
    docs = make(db, vectors)
    part = opened_in_parts(db)[1]

    for hits in (part.search(vectors[0]), part.search(vectors[0], where={"year": 1})):
        assert hits.trace.part == (1, PARTS)
        assert "part (1, 3) of the table" in str(hits.trace)
    assert "part (1, 3)" in part._repr_html_()
    assert part.count() == N
    assert len(part.get(keys("bigint", range(N))).ids) == N
    assert part.search(vectors[0], k=N, engine="sql").ids.tolist() == (
        docs.search(vectors[0], k=N, exact=True).ids.tolist()
    )
    assert part.explain(vectors[0], want=[KEYS["bigint"](n) for n in range(9)]).part == (1, PARTS)


def test_recall_is_measured_within_the_part_and_nothing_is_promised(db, vectors):
    make(db, vectors)
    part = opened_in_parts(db)[2]

    assert part.recall(sample=40, seed=1).mean > 0.99
    assert part.recall(vectors[N : N + 40]).mean > 0.99
    fates = part.explain(vectors[0], k=5, want=[KEYS["bigint"](n) for n in range(30)]).fates
    assert {fate.outcome for fate in fates} >= {"absent", "outranked"}
    with pytest.raises(mrl_db.ValueRangeError, match="part \\(2, 3\\).*mrl_db.parts"):
        part.tune(recall=0.9)


def test_groups_of_a_part_are_of_its_rows(db, vectors):
    make(db, vectors)
    parts = opened_in_parts(db)

    answers = [part.search(vectors[0], k=8, group_by="year", columns=["year"]) for part in parts]

    ids = [key for hits in answers for key in hits.ids.tolist()]
    assert len(set(ids)) == len(ids) == 4 * PARTS
    for part, hits in zip(parts, answers, strict=True):
        assert set(hits.ids.tolist()) <= set(part.search(vectors[0], k=N).ids.tolist())


@pytest.mark.parametrize("part", [(3, 3), (-1, 3), (0, 0), (0,), 2, (0.0, 2), (True, 2), "12"])
def test_a_part_that_cannot_be_is_refused(db, vectors, part):
    docs = make(db, vectors)
    with pytest.raises(mrl_db.ValueRangeError, match="part"):
        docs.load(part=part)
