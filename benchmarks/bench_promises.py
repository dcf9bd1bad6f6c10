"""Whether declared recall is delivered, at what price, and what stopping a query early is worth.

pip install '.[embedded]' && python benchmarks/bench_promises.py --data SHARED --name promises

SHARED is the folder with debian-minilm, banking77-minilm, scifact-minilm and openai3s-almedalen. For each set, some rows are held out as fresh
queries: they are in no collection, and no tuning sees them. Parts:

kept      for every target, engine and seed: tune() with no queries given, then the recall of the fresh ones; on scifact, tuned on the train
          claims and asked the test claims
price     queries/s of each promised plan over those of the best plan of a grid that meets the target on the fresh queries, both timed in turns
effort    the grid's best plan that stops early over its best plan that follows all hops, at each target
kind      SciFact claims against abstracts: tuned on rows, and on claims; and nDCG@10 through the funnel against exact
early     rows that a walk reads at equal recall when it may end early, against all hops; no clock in it
p05       the share of fresh queries that reach the target, tuned with statistic="p05"
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import gzip
import json
import math
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
from generated import generate
from peers import Ours

import mrl_db
from mrl_db import Plan, Precision, Stage, _kernels, graph_plan
from mrl_db.evaluate.metrics import ndcg, recall_at_k
from mrl_db.model.filters import AllOf
from mrl_db.postgres.request import Request
from mrl_db.recall.measurement import microseconds
from mrl_db.recall.query_log import QueryLog

K = 10
TARGETS = (0.90, 0.95, 0.98, 0.99, 0.995)
SHARE_TIMED = {"native": 200, "sql": 30}


@dataclass
class Set:
    """Rows of a collection, and queries that are none of them; for tuning, queries of the same kind, or None."""

    name: str
    rows: np.ndarray
    fresh: np.ndarray
    given: np.ndarray | None = None


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns float32 vectors of length 1."""
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def held_out(name: str, vectors: np.ndarray, n: int) -> Set:
    """Returns a set with n rows, drawn with a fixed seed, taken out as fresh queries."""
    order = np.random.default_rng(42).permutation(len(vectors))
    return Set(name, vectors[np.sort(order[n:])], vectors[order[:n]])


def load_set(name: str, data: Path) -> Set:
    """Reads or generates a set."""
    if name == "debian":
        return held_out(name, unit(np.load(data / "debian-minilm" / "vectors.f16.npy")), 3000)
    if name == "banking":
        return held_out(name, unit(np.load(data / "banking77-minilm" / "vectors.f16.npy")), 2000)
    if name == "openai":
        codes = np.load(data / "openai3s-almedalen" / "vectors.i8.npy").astype(np.float32)
        return held_out(name, unit(codes), 400)
    if name == "scifact":
        folder = data / "scifact-minilm"
        claims = unit(np.load(folder / "queries.f16.npy"))
        order = np.random.default_rng(42).permutation(len(claims))
        return Set(
            name, unit(np.load(folder / "docs.f16.npy")), claims[order[800:]], claims[order[:800]]
        )
    made = generate(data / "openai3s-almedalen", 202_000, 768, seed=1)
    return Set(name, made[:200_000], made[200_000:])


def nesting(dims: int) -> tuple[int, ...]:
    """Widths for the low-dim column: 128 is the one that is taken."""
    return (64, 128, 256, dims)


def truth(docs: mrl_db.Collection, queries: np.ndarray) -> mrl_db.Hits:
    """Returns the exact answers."""
    return docs.search(queries, k=K, exact=True)


def native_grid(dims: int) -> list[tuple[Plan, bool]]:
    """Returns plans over the graph, each with whether it stops early."""
    plans = []
    efforts = [round(10 * 1.3**i) for i in range(18)]
    for effort in efforts:
        walked, coded, last = graph_plan(dims=dims, k=K, effort=effort).stages
        for margin in (0.5, 1.0, 1.6, 2.5, math.inf):
            for factor in (0.6, 1.0, 1.6):
                for more in (1, 3, 6):
                    keep = max(K + 1, math.ceil(walked.keep * factor))
                    stages = (
                        Stage(walked.dims, walked.precision, keep, "projection"),
                        Stage(dims, coded.precision, min(keep, K + more)),
                        last,
                    )
                    plans.append(
                        (
                            Plan(
                                "graph", effort, stages, margin * _kernels.margin_of_effort(effort)
                            ),
                            margin < math.inf,
                        )
                    )
    return plans


def sql_grid(dims: int, low_dims: int) -> list[tuple[Plan, bool]]:
    """Returns plans over pgvector's index, and scans of the low-dim column."""
    full, plans = Stage(dims, Precision.float32, K), []
    for effort in (16, 24, 40, 60, 80, 110, 150, 200, 280, 400, 560, 800, 1000):
        for share in (1.0, 0.5, 0.25):
            keep = max(K, round(effort * share))
            plans.append(
                (Plan("hnsw", effort, (Stage(low_dims, Precision.float16, keep), full)), False)
            )
    return plans


def grid_best(
    docs: mrl_db.Collection, engine: str, fresh: np.ndarray, exact: mrl_db.Hits
) -> dict[Plan, tuple[float, bool]]:
    """Returns the recall of each plan of the grid on fresh queries."""
    plans = native_grid(docs.dims) if engine == "native" else sql_grid(docs.dims, docs.low_dims)
    return {
        plan: (float(recall_at_k(docs.search(fresh, k=K, plan=plan), exact).mean()), early)
        for plan, early in plans
    }


def timed(
    docs: mrl_db.Collection, engine: str, plans: list[Plan], queries: np.ndarray, rounds: int = 5
) -> np.ndarray:
    """Returns the mean microseconds of a search by each plan, in each round, taken in turns."""
    request = Request(docs._opened.info, AllOf(()), ())
    tunable = docs._opened.engine(engine)
    return np.array(
        [
            times.mean(axis=1)
            for times in microseconds(
                tunable, request, plans, queries[: SHARE_TIMED[engine]], rounds
            )
        ]
    )


def best_of(docs: mrl_db.Collection, engine: str, plans: list[Plan], queries: np.ndarray) -> Plan:
    """Returns the fastest of some plans: all once, the first dozen again."""
    first = timed(docs, engine, plans, queries[:60], 1)[:, 0]
    front = [plans[place] for place in np.argsort(first)[:12]]
    return front[int(np.argmin(np.median(timed(docs, engine, front, queries, 3), axis=1)))]


def kept(
    db: mrl_db.Database, what: Set, engines: list[str], seeds: int, targets: tuple[float, ...]
) -> dict[str, Any]:
    """Tunes for every target, engine and seed, and asks the fresh queries."""
    dims = what.rows.shape[1]
    docs = db.create_collection(what.name, dims=dims, nesting_dims=nesting(dims))
    docs.ingest(np.arange(len(what.rows)), what.rows)
    docs.create_index()
    result: dict[str, Any] = {
        "rows": len(what.rows),
        "dims": dims,
        "fresh": len(what.fresh),
        "cases": [],
        "effort": [],
    }
    for engine in engines:
        docs.unload()
        if engine == "native":
            docs.load(cache=False)
        asked = what.fresh if engine == "native" or len(what.rows) < 100_000 else what.fresh[:1000]
        exact = truth(docs, asked)
        reached = grid_best(
            docs,
            engine,
            asked if engine == "native" else asked[:500],
            exact if engine == "native" else exact_part(exact, 500),
        )
        best: dict[float, Plan] = {}
        for target in targets:
            meeting = [plan for plan, (recall, _) in reached.items() if recall >= target]
            if meeting:
                best[target] = best_of(docs, engine, meeting, asked)
            if engine == "native" and meeting:
                result["effort"].append(early_stop(docs, reached, target, asked))
        for target in targets:
            if what.given is not None and target > 0.98:
                continue  # 800 claims prove no more, and the tool refuses them
            for seed in range(seeds if engine == "native" or len(what.rows) < 100_000 else 1):
                docs._opened.log = (
                    QueryLog()
                )  # the fresh queries were asked, and are not to be tuned with
                began = time.perf_counter()
                promise = docs.tune(
                    recall=target, k=K, engine=engine, queries=what.given, seed=seed
                )
                seconds = time.perf_counter() - began
                some = (
                    len(asked) if len(promise.plan.stages) > 1 else 100
                )  # the exact plan takes its time
                delivered = recall_at_k(
                    docs.search(asked[:some], k=K, engine=engine), exact_part(exact, some)
                )
                ratio = None
                if target in best:
                    times = timed(docs, engine, [best[target], promise.plan], asked)
                    ratio = round(float(np.median(times[0] / times[1])), 3)
                case = {
                    "engine": engine,
                    "target": target,
                    "seed": seed,
                    "delivered": round(float(delivered.mean()), 5),
                    "standard_error": round(float(delivered.std() / math.sqrt(len(delivered))), 5),
                    "evidence": round(promise.recall.mean, 5),
                    "kind": promise.kind,
                    "price": ratio,
                    "seconds": round(seconds, 1),
                    "plan": str(promise.plan),
                }
                result["cases"].append(case)
                print(what.name, *case.values(), flush=True)
    db.drop(what.name)
    return result


def exact_part(exact: mrl_db.Hits, n: int) -> mrl_db.Hits:
    """The first queries' hits."""
    return mrl_db.Hits(exact.ids[:n], exact.distances[:n], exact.trace)


def early_stop(
    docs: mrl_db.Collection,
    reached: dict[Plan, tuple[float, bool]],
    target: float,
    queries: np.ndarray,
) -> dict[str, Any]:
    """Returns queries/s of the best plan that stops early over the best that follows all hops, both meeting the target."""
    found = []
    for early in (True, False):
        plans = [
            plan for plan, (recall, stops) in reached.items() if recall >= target and stops == early
        ]
        if not plans:
            return {"target": target, "ratio": None}
        found.append(best_of(docs, "native", plans, queries))
    times = timed(docs, "native", found, queries, 9)
    return {
        "target": target,
        "ratio": round(float(np.median(times[1] / times[0])), 3),
        "early": str(found[0]),
        "fixed": str(found[1]),
    }


def names(path: Path) -> list[str]:
    """Returns the ids of a file of JSON lines."""
    with gzip.open(path, "rt") as lines:
        return [str(json.loads(line)["id"]) for line in lines]


def kind(db: mrl_db.Database, data: Path) -> dict[str, Any]:
    """Tunes on rows, then on claims, and asks claims; nDCG@10 against exact."""
    folder = data / "scifact-minilm"
    docs_vectors, claims = (
        unit(np.load(folder / "docs.f16.npy")),
        unit(np.load(folder / "queries.f16.npy")),
    )
    ids, asked = names(folder / "docs.jsonl.gz"), names(folder / "queries.jsonl.gz")
    judged: dict[str, dict[str, float]] = {}
    for line in (folder / "qrels.test.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        judged.setdefault(query, {})[document] = float(score)
    test = np.array([place for place, query in enumerate(asked) if query in judged])
    train = np.array([place for place, query in enumerate(asked) if query not in judged])
    docs = db.create_collection(
        "scifact_kind", dims=384, nesting_dims=nesting(384), key_type="text"
    )
    docs.add([str(each) for each in ids], docs_vectors)
    docs.create_index()
    docs.load(cache=False)
    exact = truth(docs, claims[test])
    judgements = [judged[asked[place]] for place in test]
    result: dict[str, Any] = {"ndcg_exact": round(float(ndcg(exact.ids, judgements).mean()), 4)}
    for engine in ("native", "sql"):  # with the plans that nothing was measured for
        hits = docs.search(claims[test], k=K, engine=engine)
        result[f"{engine}, default plan"] = {
            "delivered": round(float(recall_at_k(hits, exact).mean()), 4),
            "ndcg": round(float(ndcg(hits.ids, judgements).mean()), 4),
        }
    for engine in ("native", "sql"):
        for tuned_on in ("rows", "claims"):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                handle = db.open("scifact_kind")  # that remembers no queries yet
                if engine == "native":
                    handle.load(cache=False)
                if tuned_on == "rows":
                    handle.search(
                        claims[train[:200]], k=K, engine=engine
                    )  # what users ask; the tool is to notice
                promise = handle.tune(
                    recall=0.98,
                    k=K,
                    engine=engine,
                    queries=None if tuned_on == "rows" else claims[train],
                )
            hits = handle.search(claims[test], k=K, engine=engine)
            result[f"{engine}, tuned on {tuned_on}"] = {
                "delivered": round(float(recall_at_k(hits, exact).mean()), 4),
                "ndcg": round(float(ndcg(hits.ids, judgements).mean()), 4),
                "warned": sum(issubclass(each.category, mrl_db.PromiseWarning) for each in warned),
                "stale": handle.promise.stale if handle.promise else None,
                "plan": str(promise.plan),
            }
    db.drop("scifact_kind")
    return result


def p05(db: mrl_db.Database, what: Set) -> list[dict[str, Any]]:
    """Tunes for the recall that 95 % of the queries reach."""
    dims = what.rows.shape[1]
    docs = db.create_collection(f"{what.name}_p05", dims=dims, nesting_dims=nesting(dims))
    docs.ingest(np.arange(len(what.rows)), what.rows)
    docs.create_index()
    docs.load(cache=False)
    exact, cases = truth(docs, what.fresh), []
    for engine in ("native", "sql"):
        for target in (0.8, 0.9, 1 - 1e-9):
            docs._opened.log = QueryLog()
            promise = docs.tune(
                recall=target, k=K, statistic="p05", engine=engine, queries=what.given
            )
            delivered = recall_at_k(docs.search(what.fresh, k=K, engine=engine), exact)
            reached = float((delivered >= target - 1e-6).mean())
            case = {
                "set": what.name,
                "engine": engine,
                "target": round(target, 3),
                "share": round(reached, 4),
                "plan": str(promise.plan),
            }
            cases.append(case)
            print(*case.values(), flush=True)
    db.drop(f"{what.name}_p05")
    return cases


def early(what: Set) -> list[dict[str, Any]]:
    """Rows that a walk reads at equal recall: all hops for every query, and ending at a margin; no clock in it."""
    ours = Ours()
    ours.build(what.rows)
    request = Request(ours._info, AllOf(()), ())
    dims = what.rows.shape[1]
    scan = Plan("flat", 1, (Stage(dims, Precision.float32, K),))
    exact = ours.engine.search(request, what.fresh, scan, threads=2)
    curves: dict[float, list[tuple[float, int]]] = {}
    for share in (0.4, 0.6, 0.8, 1.0, 1.4, 2.0, math.inf):
        for effort in (round(10 * 1.22**step) for step in range(24)):
            walked, coded, last = graph_plan(dims=dims, k=K, effort=effort).stages
            stages = (
                Stage(walked.dims, walked.precision, max(25, 10 + effort // 5), "projection"),
                Stage(dims, coded.precision, 14),
                last,
            )
            plan = Plan("graph", effort, stages, share * _kernels.margin_of_effort(effort))
            hits = ours.engine.search(request, what.fresh, plan, threads=2)
            curves.setdefault(share, []).append(
                (float(recall_at_k(hits, exact).mean()), hits.trace.stages[0].rows_in or 0)
            )
            if curves[share][-1][0] > 0.9985:
                break

    def read_at(share: float, target: float) -> float:
        steps = zip(curves[share], curves[share][1:], strict=False)
        return min(
            (
                a[1] + (b[1] - a[1]) * (target - a[0]) / (b[0] - a[0])
                for a, b in steps
                if a[0] < target <= b[0]
            ),
            default=math.inf,
        )

    found = []
    for target in TARGETS[1:]:
        share = min(
            (each for each in curves if each < math.inf), key=lambda each: read_at(each, target)
        )
        rows = [read_at(math.inf, target), read_at(share, target)]
        found.append(
            {
                "set": what.name,
                "target": target,
                "all_hops": round(rows[0]),
                "early": round(rows[1]),
                "margin": share,
            }
        )
        print(*found[-1].values(), flush=True)
    return found


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--sets", nargs="*", default=["debian", "banking", "openai", "scifact", "200k"]
    )
    parser.add_argument("--targets", nargs="*", type=float, default=list(TARGETS))
    parser.add_argument("--engines", nargs="*", default=["native", "sql"])
    parser.add_argument("--parts", nargs="*", default=["kept", "kind", "p05", "early"])
    options = parser.parse_args()
    targets = tuple(options.targets)
    if options.quick:
        options.seeds, options.sets, targets = 1, ["openai"], (0.9, 0.99)
    record = machine.resume(options.name, "psycopg")
    with tempfile.TemporaryDirectory() as folder, mrl_db.connect(home=Path(folder) / "home") as db:
        if "kind" in options.parts:
            machine.keep(options.name, record, "kind", kind(db, options.data))
        for name in options.sets if "kept" in options.parts else ():
            found = kept(db, load_set(name, options.data), options.engines, options.seeds, targets)
            before = record.setdefault("sets", {}).get(name, {"cases": [], "effort": []})
            found["cases"] = [
                case
                for case in before["cases"]
                if case["engine"] not in options.engines or case["target"] not in targets
            ] + found["cases"]
            found["effort"] = [
                each
                for each in before["effort"]
                if each["target"] not in targets or not found["effort"]
            ] + found["effort"]
            machine.keep(options.name, record, "sets", {**record["sets"], name: found})
        if "early" in options.parts:
            machine.keep(
                options.name,
                record,
                "early",
                [
                    case
                    for name in ("debian", "200k")
                    for case in early(load_set(name, options.data))
                ],
            )
        if "p05" in options.parts:
            machine.keep(
                options.name,
                record,
                "p05",
                [
                    case
                    for name in ("banking", "debian")
                    for case in p05(db, load_set(name, options.data))
                ],
            )
    cases = [case for each in record.get("sets", {}).values() for case in each["cases"]]
    if cases:
        missing = [case["target"] - case["delivered"] for case in cases]
        prices = [case["price"] for case in cases if case["price"] is not None]
        record["summary"] = {
            "cases": len(cases),
            "kept": sum(gap <= 0 for gap in missing),
            "worst": round(max(missing), 5),
            "price_median": round(float(np.median(prices)), 3),
            "seconds_most": max(case["seconds"] for case in cases),
        }
        print(record["summary"])
    if options.name:
        print(machine.save(options.name, record))


if __name__ == "__main__":
    main()
