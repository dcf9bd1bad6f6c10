"""Asking parts at once: who is asked again, who is named, and who keeps nobody waiting."""

import threading
from types import SimpleNamespace

import pytest

from mrl_db.model.errors import CancelledError, ConnectError, PartUnavailableError, PlanError
from mrl_db.parts.crew import Crew, deadline
from mrl_db.parts.planners import OfExact

NAMES = ("first", "second", "third")


@pytest.fixture
def crew():
    crew = Crew([SimpleNamespace(name=name, close=lambda: None) for name in NAMES])
    yield crew
    crew.close()


@pytest.mark.parametrize("until", [None, 30.0])
def test_answers_come_by_number(crew, until):
    replies = crew.ask(range(3), lambda number, _: NAMES[number], deadline(until))

    assert list(replies.given.items()) == list(enumerate(NAMES))
    assert crew.ask([], lambda number, _: number).given == {}


@pytest.mark.parametrize("until", [None, 30.0])
def test_a_part_that_cannot_be_reached_is_asked_again_then_named(crew, until):
    asked = []

    def call(number, _):
        asked.append(number)
        if number == 0 and asked.count(0) < 3:
            raise ConnectError("not yet")
        if number == 2:
            raise ConnectError("gone for good")
        return number

    with pytest.raises(PartUnavailableError, match="third: gone for good") as raised:
        crew.ask(range(3), call, deadline(until))

    assert raised.value.parts == (2,)
    assert [asked.count(number) for number in range(3)] == [3, 1, 3]
    asked.clear()
    replies = crew.ask(range(3), call, deadline(until), partial=True)
    assert list(replies.given) == [0, 1]
    assert replies.missing == {2: "gone for good"}


def test_an_answer_of_nobody_is_none(crew):
    def call(number, _):
        raise ConnectError("down")

    with pytest.raises(PartUnavailableError, match="first: down; second: down") as raised:
        crew.ask([0, 1], call, partial=True)
    assert raised.value.parts == (0, 1)


@pytest.mark.parametrize("until", [None, 30.0])
def test_errors_of_another_kind_are_the_callers(crew, until):
    """A statement that its own limit ended is no part that is gone, though it is a TimeoutError."""

    def call(number, _):
        raise CancelledError("statement_timeout") if number == 1 else ConnectError("down")

    with pytest.raises(CancelledError):
        crew.ask([1], call, deadline(until), partial=True)


def test_a_part_that_hangs_keeps_nobody_from_asking_the_others(crew):
    released = threading.Event()

    def call(number, _):
        if number == 0:
            released.wait(60)
        return number

    def hang():
        crew.ask([0], call, deadline(60))

    waiting = [threading.Thread(target=hang) for _ in range(20)]  # more than a part has threads
    for thread in waiting:
        thread.start()
    assert list(crew.ask([1, 2], call, deadline(60)).given) == [1, 2]
    with pytest.raises(PartUnavailableError, match="first: it has not answered within timeout="):
        crew.ask(range(3), call, deadline(0.01))
    released.set()
    for thread in waiting:
        thread.join()

    assert list(crew.ask(range(3), call, deadline(60)).given) == [0, 1, 2]


def test_closed_parts_are_asked_no_more(crew):
    crew.close()

    with pytest.raises(ConnectError, match="closed"):
        crew.ask(range(3), lambda number, _: number, deadline(5))


def test_of_brute_force_there_are_no_plans_to_choose_from():
    planner = OfExact(SimpleNamespace(plan=None, check=None))

    with pytest.raises(PlanError, match="one plan"):
        planner.plan_space(10, 1_000)
