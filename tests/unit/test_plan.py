import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrl_db import Plan, PlanError, Precision, Stage
from mrl_db.model.plan import flat_plan, graph_plan, with_k

F16, F32, I8 = Precision.float16, Precision.float32, Precision.int8


@pytest.mark.parametrize(
    ("stages", "law"),
    [
        ([], "without stages"),
        ([Stage(8, F16, 5)], "must be at float32"),
        ([Stage(8, F16, 5), Stage(4, F32, 5)], "does not look at more"),
        ([Stage(8, F32, 5), Stage(8, F32, 5)], "does not look at more"),
        ([Stage(8, F32, 5), Stage(16, F16, 5)], "less precise"),
        ([Stage(8, F16, 5), Stage(16, F32, 6)], "keeps more"),
        ([Stage(8, F16, 0), Stage(16, F32, 0)], "below 1"),
        ([Stage(0, F16, 5), Stage(16, F32, 5)], "below 1"),
    ],
)
def test_a_plan_that_breaks_a_law_is_refused(stages, law):
    with pytest.raises(PlanError, match=law):
        Plan("hnsw", 40, tuple(stages))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Stage(8, "int9", 5), "choose one of float32"),
        (lambda: Stage(8, None, 5), "choose one of float32"),
        (lambda: Stage("8", F32, 5), "dims is '8'"),
        (lambda: Stage(8, F32, 5.0), "keep is 5.0"),
        (lambda: Stage(8, F32, 5, "suffix"), "space is 'suffix'"),
        (lambda: Plan("hnsw", 40, Stage(8, F32, 5)), "wanted a tuple of Stage"),
        (lambda: Plan("hnsw", 40, ((8, "float32", 5),)), "wanted a Stage"),
        (lambda: Plan("hnsw", "40", (Stage(8, F32, 5),)), "effort is '40'"),
        (lambda: Plan("graph", 40, (Stage(8, F32, 5),), margin="wide"), "margin is 'wide'"),
        (lambda: flat_plan(dims=8, precision="int9"), "choose one of float32"),
        (lambda: flat_plan(dims=8, keep="all"), "keep is 'all'"),
        (lambda: flat_plan(dims=8, precision="int8", low_dims=4.5), "low_dims is 4.5"),
        (lambda: graph_plan(dims=8, k="ten"), "k is 'ten'"),
        (lambda: graph_plan(dims=None), "dims is None"),
    ],
)
def test_what_is_no_plan_at_all_is_refused(make, word):
    with pytest.raises(PlanError, match=word):
        make()


def test_names_lists_and_numpys_integers_are_taken():
    plan = Plan(
        "hnsw", np.int64(40), [Stage(np.int32(8), "float16", np.int64(9)), Stage(16, F32, 5)]
    )

    assert plan == Plan("hnsw", 40, (Stage(8, F16, 9), Stage(16, F32, 5)))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert flat_plan(dims=8, precision="int8") == flat_plan(dims=8, precision=I8)


@pytest.mark.parametrize("effort", [0, 1001, -1])
def test_effort_is_what_pgvector_takes(effort):
    with pytest.raises(PlanError, match="1 to 1000"):
        Plan("hnsw", effort, (Stage(8, F32, 5),))


def test_a_plan_by_our_index_has_one_stage_and_is_not_exact():
    plan = Plan("mrl", 4096, (Stage(16, F32, 5),))

    assert (str(plan), plan.walks, plan.exact) == (
        "mrl, effort 4096: prefix 16 float32, keep 5",
        True,
        False,
    )
    assert plan.without_walk.exact
    assert not plan.leaves_out_none(5)
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(PlanError, match="2 stages"):
        Plan("mrl", 64, (Stage(8, F16, 20), Stage(16, F32, 5)))


def test_an_unknown_route_is_refused():
    with pytest.raises(PlanError, match="'graph' or 'flat' in this process"):
        Plan("ivfflat", 40, (Stage(8, F32, 5),))


def test_a_walk_may_be_longer_than_pgvector_searches():
    assert Plan("graph", 5000, (Stage(8, F32, 5),)).native
    with pytest.raises(PlanError, match="1 to 100000 hops"):
        Plan("graph", 100_001, (Stage(8, F32, 5),))


stage = st.builds(Stage, st.integers(-1, 64), st.sampled_from(Precision), st.integers(-1, 50))


@given(stages=st.lists(stage, max_size=4), effort=st.integers(-1, 1100))
def test_law_2_holds_for_every_plan_that_can_be_made(stages, effort):
    """dims or precision rise, keeps fall, the last stage is full float32; no more is refused."""
    steps = list(zip(stages, stages[1:], strict=False))
    lawful = (
        bool(stages)
        and 1 <= effort <= 1000
        and all(s.dims >= 1 and s.keep >= 1 for s in stages)
        and all(
            b.dims > a.dims or (b.dims == a.dims and b.precision.bits > a.precision.bits)
            for a, b in steps
        )
        and all(b.precision.bits >= a.precision.bits and b.keep <= a.keep for a, b in steps)
        and stages[-1].precision is F32
    )
    try:
        plan = Plan("hnsw", effort, tuple(stages))
    except PlanError:
        assert not lawful
    else:
        assert lawful
        assert plan.k == stages[-1].keep
        assert plan.dims == stages[-1].dims


@given(k=st.integers(1, 10**6), keep=st.integers(1, 10**6), other=st.integers(1, 10**6))
def test_a_plan_is_lawful_for_every_other_k(k, keep, other):
    plan = Plan("hnsw", 40, (Stage(128, F16, max(k, keep)), Stage(768, F32, k)))

    assert with_k(plan, other).k == other
    assert with_k(plan, other).stages[0].keep == max(k, keep, other)


@given(
    dims=st.integers(1, 4096),
    k=st.integers(1, 10**5),
    other=st.integers(1, 10**5),
    effort=st.integers(1, 100_000),
    precision=st.sampled_from([Precision.int4, Precision.int8, Precision.bit]),
    keep=st.none() | st.integers(1, 10**5),
    data=st.data(),
)
def test_the_native_engines_plans_are_lawful(dims, k, other, effort, precision, keep, data):
    low = data.draw(st.none() | st.integers(1, dims))

    for plan in (
        graph_plan(dims=dims, k=k, effort=effort),
        flat_plan(dims=dims, k=k, low_dims=low, precision=precision, keep=keep),
    ):
        assert (plan.k, plan.dims) == (k, dims)
        assert with_k(plan, other).k == other
        ratio = with_k(plan, 10 * k).stages[0].keep / (10 * k)
        assert ratio >= plan.stages[0].keep / k
