"""The filter compiler: only values reach parameters, and PostgreSQL's answer equals a Python evaluator's.

MRL_DB_FILTER_EXAMPLES sets how many filters are made; `make soak` asks for 100,000.
"""

import datetime
import itertools
import os
import re
import uuid

import evaluator
import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

import mrl_db
from mrl_db import FilterError
from mrl_db.model import filters
from mrl_db.postgres import conditions

EXAMPLES = int(os.environ.get("MRL_DB_FILTER_EXAMPLES", "800"))
NASTY = [
    "",
    "a",
    "B",
    "a%",
    "_",
    "\\",
    "'; DROP TABLE docs; --",
    '"',
    "%s",
    "{}",
    "$1",
    "ab",
    "aB%",
    "Zz",
]
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
COLUMNS = {
    "year": ("integer", st.integers(-3, 3)),
    "size": ("bigint", st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2)),
    "score": ("double precision", st.sampled_from([-1.5, 0.0, 0.1, 2.0, float("inf")])),
    "title": ("text", st.sampled_from(NASTY)),
    'odd "%s {x}': ("text", st.sampled_from(NASTY)),
    "open": ("boolean", st.booleans()),
    "when": (
        "timestamp with time zone",
        st.integers(0, 2).map(lambda days: EPOCH + datetime.timedelta(days)),
    ),
    "key": ("uuid", st.integers(0, 2).map(lambda i: uuid.UUID(int=i))),
}
TYPES = {name: kind for name, (kind, _) in COLUMNS.items()}
PATTERN = st.lists(
    st.sampled_from(["a", "B", "%", "_", "\\\\", "\\%", "'", "{}", "Z"]), max_size=4
).map("".join)


def _condition(name):
    kind, values = COLUMNS[name]
    compared = st.dictionaries(
        st.sampled_from(["$lt", "$lte", "$gt", "$gte"]), values, min_size=1, max_size=2
    )
    options = [
        values,
        st.none(),
        st.fixed_dictionaries({"$eq": values | st.none()}),
        st.fixed_dictionaries({"$ne": values | st.none()}),
        st.fixed_dictionaries({"$in": st.lists(values | st.none(), max_size=3)}),
        st.fixed_dictionaries({"$nin": st.lists(values | st.none(), max_size=3)}),
        st.fixed_dictionaries({"$exists": st.booleans()}),
        compared,
        st.fixed_dictionaries({"$not": compared}),
    ]
    if kind == "text":
        options += [
            st.fixed_dictionaries({"$like": PATTERN}),
            st.fixed_dictionaries({"$ilike": PATTERN}),
        ]
    return st.one_of(options)


TOKENS = re.compile(
    r"""(row_\."(year|size|score|title|odd\ ""%%s\ {x}|open|when|key)"|%s|\ |[()]|=|<|<=|>|>=|::|\[\]
    |TRUE|FALSE|AND|OR|NOT|IS|NULL|DISTINCT|FROM|ANY|LIKE|ILIKE
    |integer|bigint|double\ precision|text|boolean|timestamp\ with\ time\ zone|uuid)*""",
    re.VERBOSE,
)
LEAF = st.sampled_from(list(COLUMNS)).flatmap(
    lambda name: st.fixed_dictionaries({name: _condition(name)})
)
FILTER = st.recursive(
    LEAF | st.just({}),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    pools = {
        "year": [None, -1, 0, 1, 2],
        "size": [None, 0, 1, 2, 2**63 - 1],
        "score": [None, -1.5, 0.0, 0.1, float("inf")],
        "title": [None, *NASTY],
        'odd "%s {x}': [None, *NASTY],
        "open": [None, True, False],
        "when": [None, EPOCH, EPOCH + datetime.timedelta(1)],
        "key": [None, uuid.UUID(int=0), uuid.UUID(int=1)],
    }
    return [
        {name: pool[rng.integers(len(pool))] for name, pool in pools.items()} for _ in range(60)
    ]


@pytest.fixture(scope="module")
def connection(server, rows):
    if "filtered" in server.list():
        server.drop("filtered")
    docs = server.create_collection("filtered", dims=2, columns=TYPES)
    docs.add(
        list(range(len(rows))),
        np.ones((len(rows), 2)),
        **{name: [row[name] for row in rows] for name in COLUMNS},
    )
    with psycopg.connect(server.dsn, autocommit=True) as found:
        yield found


def test_every_filter_means_in_sql_what_it_means_in_python(connection, rows):
    numbers = itertools.count()

    @given(where=FILTER)
    @settings(max_examples=EXAMPLES)
    def check(where):
        next(numbers)
        tree = filters.parse(where, TYPES)
        condition, parameters = conditions.compile_condition(tree, TYPES)
        text = condition.as_string(connection)

        assert TOKENS.fullmatch(text), (
            text
        )  # no value in the text: it is made of our fragments and quoted names alone
        assert text.replace("%%", "").count("%s") == len(parameters)
        statement = sql.SQL('SELECT id FROM public."filtered" AS row_ WHERE {} ORDER BY id').format(
            condition
        )
        found = [row[0] for row in connection.execute(statement, parameters).fetchall()]
        assert found == [place for place, row in enumerate(rows) if evaluator.holds(where, row)]

    check()
    assert next(numbers) >= min(EXAMPLES, 1000)


@given(name=st.text(max_size=80))
@settings(max_examples=EXAMPLES)
def test_every_name_is_quoted_whole_or_refused(name):
    """An identifier comes back from its quoted form as it went in; what PostgreSQL would cut is refused."""
    from mrl_db import door
    from mrl_db.postgres import statements

    try:
        door.checked_name(name, "the name")
    except mrl_db.ValueRangeError:
        encoded = name.encode(errors="surrogatepass")
        assert (
            "\0" in name
            or not 1 <= len(encoded) <= 63
            or any(0xD800 <= ord(c) <= 0xDFFF for c in name)
        )
        return
    quoted = statements.identifier(name).as_string(None)
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', '"').replace("%%", "%") == name
    assert '"' not in quoted[1:-1].replace('""', "")


def test_names_go_through_the_server_unchanged(connection):
    @given(
        name=st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
            max_size=15,
        )
    )
    @settings(max_examples=min(EXAMPLES, 3000))
    def check(name):
        from mrl_db.postgres import statements

        statement = sql.SQL("SELECT 1 AS {}").format(statements.identifier(name))
        assert connection.execute(statement, ()).description[0].name == name

    check()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"year": {"$regex": 1}}, r"\$regex.*not known; choose one of \$eq"),
        ({"yeer": 1}, "no column 'yeer'.*there are: year"),
        ({"$xor": []}, r"\$xor"),
        ({"year": "2020"}, "year.*integer.*wanted an integer"),
        ({"year": 2**40}, "from -2147483648"),
        ({"year": True}, "wanted an integer"),
        ({"year": {"$in": 5}}, "wanted a list"),
        ({"year": {"$lt": None}}, "no order"),
        ({"year": {}}, "empty condition"),
        ({"year": {"$like": "x"}}, "needs text"),
        ({"title": {"$like": 5}}, "pattern"),
        ({"title": {"$like": "x\\"}}, "escape"),
        ({"title": "nul\0"}, "NUL"),
        ({"score": float("nan")}, "NaN"),
        ({"title": {"$exists": 1}}, "True or False"),
        ({"$not": [{}]}, "one filter"),
        ({"$and": {}}, "list of filters"),
        ({5: 1}, "names 5"),
        ([], "wanted a dict"),
        ({"when": datetime.datetime(2026, 1, 1)}, "with a time zone"),
        ({"key": "0000"}, r"uuid\.UUID"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(where, said):
    with pytest.raises(FilterError, match=said):
        filters.parse(where, TYPES)
