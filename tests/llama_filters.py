"""LlamaIndex's filters: ones made at random, and what they mean, written down in Python.

Without LlamaIndex a filter is a `Leaf` or a `Several`, which have the attributes of its own.
"""

from dataclasses import dataclass
from typing import Any

import evaluator
from hypothesis import strategies as st

SCALARS = [0, 1, 2, -3, 1.5, 10**15, "", "a", "B", "ab", "a%b", "a_b", "\\", "ü", "10"]
LISTS = [[], ["a"], ["a", "B"], ["ab", "ü", "a"], [1, 2], [1.5], [0], [""]]
TYPED_LISTS = st.one_of(
    st.lists(st.sampled_from([each for each in SCALARS if isinstance(each, kind)]), max_size=3)
    for kind in (str, int, float)
)
OPERAND = {
    **dict.fromkeys(["==", "!="], st.sampled_from([*SCALARS, *LISTS, None])),
    **dict.fromkeys([">", "<", ">=", "<="], st.sampled_from(SCALARS)),
    **dict.fromkeys(["in", "nin", "any", "all"], TYPED_LISTS),
    "contains": st.sampled_from(SCALARS),
    **dict.fromkeys(
        ["text_match", "text_match_insensitive"],
        st.sampled_from(["", "a", "A", "%", "_", "\\", "b", "1"]),
    ),
    "is_empty": st.none(),
}
KEYS = ["number", "word", "tags", "deep.inner", "nowhere"]
CONDITIONS = ["and", "or", "not", None]


@dataclass
class Leaf:
    key: str
    value: Any
    operator: str


@dataclass
class Several:
    filters: list
    condition: str | None


def made(leaf=Leaf, several=Several):
    """Filters of these classes."""
    leaves = st.sampled_from(list(OPERAND)).flatmap(
        lambda operator: st.builds(
            leaf,
            key=st.sampled_from(KEYS),
            value=OPERAND[operator],
            operator=st.just(operator),
        )
    )

    def joined(inner):
        return st.builds(
            several,
            filters=st.lists(inner, max_size=3),
            condition=st.sampled_from(CONDITIONS),
        )

    return joined(st.recursive(leaves, joined, max_leaves=4))


def at(metadata, key):
    for name in key.split("."):
        metadata = metadata.get(name) if isinstance(metadata, dict) else None
    return metadata


def holds(filters, metadata):
    """Whether a filter holds; the comparisons of JSON are the evaluator's."""
    if not hasattr(filters, "filters"):
        operator = getattr(filters.operator, "value", filters.operator)
        return leaf_holds(operator, at(metadata, filters.key), filters.value)
    if not filters.filters:
        return True
    each = [holds(part, metadata) for part in filters.filters]
    if filters.condition == "not":
        return not any(each)
    return any(each) if filters.condition == "or" else all(each)


def leaf_holds(operator, cell, value):
    same = evaluator.same
    if operator == "is_empty":
        return cell is None or cell == "" or cell == []
    if cell is None:
        return operator in ("!=", "nin")
    if operator in ("==", "!="):
        return (value is not None and same(cell, value)) == (operator == "==")
    if operator in ("in", "nin"):
        return any(same(cell, each) for each in value) == (operator == "in")
    if operator in ("any", "all", "contains"):
        values = value if isinstance(value, list) else [value]
        cells = cell if isinstance(cell, list) else [cell]
        inside = [any(same(one, each) for one in cells) for each in values]
        return any(inside) if operator == "any" else all(inside)
    if operator.startswith("text_match"):
        if not isinstance(cell, str):
            return False
        return value.lower() in cell.lower() if operator.endswith("insensitive") else value in cell
    if evaluator.kind(cell) != evaluator.kind(value):
        return False
    return {">": cell > value, "<": cell < value, ">=": cell >= value, "<=": cell <= value}[
        operator
    ]


def some_metadata(rng):
    def some(*values):
        return values[rng.integers(len(values))]

    metadata = {
        "number": some(*SCALARS, *LISTS, None),
        "word": some(*SCALARS, None),
        "tags": some(*LISTS, None),
        "deep": some({"inner": some(*SCALARS, *LISTS)}, {}, "flat", None),
    }
    return {name: value for name, value in metadata.items() if rng.random() < 0.9}
