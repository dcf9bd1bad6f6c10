"""Drives the ann-benchmarks module by that harness's protocol, where the harness is not installed.

    python benchmarks/harness/run_ann_benchmarks.py --algorithm mrl_db
    python benchmarks/harness/run_ann_benchmarks.py --algorithm mrl_db --rows x.npy --metric euclidean

As there: config.yml is expanded into runs, `fit` is called once for each of its arguments, then
`set_query_arguments` and one `query` at a time on one core. Without --rows it reads the package
descriptions that mrl_db carries. Prints recall, queries/s and seconds of the build.
"""

import argparse
import importlib.util
import itertools
import sys
import time
import types
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "ann_benchmarks" / "mrl_db"
NAME = "ann_benchmarks.algorithms"


def load_module():
    """Returns the module, beside a base with what the harness's own gives to every algorithm."""
    for name in ("ann_benchmarks", NAME, f"{NAME}.base", f"{NAME}.mrl_db"):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = []
    base = sys.modules[f"{NAME}.base.module"] = types.ModuleType(f"{NAME}.base.module")
    base.BaseANN = type("BaseANN", (), {"__str__": lambda self: self.name})
    spec = importlib.util.spec_from_file_location(f"{NAME}.mrl_db.module", FOLDER / "module.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def products(arguments):
    """Every choice of one from each list; a mapping, as the harness has for none, gives one."""
    lists = [each if isinstance(each, list) else [each] for each in arguments or []]
    return list(itertools.product(*lists))


def runs(algorithm, metric):
    """Yields (constructor, its arguments, all query arguments) of config.yml."""
    import yaml

    for entry in yaml.safe_load((FOLDER / "config.yml").read_text())["float"]["any"]:
        if entry["name"] == algorithm:
            base = [metric if each == "@metric" else each for each in entry["base_args"]]
            for group in entry["run_groups"].values():
                for chosen in products(group["args"]):
                    yield entry["constructor"], [*base, *chosen], products(group["query_args"])


def true_neighbours(rows, queries, metric, k):
    """The exact answer."""
    if metric == "angular":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.argsort(-queries @ rows.T, axis=1)[:, :k]
    distances = (rows**2).sum(axis=1) - 2 * queries @ rows.T
    return np.argsort(distances, axis=1)[:, :k]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithm", default="mrl_db")
    parser.add_argument("--rows", type=Path, help="a .npy file (n, dims)")
    parser.add_argument("--metric", default="angular", choices=("angular", "euclidean"))
    parser.add_argument("--queries", type=int, default=200, help="rows left out and asked for")
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()

    if given.rows is None:
        from mrl_db.faces.demo import load_packages

        rows = load_packages().vectors
    else:
        rows = np.load(given.rows).astype(np.float32)
    rows = np.random.default_rng(0).permutation(rows)
    rows, queries = rows[: -given.queries], rows[-given.queries :]
    truth = true_neighbours(rows, queries, given.metric, given.k)

    module = load_module()
    print(f"{len(rows):,} x {rows.shape[1]}, {given.metric}, {len(queries)} queries, k = {given.k}")
    for constructor, arguments, choices in runs(given.algorithm, given.metric):
        algorithm = getattr(module, constructor)(*arguments)
        began = time.perf_counter()
        algorithm.fit(rows)
        built = time.perf_counter() - began
        try:
            for choice in choices:
                algorithm.set_query_arguments(*choice)
                algorithm.query(queries[0], given.k)
                began = time.perf_counter()
                answers = [algorithm.query(query, given.k) for query in queries]
                seconds = time.perf_counter() - began
                algorithm.batch_query(queries, given.k)
                for one, batch in zip(answers, algorithm.get_batch_results(), strict=True):
                    assert list(one) == list(batch)
                pairs = zip(answers, truth, strict=True)
                recall = np.mean([len(set(map(int, a)) & set(t.tolist())) for a, t in pairs])
                print(
                    f"{algorithm!s:52} recall {recall / given.k:.3f}"
                    f"  {len(queries) / seconds:9,.0f} q/s  built in {built:.1f} s",
                    flush=True,
                )
        finally:
            algorithm.done()


if __name__ == "__main__":
    main()
