"""The module for ann-benchmarks keeps that harness's protocol."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

HARNESS = Path(__file__).parents[2] / "benchmarks" / "harness"


@pytest.fixture
def runner(monkeypatch, dsn):
    monkeypatch.setenv("MRL_DB_DSN", dsn)
    for name in [name for name in sys.modules if name.startswith("ann_benchmarks")]:
        monkeypatch.delitem(sys.modules, name)
    spec = importlib.util.spec_from_file_location("runner", HARNESS / "run_ann_benchmarks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith("ann_benchmarks")]:
        del sys.modules[name]


@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize(
    ("constructor", "arguments", "choices"),
    [
        ("MrlDb", ["default"], [(10, 1), (200, 4)]),
        ("MrlDbInPostgres", [], [(10,), (200,)]),
    ],
)
def test_an_algorithm_is_fitted_and_asked(runner, rng, metric, constructor, arguments, choices):
    rows = rng.standard_normal((600, 24), dtype=np.float32)
    queries = rng.standard_normal((20, 24), dtype=np.float32)
    truth = runner.true_neighbours(rows, queries, metric, 5)

    algorithm = getattr(runner.load_module(), constructor)(metric, *arguments)
    algorithm.fit(rows)
    recalls = []
    for choice in choices:
        algorithm.set_query_arguments(*choice)
        answers = [list(algorithm.query(query, 5)) for query in queries]
        algorithm.batch_query(queries, 5)
        assert [list(each) for each in algorithm.get_batch_results()] == answers
        recalls.append(np.mean(np.sort(answers) == np.sort(truth)))
        assert str(choice[0]) in str(algorithm)
    algorithm.done()

    assert all(len(each) == 5 for each in answers)
    assert recalls[-1] >= 0.97
    assert recalls[0] <= recalls[-1]


def test_the_configuration_names_the_classes_of_the_module(runner):
    text = (HARNESS / "ann_benchmarks" / "mrl_db" / "config.yml").read_text()

    constructors = re.findall(r"constructor: (\w+)", text)

    assert constructors == ["MrlDb", "MrlDbInPostgres"]
    assert all(hasattr(runner.load_module(), name) for name in constructors)


def test_arguments_are_expanded_as_the_harness_does(runner):
    assert runner.products([[1, 2], 3]) == [(1, 3), (2, 3)]
    assert runner.products({}) == [()]
