"""Filters of LangChain, LlamaIndex and Haystack become ours, whether these are installed or not."""

import datetime

import evaluator
import llama_filters
import numpy as np
import pytest
from hypothesis import given

import mrl_db
from mrl_db.integrations import rows
from mrl_db.integrations.filters import Names, both, from_haystack, from_langchain, from_llama_index
from mrl_db.model import filters as language
from mrl_db.model.metric import Metric

NAMES = Names(("year", "facts"), "meta", {"id": "key"})
TYPES = {"key": "text", "year": "integer", "facts": "jsonb", "meta": "jsonb"}


@given(filters=llama_filters.made())
def test_filters_of_llama_index_mean_what_they_say(filters):
    rng = np.random.default_rng(7)
    where = from_llama_index(filters, NAMES)
    language.parse(where, TYPES)

    for _ in range(20):
        metadata = llama_filters.some_metadata(rng)
        row = {"key": "1", "year": 1, "facts": None, "meta": metadata}
        assert evaluator.holds(where, row) == llama_filters.holds(filters, metadata)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (None, {}),
        ({}, {}),
        ({"year": 1}, {"year": 1}),
        ({"by.name": {"$in": ["a"]}}, {"meta.by.name": {"$in": ["a"]}}),
        ({"facts.a": 1, "id": 2}, {"$and": [{"facts.a": 1}, {"key": 2}]}),
        ({"year": {"$between": [1, 2]}}, {"year": {"$gte": 1, "$lte": 2}}),
        ({"$not": {"a": 1}}, {"$not": {"meta.a": 1}}),
        ({"$not": [{"a": 1}, {"b": 2}]}, {"$not": {"$or": [{"meta.a": 1}, {"meta.b": 2}]}}),
        ({"$or": [{"a": 1, "b": 2}]}, {"$or": [{"$and": [{"meta.a": 1}, {"meta.b": 2}]}]}),
    ],
)
def test_filters_of_langchain_become_ours(theirs, ours):
    assert from_langchain(theirs, NAMES) == ours


def condition(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (None, {}),
        ({}, {}),
        (condition("id", "==", "1"), {"key": {"$eq": "1"}}),
        (condition("meta.id", "!=", "1"), {"meta.id": {"$ne": "1"}}),
        (condition("year", ">", 1), {"year": {"$gt": 1}}),
        (condition("meta.a.b", "in", [1]), {"meta.a.b": {"$in": [1]}}),
        (condition("a", "not in", []), {"meta.a": {"$nin": []}}),
        (condition("a", "<", None), {"$or": []}),
        (
            condition("a", ">=", "2024-01-31T00:00:00Z"),
            {"meta.a": {"$gte": "2024-01-31T00:00:00Z"}},
        ),
        (
            condition("a", "<=", datetime.datetime(2024, 1, 31)),
            {"meta.a": {"$lte": "2024-01-31T00:00:00"}},
        ),
        (
            {"operator": "NOT", "conditions": [condition("a", "==", 1), condition("b", "==", 2)]},
            {"$not": {"$and": [{"meta.a": {"$eq": 1}}, {"meta.b": {"$eq": 2}}]}},
        ),
        ({"operator": "OR", "conditions": []}, {"$or": []}),
        ({"operator": "AND", "conditions": []}, {}),
    ],
)
def test_filters_of_haystack_become_ours(theirs, ours):
    assert from_haystack(theirs, NAMES) == ours


LEAF, SEVERAL = llama_filters.Leaf, llama_filters.Several


@pytest.mark.parametrize(
    ("translate", "theirs"),
    [
        (from_langchain, []),
        (from_langchain, {"$nor": []}),
        (from_langchain, {"$and": {"a": 1}}),
        (from_langchain, {"a": {"$between": 5}}),
        (from_langchain, {"a": {"$between": [1, 2], "$lte": 3}}),
        (from_langchain, {5: 1}),
        (from_llama_index, SEVERAL([LEAF("a", 1, "~")], "and")),
        (from_llama_index, SEVERAL([LEAF("a", 1, "==")], "xor")),
        (from_llama_index, SEVERAL([LEAF("a", 1, "in")], "and")),
        (from_llama_index, SEVERAL([LEAF("a", 1, "text_match")], "and")),
        (from_llama_index, SEVERAL([LEAF("", 1, "==")], "and")),
        (from_haystack, [1]),
        (from_haystack, {"operator": "AND"}),
        (from_haystack, {"conditions": []}),
        (from_haystack, {"operator": "XOR", "conditions": []}),
        (from_haystack, {"operator": "AND", "conditions": 5}),
        (from_haystack, {"field": "a", "operator": "=="}),
        (from_haystack, condition("a", "~", 1)),
        (from_haystack, condition("a", "in", (1, 2))),
        (from_haystack, condition("a", ">", "1")),
        (from_haystack, condition("a", ">", [1])),
        (from_haystack, condition("embedding", "==", None)),
    ],
)
def test_what_cannot_be_meant_is_refused(translate, theirs):
    with pytest.raises(mrl_db.FilterError):
        translate(theirs, NAMES)


def test_without_a_column_of_json_only_columns_are_filtered_by():
    names = Names(("year",), None, {})

    assert from_langchain({"year": 1}, names) == {"year": 1}
    with pytest.raises(mrl_db.FilterError, match="no metadata 'a' to filter by; there are: year"):
        from_langchain({"a": 1}, names)


def test_filters_are_joined():
    assert both({}, {"a": 1}, {}) == {"a": 1}
    assert both({"a": 1}, {"b": 2}) == {"$and": [{"a": 1}, {"b": 2}]}


def test_the_more_alike_the_greater_the_similarity():
    distances = np.array([-1.0, 0.0, 3.0])

    assert rows.similarities(distances, Metric.cosine) == [2.0, 1.0, -2.0]
    assert rows.similarities(distances, Metric.inner_product) == [1.0, 0.0, -3.0]
    assert rows.similarities(distances[1:], Metric.l2) == [1.0, 0.25]
