"""Law 7: bad input is refused at the door, with both sides, before anything is written."""

import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mrl_db

F32 = np.float32


@pytest.fixture
def docs(db):
    return db.create_collection("docs", dims=3, columns={"year": "integer", "title": "text"})


BAD_VECTORS = {
    "NaN": (np.array([[1, 2, np.nan]], F32), mrl_db.ValueRangeError, "row 0: a NaN"),
    "infinity": (
        np.array([[1, 2, 3], [1, np.inf, 3]], F32),
        mrl_db.ValueRangeError,
        "row 1: a NaN or an infinity",
    ),
    "overflow": (np.array([[1e39, 2, 3]]), mrl_db.ValueRangeError, "3.4e38"),
    "width": (
        np.ones((2, 4), F32),
        mrl_db.ShapeError,
        'vectors has 4 dims, collection "docs" has 3',
    ),
    "axes": (np.ones(3, F32), mrl_db.ShapeError, "1 axes"),
    "cube": (np.ones((1, 1, 3), F32), mrl_db.ShapeError, "3 axes"),
    "integers": (np.ones((1, 3), np.int64), mrl_db.DtypeError, "int64"),
    "strings": ([["a", "b", "c"]], mrl_db.DtypeError, "wanted float32"),
    "objects": (np.array([[None, 1, 2]], object), mrl_db.DtypeError, "object"),
    "complex": (np.ones((1, 3), complex), mrl_db.DtypeError, "complex128"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], mrl_db.ShapeError, "ragged"),
    "zero": (
        np.array([[1, 1, 1], [0, -0.0, 0]], F32),
        mrl_db.ValueRangeError,
        "row 1: a zero vector",
    ),
    "empty": (np.empty((0, 3), F32), mrl_db.ShapeError, "empty"),
    "nothing": ([], mrl_db.ShapeError, "empty"),
}


@pytest.mark.parametrize("case", BAD_VECTORS)
@pytest.mark.parametrize("method", ["add", "upsert"])
def test_bad_vectors(docs, case, method):
    vectors, error, said = BAD_VECTORS[case]

    with pytest.raises(error, match=said):
        getattr(docs, method)(list(range(len(vectors) or 1)), vectors)

    assert docs.count() == 0


BAD_IDS = {
    "twice": ([1, 1], mrl_db.DuplicateKeyError, "id 1 stands twice"),
    "strings": (["a", "b"], mrl_db.DtypeError, "give integers"),
    "floats": ([1.0, 2.0], mrl_db.DtypeError, "float"),
    "float array": (np.array([1.0, 2.0]), mrl_db.DtypeError, "float"),
    "booleans": ([True, False], mrl_db.DtypeError, "bool"),
    "uuids": ([uuid.uuid4(), uuid.uuid4()], mrl_db.DtypeError, "UUID"),
    "too large": ([1, 2**63], mrl_db.ValueRangeError, "bigint holds"),
    "unsigned": (np.array([1, 2**63], np.uint64), mrl_db.ValueRangeError, "bigint holds"),
    "too few": ([1], mrl_db.ShapeError, "1 ids for 2 vectors"),
    "none": ([], mrl_db.ShapeError, "empty"),
    "two axes": (np.ones((2, 1), int), mrl_db.ShapeError, "one axis"),
    "a string": ("ab", mrl_db.ShapeError, "wanted a list"),
    "None": ([None, 1], mrl_db.DtypeError, "None"),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids(docs, case):
    ids, error, said = BAD_IDS[case]

    with pytest.raises(error, match=said):
        docs.add(ids, np.ones((2, 3), F32))

    assert docs.count() == 0


@pytest.mark.parametrize(
    ("ids", "said"),
    [([1, 2], "int"), (["a\0b", "c"], "NUL"), (["\ud800", "c"], "Unicode"), (["a", "a"], "twice")],
)
def test_bad_text_ids(db, ids, said):
    docs = db.create_collection("texts", dims=3, key_type="text")

    with pytest.raises(mrl_db.MrlDbError, match=said):
        docs.add(ids, np.ones((2, 3)))


def test_bad_uuid_ids(db):
    docs = db.create_collection("uuids", dims=3, key_type="uuid")

    with pytest.raises(mrl_db.DtypeError, match=r"uuid\.UUID"):
        docs.add([str(uuid.uuid4())], np.ones((1, 3)))


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"yeer": [1, 2]}, mrl_db.ValueRangeError, "no column 'yeer'; there are: year, title"),
        ({"year": [1]}, mrl_db.ShapeError, "1 values for 2 rows"),
        ({"year": ["a", "b"]}, mrl_db.DtypeError, "year"),
        ({"year": [1, 2**40]}, mrl_db.MrlDbError, "year|integer"),
        ({"title": [1, 2]}, mrl_db.DtypeError, "title"),
        ({"title": "ab"}, mrl_db.ShapeError, "wanted a list"),
        ({"title": ["nul\0", "b"]}, mrl_db.MrlDbError, "title|NUL"),
    ],
)
def test_bad_columns(docs, columns, error, said):
    with pytest.raises(error, match=said):
        docs.add([1, 2], np.ones((2, 3)), **columns)

    assert docs.count() == 0


@pytest.mark.parametrize("k", [0, -1, 1.0, "10", None, True, 2**31])
@pytest.mark.parametrize("exact", [False, True])
def test_bad_k(docs, k, exact):
    with pytest.raises(mrl_db.ValueRangeError, match="k is"):
        docs.search(np.ones(3), k=k, exact=exact)


@pytest.mark.parametrize(
    ("query", "error", "said"),
    [
        (np.ones(4), mrl_db.ShapeError, "query has 4 dims"),
        (np.ones((1, 1, 3)), mrl_db.ShapeError, "3 axes"),
        (np.zeros(3), mrl_db.ValueRangeError, "zero vector"),
        ([1.0, float("nan"), 0.0], mrl_db.ValueRangeError, "NaN"),
        (np.empty((0, 3)), mrl_db.ShapeError, "empty"),
        ("abc", mrl_db.DtypeError, "query"),
    ],
)
def test_bad_queries(docs, query, error, said):
    with pytest.raises(error, match=said):
        docs.search(query)


@pytest.mark.parametrize("shortlist", [0, "many", 1.5])
def test_bad_shortlists(docs, shortlist):
    with pytest.raises(mrl_db.ValueRangeError, match="shortlist is"):
        docs.search(np.ones(3), shortlist=shortlist)


def test_a_plan_for_other_dims_is_refused(docs):
    plan = mrl_db.Plan("hnsw", 40, (mrl_db.Stage(4, mrl_db.Precision.float32, 10),))

    with pytest.raises(mrl_db.PlanError, match="4 dims"):
        docs.search(np.ones(3), plan=plan)


def test_an_engine_that_is_not_here_is_refused(docs):
    with pytest.raises(mrl_db.ValueRangeError, match="engine is 'gpu'"):
        docs.search(np.ones(3), engine="gpu")


@pytest.mark.parametrize("name", ["", "x" * 57, "ü" * 29, "a\0b", 7, None, "\ud800"])
def test_bad_collection_names(db, name):
    with pytest.raises(mrl_db.ValueRangeError, match="the collection name"):
        db.create_collection(name, dims=3)
    with pytest.raises(mrl_db.ValueRangeError, match="the collection name"):
        db.open(name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dims": 0}, "1 to 16000"),
        ({"dims": 16001}, "1 to 16000"),
        ({"dims": 2.5}, "integer"),
        ({"dims": 8, "nesting_dims": (4, 2, 8)}, "rising"),
        ({"dims": 8, "nesting_dims": (4,)}, "full 8 dims"),
        ({"dims": 8, "nesting_dims": ()}, "rising"),
        ({"dims": 8, "nesting_dims": (2.5, 8)}, "integers"),
        ({"dims": 8, "shortlist_dims": 9}, "shortlist_dims is 9"),
        ({"dims": 8, "metric": "manhattan"}, "cosine, inner_product, l2"),
        ({"dims": 8, "key_type": "json"}, "key_type"),
        ({"dims": 8, "columns": {"id": "text"}}, "taken"),
        ({"dims": 8, "columns": {"x": "no such type"}}, "plain name of a type"),
        ({"dims": 8, "columns": {"x": "text; DROP TABLE docs"}}, "plain name of a type"),
        ({"dims": 8, "columns": {"x" * 64: "text"}}, "64 bytes"),
        ({"dims": 8, "columns": {"": "text"}}, "0 bytes"),
        ({"dims": 8, "columns": {"nul\0": "text"}}, "NUL"),
    ],
)
def test_bad_definitions(db, arguments, said):
    with pytest.raises(mrl_db.ValueRangeError, match=said):
        db.create_collection("new", **arguments)

    assert db.list() == []


def test_a_collection_that_exists_or_does_not(db, execute):
    db.create_collection("docs", dims=3)
    execute("CREATE TABLE plain (id int)")

    with pytest.raises(mrl_db.CollectionExistsError, match="exists already"):
        db.create_collection("docs", dims=3)
    with pytest.raises(mrl_db.CollectionExistsError, match="relation .* exists already"):
        db.create_collection("plain", dims=3)
    with pytest.raises(mrl_db.CollectionNotFoundError, match='no collection "other"'):
        db.open("other")
    with pytest.raises(mrl_db.CollectionNotFoundError, match='no collection "other"'):
        db.drop("other")
    with pytest.raises(mrl_db.CollectionNotFoundError, match="no schema"):
        db.create_collection("new", dims=3, schema="nowhere")


def test_halves_that_would_overflow_are_refused(db):
    docs = db.create_collection("docs", dims=3, metric="l2")

    with pytest.raises(mrl_db.ValueRangeError, match="65504"):
        docs.add([1], [[70000.0, 0.0, 0.0]])
    assert docs.add([1], [[65504.0, 0.0, 0.0]]) == 1


def test_values_of_other_layouts_are_taken_as_they_are(docs):
    wide = np.arange(1, 25, dtype=np.float64).reshape(4, 6)
    for number, array in enumerate(
        [
            wide[:, ::2],
            wide[:, :3].astype(np.float16),
            wide[::-1, :3],
            np.asfortranarray(wide[:, :3]),
            wide[:, :3].astype(">f4"),
        ]
    ):
        ids = [10 * number + i for i in range(4)]
        docs.add(ids, array)
        np.testing.assert_array_equal(docs.get(ids).vectors, array.astype(np.float32))


anything = st.one_of(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int32, bool]),
        hnp.array_shapes(max_dims=3, max_side=4),
    ),
    st.lists(st.lists(st.floats(), max_size=4), max_size=4),
    st.none(),
    st.text(max_size=3),
    st.floats(),
)


@given(
    vectors=anything,
    ids=st.lists(st.one_of(st.integers(), st.text(max_size=2), st.none(), st.floats()), max_size=4),
)
@settings(max_examples=400)
def test_law_7_whatever_comes_is_refused_whole_or_stored_whole(server, vectors, ids):
    """Only our errors, nothing half written: what was accepted is found again, bit for bit."""
    docs = _fuzz_collection(server)
    before = docs.count()
    try:
        count = docs.upsert(ids, vectors)
    except mrl_db.MrlDbError:
        assert docs.count() == before
    else:
        assert count == len(ids)
        given = [] if vectors is None else vectors  # a list of no dicts
        np.testing.assert_array_equal(
            docs.get(ids).vectors, np.asarray(given, np.float32).reshape(-1, 3)
        )


def _fuzz_collection(server):
    if "fuzz" not in server.list():
        server.create_collection("fuzz", dims=3)
    return server.open("fuzz")
