"""The plans that engines offer the tuner: legal, rising in cost, and the cheapest of each form."""

import doctest
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrl_db.engines import plan_space
from mrl_db.engines.native.plans import NativePlanSpace
from mrl_db.engines.plan_space import MAX_RANK, least, steps
from mrl_db.engines.sql_plans import SqlPlanSpace
from mrl_db.model.plan import Plan, Stage, flat_plan, graph_plan
from mrl_db.model.precision import Precision

DIMS, K = 384, 10


class Trials:
    """Plans meet where their effort and first keep reach what is needed; they cost both."""

    def __init__(self, effort=1, keep=1, hopeful=True):
        self.effort, self.keep, self.is_hopeful = effort, keep, hopeful
        self.late = False
        self.timed = set()

    def meets(self, plan):
        walks = plan.walks
        if plan.route == "mrl":  # its one stage keeps k
            return plan.effort >= self.effort and self.keep < 10**9
        return plan.stages[0].keep >= self.keep and (plan.effort >= self.effort or not walks)

    def hopeful(self, plan):  # noqa: ARG002
        return self.is_hopeful

    def time(self, plans, rounds=3):  # noqa: ARG002
        self.timed.update(plans)

    def mean_microseconds(self, plan):
        assert plan in self.timed
        walks = plan.walks
        return plan.effort + plan.stages[0].keep + (0 if walks else 10**6)


def native(rows=100_000, loaded=None):
    return NativePlanSpace(DIMS, rows, K, loaded or graph_plan(dims=DIMS))


def sql(rows=100_000, kinds=("hnsw",), low_dims=128, k=K):
    return SqlPlanSpace(DIMS, low_dims, rows, k, frozenset(kinds))


SPACES = {
    "graph": native(),
    "graph, few rows": native(rows=20),
    "flat": native(loaded=flat_plan(dims=DIMS)),
    "flat, int8": native(loaded=flat_plan(dims=DIMS, precision=Precision.int8, low_dims=64)),
    "mrl": sql(kinds=("mrl",)),
    "mrl and hnsw": sql(kinds=("mrl", "hnsw")),
    "hnsw": sql(),
    "seqscan": sql(kinds=()),
    "seqscan, few rows": sql(rows=12, kinds=()),
    "hnsw, few rows": sql(rows=12),
}


def test_examples_are_as_shown():
    assert doctest.testmod(plan_space).failed == 0


@pytest.mark.parametrize("name", SPACES)
def test_a_ladder_rises_to_the_exact_plan(name):
    space = SPACES[name]
    rungs = list(space.ladder())

    assert rungs[-1] == space.exact
    assert len(rungs[-1].stages) == 1
    assert all(plan.k == K for plan in rungs)
    for lower, higher in itertools.pairwise(rungs[:-1]):
        assert lower != higher
        assert lower.effort <= higher.effort
        assert lower.stages[0].keep <= higher.stages[0].keep


@pytest.mark.parametrize("name", SPACES)
def test_candidates_meet_and_the_least_is_tight(name):
    trials = Trials(effort=60, keep=14)

    candidates = list(SPACES[name].candidates(trials))

    assert candidates
    assert all(trials.meets(plan) or plan.stages[0].keep == 12 for plan in candidates)
    walks = [plan for plan in candidates if plan.walks]
    assert not walks or min(plan.effort for plan in walks) <= 60 * 1.11


def test_a_walk_of_our_index_begins_as_short_for_many_answers():
    """The index itself walks farther for them."""
    for k in (10, 100):
        first = next(iter(sql(kinds=("mrl",), k=k).ladder()))

        assert (first.route, first.effort, len(first.stages)) == ("mrl", 16, 1)
        assert sql(kinds=("mrl",), k=k).scaled(first, 0.1) == first


def test_where_our_index_cannot_meet_the_others_are_tried():
    plans = list(sql(kinds=("mrl", "hnsw")).candidates(Trials(keep=10**9)))

    assert [(plan.route, plan.effort) for plan in plans[:2]] == [("mrl", 4096), ("hnsw", 1000)]


def test_where_nothing_meets_only_what_may_be_hopeful_is_offered():
    assert list(native().candidates(Trials(keep=10**9))) == []
    assert list(sql().candidates(Trials(keep=10**9, hopeful=False))) == []
    widest, longest = sql().candidates(Trials(keep=10**9))
    assert (widest.route, widest.effort) == ("hnsw", 1000)
    assert (longest.route, longest.stages[0].keep) == ("seqscan", MAX_RANK)


def test_what_is_late_offers_no_more_than_it_must():
    trials = Trials(effort=60)
    trials.late = True

    assert [plan.route for plan in native().candidates(trials)] == ["flat"]
    assert [plan.route for plan in sql().candidates(trials)] == ["hnsw"]


def test_a_scan_beats_a_walk_only_where_its_shortest_is_faster():
    """The stub's scans are slow, so that none is offered beside walks; alone they are."""
    assert not any(plan.route == "flat" for plan in native().candidates(Trials(effort=60)))
    assert SPACES["flat"].shortlist_dims is None
    assert all(plan.route == "flat" for plan in SPACES["flat"].candidates(Trials(keep=50)))


@given(
    scale=st.floats(0.05, 50),
    effort=st.integers(16, 1000),
    keep=st.integers(K, 1000),
    rows=st.integers(K, 10**6),
)
def test_a_scaled_plan_is_legal_and_no_other_kind(scale, effort, keep, rows):
    walk = Plan(
        "hnsw", effort, (Stage(128, Precision.float16, keep), Stage(DIMS, Precision.float32, K))
    )
    scan = Plan("seqscan", 1, walk.stages)
    for plan in (walk, scan):
        scaled = sql(rows=rows).scaled(plan, scale)
        assert (scaled.route, scaled.k, len(scaled.stages)) == (plan.route, K, 2)
        if plan is walk:
            assert scaled.stages[0].keep <= max(K, scaled.effort)
        assert scaled.stages[0].keep <= max(K, rows)
    graph = graph_plan(dims=DIMS, effort=effort)
    scaled = native(rows=rows).scaled(Plan("graph", effort, graph.stages, 0.1), scale)
    assert scaled.margin == pytest.approx(0.1 * math.sqrt(scale))
    assert scaled.k == K


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=60, unique=True).map(sorted),
    st.integers(0, 10**6),
    st.one_of(st.none(), st.integers(0, 10**6)),
)
def test_the_least_that_meets_is_the_first(values, bound, first):
    expected = next((value for value in values if value >= bound), None)

    assert least(values, lambda value: value >= bound, first) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(1.01, 3))
def test_steps_rise_from_first_to_last(first, last, ratio):
    values = steps(first, last, ratio)

    assert values[-1] == last
    assert values[0] == min(first, last)
    assert all(lower < higher for lower, higher in itertools.pairwise(values))
