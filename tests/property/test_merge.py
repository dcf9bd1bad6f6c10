"""Merged answers against brute force over all rows; what is held back is asked for."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db.parts.homes import home_of
from mrl_db.parts.merge import Answer, first_ask, merge, merge_one, unsure

EXAMPLES = int(os.environ.get("MRL_DB_MERGES", "150"))


@st.composite
def tables(draw):
    """Rows of several parts for a few queries: distances with ties and NaN, keys of one type."""
    text = draw(st.booleans())
    n_queries = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    total = sum(sizes)
    numbers = draw(st.permutations(range(total)))
    keys = [f"k{number}" for number in numbers] if text else [int(n) for n in numbers]
    distance = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, float("nan")])
    distances = draw(
        st.lists(
            st.lists(distance, min_size=total, max_size=total),
            min_size=n_queries,
            max_size=n_queries,
        )
    )
    ends = np.cumsum(sizes)
    return keys, distances, [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def place(pair):
    distance, key = pair
    return (np.inf if np.isnan(distance) else distance, key)


def nearest(keys, distances, rows, k):
    """The k nearest of some rows: the twin, by a sort of all."""
    return sorted(((distances[row], keys[row]) for row in rows), key=place)[:k]


def answer(keys, distances, rows, k):
    lists = [nearest(keys, own, rows, k) for own in distances]
    width = len(lists[0])
    ids = np.empty(
        (len(lists), width), dtype=object if isinstance((keys or [0])[0], str) else np.int64
    )
    far = np.empty((len(lists), width))
    for query, pairs in enumerate(lists):
        for rank, (distance, key) in enumerate(pairs):
            ids[query, rank], far[query, rank] = key, distance
    of_key = np.array([[f"of {key}" for _, key in pairs] for pairs in lists], dtype=object)
    return Answer.whole(ids, far, {"title": of_key.reshape(ids.shape)})


def pairs_of(merged, query):
    return [
        place(pair)
        for pair in zip(merged.distances[query].tolist(), merged.ids[query].tolist(), strict=True)
    ]


@settings(max_examples=EXAMPLES)
@given(table=tables(), k=st.integers(1, 20))
def test_merged_answers_are_the_nearest_of_all_rows(table, k):
    keys, distances, parts = table
    answers = [answer(keys, distances, rows, k) for rows in parts]

    merged = merge(answers, k)

    for query, own in enumerate(distances):
        want = nearest(keys, own, range(len(keys)), k)
        assert pairs_of(merged, query) == [place(pair) for pair in want]
        of_one = merge_one(
            [each.ids[query] for each in answers], [each.distances[query] for each in answers], k
        )
        assert [place(pair) for pair in zip(of_one[1], of_one[0], strict=True)] == pairs_of(
            merged, query
        )
    titles = merged.column("title", answers)
    assert titles.tolist() == [[f"of {key}" for key in own] for own in merged.ids.tolist()]


@settings(max_examples=EXAMPLES)
@given(table=tables(), k=st.integers(1, 20), asked=st.integers(1, 20))
def test_whoever_is_asked_for_fewer_is_asked_again_just_where_more_can_belong(table, k, asked):
    keys, distances, parts = table
    asked = min(asked, k)
    answers = [answer(keys, distances, rows, asked) for rows in parts]

    masks = unsure(answers, asked, k)
    for number, (mask, rows) in enumerate(zip(masks, parts, strict=True)):
        held_back = len(rows) > asked
        for query in np.flatnonzero(~mask):
            own = [place(pair) for pair in nearest(keys, distances[query], rows, k)][asked:]
            whole = [place(pair) for pair in nearest(keys, distances[query], range(len(keys)), k)]
            assert not set(own) & set(whole)  # nothing of what it held back belongs to the answer
        if mask.any():
            assert len(rows) >= asked < k
            newer = answer(
                keys, [own for own, m in zip(distances, mask, strict=True) if m], rows, k
            )
            answers[number] = answers[number].replaced(mask, newer)
        assert held_back or not mask.any() or len(rows) == asked
    merged = merge(answers, k)

    for query, own in enumerate(distances):
        want = nearest(keys, own, range(len(keys)), k)
        assert pairs_of(merged, query) == [place(pair) for pair in want]


def test_of_one_answer_all_of_which_stands_before_nothing_is_asked_again():
    """A part whose last row comes after the k-th has nothing more to give."""
    near = Answer.whole(np.array([[1, 2]]), np.array([[0.1, 0.2]]), {})
    far = Answer.whole(np.array([[3, 4]]), np.array([[0.3, 0.9]]), {})

    assert [mask.tolist() for mask in unsure([near, far], 2, 3)] == [[True], [False]]
    assert [mask.tolist() for mask in unsure([near, far], 2, 2)] == [[False], [False]]


@pytest.mark.parametrize(("k", "parts"), [(50, 2), (100, 16), (1000, 7), (5000, 64)])
def test_the_first_ask_is_seldom_too_small(k, parts):
    """Rows of the answer fall into parts by chance: more than asked for in few of 1,000."""
    asked = first_ask(k, parts)
    shares = np.random.default_rng(1).multinomial(k, [1 / parts] * parts, 2000)

    assert k / parts < asked < k
    assert (shares > asked).mean() < 0.005
    assert (first_ask(49, parts), first_ask(k, 1)) == (49, k)


def test_homes_are_even_and_stay_what_they_are():
    homes = [home_of(key, 5) for key in range(5000)]

    assert np.bincount(homes, minlength=5).min() > 900
    # Rows lie by these: they must never change.
    assert [home_of(key, 7) for key in (-1, 0, 2**62, "", "é", "k")] == [1, 6, 6, 4, 1, 3]
