"""Law 7: bad input is refused at the door, with both sides, before anything is written."""

import re
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from psycopg import sql

import mrl_db
from mrl_db.classify import Cascade

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


BAD_ARGUMENTS = {
    "no nesting dims": (lambda db: db.attach("t", nesting_dims=()), "nesting_dims is ()"),
    "one nesting dim": (lambda db: db.attach("t", nesting_dims=3), "nesting_dims is 3"),
    "a width": (lambda db: db.create_collection("q", dims=3, nesting_dims=3), "nesting_dims is 3"),
    "a text": (lambda db: db.create_collection("q", dims=3, text=["a"]), "the column of text is"),
    "a model": (lambda db: db.create_collection("q", model=5), "no rule for model 5"),
    "two metas": (
        lambda db: db.create_collection("q", dims=3, columns={"meta": "text"}, metadata=True),
        "column meta",
    ),
    "links": (lambda db: db["docs"].create_index(m="16"), "m is '16'"),
    "half links": (lambda db: db["docs"].create_index(m=16.5, kind="hnsw"), "m is 16.5"),
    "candidates": (lambda db: db["docs"].create_index(ef_construction=None), "ef_construction is"),
    "no group": (lambda db: db["docs"].search([1.0, 2, 3], group_by=[]), "group_by is []"),
    "two groups": (
        lambda db: db["docs"].search([1.0, 2, 3], group_by=["year", "title"]),
        "group_by is",
    ),
    "a far page": (
        lambda db: db["docs"].search([1.0, 2, 3], offset=2**31 - 1, engine="sql"),
        "k + offset is 2147483657",
    ),
    "too many alike": (lambda db: db["docs"].search(like=1, k=2**31 - 1), "k + offset is"),
    "listed columns": (lambda db: db["docs"].get([1], columns=[["a"]]), "no column ['a']"),
    "no classifier": (lambda db: db["docs"].classify(5), "wanted a Cascade"),
    "none to save": (lambda db: db["docs"].save_classifier("a", 5), "wanted a Cascade"),
    "a number": (lambda db: db["docs"].classifier(5), "the classifier's name is 5"),
    "no text": (lambda db: embedded(db).search_text(None), "text is None"),
    "no texts": (lambda db: embedded(db).add_texts([1], None), "texts is None"),
    "a file": (lambda db: db["docs"].report(__file__), "folder is"),
    "no folder": (lambda db: db["docs"].report(5), "folder is 5"),
    "deep filter": (lambda db: db["docs"].count(deep("$not", {})), "100 levels deep"),
    "deep condition": (
        lambda db: db["docs"].count({"year": deep("$not", 5)}),
        "100 levels deep",
    ),
    "deep JSON": (
        lambda db: jsonb(db).count({"meta.a": {"$eq": deep("a", 5)}}),
        "100 levels deep",
    ),
    "deep column": (
        lambda db: jsonb(db).count({"meta": {"$eq": deep("a", 5)}}),
        "wanted",
    ),
    "deep JSON whole": (
        lambda db: jsonb(db).count({"meta": {"$contains": deep("a", 5)}}),
        "100 levels deep",
    ),
    "values": (
        lambda db: db["docs"].count(
            mrl_db.raw(sql.SQL("row_.year IN ({})").format(sql.SQL("%s, " * 69_999 + "%s")), *YEARS)
        ),
        "70000 values",
    ),
    "raising": (lambda db: db["docs"].add([1], Raising()), "no device"),
}
YEARS = range(70_000)


class Raising:
    def __array__(self, *_, **__):
        raise RuntimeError("no device")


def embedded(db):
    return db.open("docs", embed=lambda texts: np.ones((len(texts), 3), F32))


def jsonb(db):
    return db.create_collection("json", dims=3, metadata=True)


def deep(name, value):
    for _ in range(3000):
        value = {name: value}
    return value


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cascade(4), "dims is 4"),
        (lambda: Cascade("ab"), "dims is 'ab'"),
        (lambda: fitted(max_loss="a"), "max_loss is 'a'"),
        (lambda: fitted(max_loss=float("nan")), "max_loss is nan"),
    ],
)
def test_an_argument_of_a_cascade_that_cannot_be_meant_is_named(make, said):
    with pytest.raises(mrl_db.ValueRangeError, match=said):
        make()


def fitted(**target):
    return Cascade([2]).fit_rule(np.ones((9, 2), F32), np.zeros(9, int), **target)


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_an_argument_that_cannot_be_meant_is_named(db, docs, execute, case):
    execute("CREATE TABLE t (id bigint PRIMARY KEY, embedding vector(3))")
    docs.add([1], [[1.0, 2, 3]], year=[2020], title=["a"])
    call, said = BAD_ARGUMENTS[case]

    with pytest.raises(mrl_db.MrlDbError, match=re.escape(said)):
        call(db)

    assert docs.count() == 1


def test_long_junctions_are_taken(docs):
    docs.add([1, 2], [[1.0, 2, 3]] * 2, year=[2020, 7000], title=["a", "b"])

    assert docs.count({"$or": [{"year": year} for year in range(3000)]}) == 1
    assert docs.count({"$and": [{"year": {"$ne": year}} for year in range(3000)]}) == 1
    assert docs.count(deep_of(90)) == 2


def deep_of(levels):
    return {"$not": deep_of(levels - 1)} if levels else {}


def test_a_buffer_of_two_axes_is_taken(docs):
    docs.add([1], memoryview(np.array([[1, 2, 3]], F32)))

    assert docs.get([1]).vectors.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("metric", ["l2", "inner_product"])
def test_rows_that_no_distance_tells_apart_are_refused(db, metric):
    docs = db.create_collection("tiny", dims=4, metric=metric)

    with pytest.raises(mrl_db.ValueRangeError, match="row 2: its length is 1e-25.*scale it"):
        docs.add([1, 2, 3], [[0] * 4, [1, 0, 0, 0], [1e-25, 0, 0, 0]])

    docs.add([1, 2], [[0] * 4, [1e-9, 0, 0, 0]])
    assert docs.search([1e-25, 0, 0, 0], k=2).ids.tolist()[0] in (1, 2)
