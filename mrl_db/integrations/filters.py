"""Filters of LangChain, LlamaIndex and Haystack as filters of collections (`mrl_db.model.filters`).

Frameworks filter by metadata. A name of it stands for the real column, where the store keeps it in
one, and else for a path in the column of JSON: a dot leads into an object. No framework is imported
here; LlamaIndex's filters are read by their attributes.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrl_db.model.errors import FilterError

Filter = dict[str, Any]
_JUNCTIONS = ("$and", "$or")
_NEVER: Filter = {"$or": []}


@dataclass(frozen=True, slots=True)
class Names:
    """Where the metadata of a store is.

    Attributes:
        columns: Metadata that have columns of their own.
        json: The column of all others; None: there is none.
        further: Names that stand for a column called otherwise.
    """

    columns: Collection[str]
    json: str | None
    further: Mapping[str, str]

    def place(self, name: object) -> str:
        """Returns what a filter of ours calls a name; raises FilterError."""
        if not isinstance(name, str) or not name:
            raise FilterError(f"the filter names {name!r}, wanted the name of a metadata field")
        return self.further[name] if name in self.further else self.inside(name)

    def inside(self, name: str) -> str:
        """Returns the same for the name of a metadata field that nothing else is meant by."""
        if name in self.columns:
            return name
        root, dot, _ = name.partition(".")
        if dot and root in self.columns:
            return name
        if self.json is None:
            listed = ", ".join(self.columns) or "none"
            raise FilterError(f"no metadata {name!r} to filter by; there are: {listed}")
        return f"{self.json}.{name}"


# LangChain


def from_langchain(where: Mapping[str, Any] | None, names: Names) -> Filter:
    """Returns a filter as LangChain's stores over PostgreSQL take it, as one of ours.

    `{"year": {"$between": [2020, 2024]}, "$or": [...]}`: operators are ours, and `$between`.

    Raises:
        FilterError: It cannot be meant.
    """
    if where is None:
        return {}
    if not isinstance(where, Mapping):
        raise FilterError(
            f"a filter is a {type(where).__name__}, wanted a dict such as "
            "{'year': {'$gte': 2020}}; functions are not run in PostgreSQL"
        )
    parts: list[Filter] = []
    for name, value in where.items():
        if name in _JUNCTIONS:
            if not isinstance(value, (list, tuple)):
                raise FilterError(f"{name} holds a {type(value).__name__}, wanted a list")
            parts.append({name: [from_langchain(part, names) for part in value]})
        elif name == "$not":
            several = value if isinstance(value, (list, tuple)) else [value]
            parts.append(_not(_any([from_langchain(part, names) for part in several])))
        elif isinstance(name, str) and name.startswith("$"):
            known = ", ".join((*_JUNCTIONS, "$not"))
            raise FilterError(f"{name!r} stands where a metadata field or one of {known} is wanted")
        else:
            parts.append({names.place(name): _condition(name, value)})
    return _all(parts)


def _condition(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping) or "$between" not in value:
        return value
    limits = value["$between"]
    if not isinstance(limits, (list, tuple)) or len(limits) != 2:
        raise FilterError(f"$between on {name!r} holds {limits!r}, wanted [least, greatest]")
    further = {operator: each for operator, each in value.items() if operator != "$between"}
    for operator, limit in zip(("$gte", "$lte"), limits, strict=True):
        if operator in further:
            raise FilterError(f"{name!r} has $between and {operator}; one of them is enough")
        further[operator] = limit
    return further


# LlamaIndex


def from_llama_index(filters: Any, names: Names) -> Filter:
    """Returns LlamaIndex's MetadataFilters as a filter of ours.

    What is missing, or null, passes `!=`, `nin` and `is_empty` only. `any`, `all` and `contains`
    are of arrays, `text_match` of parts of a text. "not" means that none of its filters holds.

    Raises:
        FilterError: It cannot be meant.
    """
    if filters is None or not filters.filters:
        return {}
    parts = [
        from_llama_index(each, names) if hasattr(each, "filters") else _llama_index(each, names)
        for each in filters.filters
    ]
    condition = filters.condition
    if condition is None or condition == "and":
        return _all(parts)
    if condition == "or":
        return _any(parts)
    if condition == "not":
        return _not(_any(parts))
    raise FilterError(f"condition {condition!r} is not known; choose and, or, not")


_LLAMA_INDEX: Mapping[str, Callable[[str, Any], Filter]] = {
    "==": lambda at, value: {at: {"$eq": value}} if value is not None else _NEVER,
    "!=": lambda at, value: {at: {"$ne": value}} if value is not None else {},
    ">": lambda at, value: {at: {"$gt": value}},
    "<": lambda at, value: {at: {"$lt": value}},
    ">=": lambda at, value: {at: {"$gte": value}},
    "<=": lambda at, value: {at: {"$lte": value}},
    "in": lambda at, value: {at: {"$in": _list(at, "in", value)}},
    "nin": lambda at, value: {at: {"$nin": _list(at, "nin", value)}},
    "any": lambda at, value: _any([{at: {"$contains": e}} for e in _list(at, "any", value)]),
    "all": lambda at, value: _all(
        [{at: {"$exists": True}}, *({at: {"$contains": e}} for e in _list(at, "all", value))]
    ),
    "contains": lambda at, value: {at: {"$contains": value}},
    "text_match": lambda at, value: {at: {"$like": _part(at, value)}},
    "text_match_insensitive": lambda at, value: {at: {"$ilike": _part(at, value)}},
    "is_empty": lambda at, value: _any([{at: None}, {at: ""}, {at: {"$eq": []}}]),  # noqa: ARG005
}


def _llama_index(condition: Any, names: Names) -> Filter:
    operator = str(getattr(condition.operator, "value", condition.operator))
    translate = _LLAMA_INDEX.get(operator)
    if translate is None:
        listed = ", ".join(_LLAMA_INDEX)
        raise FilterError(f"operator {operator!r} is not known; choose one of {listed}")
    return translate(names.place(condition.key), condition.value)


def _list(place: str, operator: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FilterError(f"{operator} on {place!r} holds {value!r}, wanted a list of values")
    return value


def _part(place: str, value: Any) -> str:
    """Returns the pattern of a text that has a part."""
    if not isinstance(value, str):
        raise FilterError(f"a text match on {place!r} holds {value!r}, wanted a string")
    escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


# Haystack

_ORDERS = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_HAYSTACK = (*("==", "!="), *_ORDERS, "in", "not in")
_LOGIC = ("AND", "OR", "NOT")
_NOT_FILTERED = ("blob", "score", "embedding", "sparse_embedding")


def from_haystack(filters: Mapping[str, Any] | None, names: Names) -> Filter:
    """Returns Haystack's filter, comparisons and logic in dicts, as a filter of ours.

    What is missing, or null, equals None, and no order holds of it. Of strings only ISO dates have
    an order. "NOT" means that its conditions do not all hold.

    Raises:
        FilterError: It cannot be meant.
    """
    if not filters:
        return {}
    if not isinstance(filters, Mapping):
        raise FilterError(f"a filter is a {type(filters).__name__}, wanted a dict")
    if "field" in filters:
        return _comparison(filters, names)
    operator = _required(filters, "operator")
    conditions = _required(filters, "conditions")
    if operator not in _LOGIC:
        raise FilterError(f"operator {operator!r} is not known; choose one of {', '.join(_LOGIC)}")
    if not isinstance(conditions, (list, tuple)):
        raise FilterError(f"'conditions' is a {type(conditions).__name__}, wanted a list")
    parts = [from_haystack(each, names) for each in conditions]
    if operator == "AND":
        return _all(parts)
    return _any(parts) if operator == "OR" else _not(_all(parts))


def _required(condition: Mapping[str, Any], name: str) -> Any:
    if name not in condition:
        raise FilterError(f"{name!r} is missing in the filter {dict(condition)}")
    return condition[name]


def _comparison(condition: Mapping[str, Any], names: Names) -> Filter:
    field = _required(condition, "field")
    operator = _required(condition, "operator")
    value = _required(condition, "value")
    if field in _NOT_FILTERED:
        raise FilterError(f"documents are not filtered by {field!r}; only by id, content and meta")
    own = isinstance(field, str) and field.startswith("meta.")
    place = names.inside(field.removeprefix("meta.")) if own else names.place(field)
    if operator == "==":
        return {place: {"$eq": value}}
    if operator == "!=":
        return {place: {"$ne": value}}
    if operator in _ORDERS:
        return {place: {_ORDERS[operator]: _ordered(field, value)}} if value is not None else _NEVER
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{operator!r} on {field!r} holds {value!r}, wanted a list")
        return {place: {"$in" if operator == "in" else "$nin": value}}
    listed = ", ".join(_HAYSTACK)
    raise FilterError(f"operator {operator!r} is not known; choose one of {listed}")


def _ordered(field: str, value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, str) and not _is_date(value):
        raise FilterError(
            f"{field!r} is compared with {value!r}, which is no ISO date; other strings have no "
            "order"
        )
    if isinstance(value, (list, tuple, Mapping)):
        raise FilterError(f"{field!r} is compared with {value!r}, which has no order")
    return value


def _is_date(value: str) -> bool:
    text = f"{value[:-1]}+00:00" if value.endswith(("Z", "z")) else value
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


# All


def both(*filters: Filter) -> Filter:
    """Returns a filter that holds where all of these hold."""
    return _all(list(filters))


def _all(parts: Sequence[Filter]) -> Filter:
    held = [part for part in parts if part]
    return held[0] if len(held) == 1 else ({"$and": held} if held else {})


def _any(parts: Sequence[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else {"$or": list(parts)}


def _not(part: Filter) -> Filter:
    return {"$not": part}
