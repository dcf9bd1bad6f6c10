"""The paper's figures, from representations and heads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from cascades import over_splits
from numpy.typing import NDArray
from paper.data import BETWEEN, DIMS, NESTING, Split, Trained

import mrl_db
from mrl_db import Plan, Precision, Stage
from mrl_db.classify import Cascade
from mrl_db.classify.heads import fit_linear
from mrl_db.evaluate.metrics import average_precision
from mrl_db.learn import Rotation
from mrl_db.model.metric import Metric
from mrl_db.model.nesting import prefix

KEEPS = (10, 25, 50, 100, 200, 400)
_K = 10


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns the columns of the k highest scores of each row, the highest first."""
    some = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(
        some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable"), 1
    )


def top(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns the k nearest rows by inner product, (m, k), by matrix products."""
    chunks = [
        best(queries[begin : begin + 250] @ rows.T, k) for begin in range(0, len(queries), 250)
    ]
    return np.concatenate(chunks)


def neighbour_accuracy(
    train: NDArray[np.float32], test: NDArray[np.float32], split: Split
) -> float:
    """1-NN accuracy of test rows among the training rows, by cosine."""
    found = top(
        prefix(train, train.shape[1], Metric.cosine), prefix(test, test.shape[1], Metric.cosine), 1
    )[:, 0]
    return float((split.train_labels[found] == split.test_labels).mean())


def accuracy_of(head: NDArray[np.float32], split: Split) -> float:
    """Accuracy of logits (n, classes)."""
    return float((head.argmax(axis=1) == split.test_labels).mean())


def probe(train: NDArray[np.float32], test: NDArray[np.float32], split: Split) -> float:
    """Accuracy of a softmax regression that is fitted to representations."""
    spread = np.maximum(train.std(axis=0), 1e-6)
    head = fit_linear(
        train / spread,
        split.train_labels,
        split.classes,
        [train.shape[1]],
        tied=False,
        normalise=False,
        l2=1e-5,
    )[0]
    return accuracy_of(head.logits(test / spread).astype(np.float32), split)


def accuracy(
    models: Mapping[str, Trained], split: Split, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns {"linear" | "1-NN": {way: {dims: accuracy}}} of one seed's models.

    SVD: principal components of FF's full features, with a linear head fitted to them, and "SVD of the head" (what the paper's figures look like): FF's own head
    brought to rank m. Random: so many of FF's features, with a fitted head. As fitted heads do better than those that a network was
    trained with, MRL stands there with such, too.
    """
    full = models[f"FF-{DIMS}"]
    rotation = Rotation.fit(full.train)
    parts = rotation.apply(full.train), rotation.apply(full.test)
    columns = np.random.default_rng(seed).permutation(DIMS)
    left, values, right = np.linalg.svd(full.weights[0], full_matrices=False)
    linear: dict[str, dict[str, float]] = {
        way: {}
        for way in (
            "MRL",
            "MRL, fitted heads",
            "MRL-E",
            "MRL c8=2",
            "FF",
            "SVD",
            "SVD of the head",
            "random",
            "MRL-E, between",
        )
    }
    near: dict[str, dict[str, float]] = {
        way: {} for way in ("MRL", "MRL-E", "MRL c8=2", "FF", "SVD", "random", "MRL, between")
    }
    for place, width in enumerate(NESTING):
        name = str(width)
        for way in ("MRL", "MRL-E", "MRL c8=2"):
            model = models[way]
            linear[way][name] = accuracy_of(model.logits(place, model.test), split)
            near[way][name] = neighbour_accuracy(
                model.train[:, :width], model.test[:, :width], split
            )
        nested = models["MRL"]
        linear["MRL, fitted heads"][name] = probe(
            nested.train[:, :width], nested.test[:, :width], split
        )
        own = models[f"FF-{width}"]
        linear["FF"][name] = accuracy_of(own.logits(0, own.test), split)
        near["FF"][name] = neighbour_accuracy(own.train[:, :width], own.test[:, :width], split)
        linear["SVD"][name] = probe(parts[0][:, :width], parts[1][:, :width], split)
        near["SVD"][name] = neighbour_accuracy(parts[0][:, :width], parts[1][:, :width], split)
        reduced = full.test @ ((left[:, :width] * values[:width]) @ right[:width]) + full.biases[0]
        linear["SVD of the head"][name] = accuracy_of(reduced, split)
        some = columns[:width]
        linear["random"][name] = probe(full.train[:, some], full.test[:, some], split)
        near["random"][name] = neighbour_accuracy(full.train[:, some], full.test[:, some], split)
    tied = models["MRL-E"]
    for width in BETWEEN:
        cut = tied.test[:, :width] @ tied.weights[-1][:width] + tied.biases[-1]
        linear["MRL-E, between"][str(width)] = accuracy_of(cut, split)
        near["MRL, between"][str(width)] = neighbour_accuracy(
            nested.train[:, :width], nested.test[:, :width], split
        )
    return {"linear": linear, "1-NN": near}


def funnel(start: int, keep: int) -> list[tuple[int, int]]:
    """Returns (dims, rows to look at) of the stages after the first: half the list, twice the dims, to the full dims.

    >>> funnel(64, 200)
    [(128, 200), (256, 100)]
    """
    stages = []
    width = start * 2
    while width < DIMS:
        stages.append((width, keep))
        keep = max(_K, keep // 2)
        width *= 2
    return [*stages, (DIMS, keep)]


def retrieval(model: Trained, split: Split) -> list[dict[str, Any]]:
    """mAP@10 of test images among training images, by labels, of single shots, shortlists with a rerank, and funnels.

    FLOP as in the paper: one a coordinate, N * Ds for the shortlist and K * dims for each rerank.
    """
    rows = {width: prefix(model.train, width, Metric.cosine) for width in NESTING}
    asked = {width: prefix(model.test, width, Metric.cosine) for width in NESTING}
    ways: list[tuple[str, int, int, list[tuple[int, int]]]] = []
    for start in NESTING:
        ways.append(("single", start, _K, []))
        if start < DIMS:
            ways += [("adaptive", start, keep, [(DIMS, keep)]) for keep in KEEPS]
            ways.append(("funnel", start, 200, funnel(start, 200)))
    sums = np.zeros(len(ways))
    for begin in range(0, len(model.test), 250):
        scores = {width: asked[width][begin : begin + 250] @ rows[width].T for width in NESTING}
        listed = {width: best(each, max(KEEPS)) for width, each in scores.items()}
        wanted = split.test_labels[begin : begin + 250]
        for place, (_, start, keep, later) in enumerate(ways):
            left = listed[start][:, :keep]
            for width, length in later:
                left = left[:, :length]
                order = np.argsort(
                    -np.take_along_axis(scores[width], left, 1), axis=1, kind="stable"
                )
                left = np.take_along_axis(left, order, 1)
            sums[place] += average_precision(split.train_labels[left[:, :_K]], wanted, _K).sum()
    found = []
    for total, (way, start, keep, later) in zip(sums, ways, strict=True):
        flop = len(model.train) * start + sum(width * length for width, length in later)
        scored = {
            "mAP@10": round(total / len(model.test), 5),
            "MFLOP": round(flop / 1e6, 4),
            "fewer": round(len(model.train) * DIMS / flop, 1),
        }
        found.append({"way": way, "Ds": start, "K": keep, **scored})
    return found


def engine(
    docs: mrl_db.Collection, model: Trained, split: Split, queries: int, rounds: int
) -> list[dict[str, Any]]:
    """mAP@10 and queries/s of the native engine's flat route, one query at a time on one thread, the plans in turn.

    docs: holds the training representations, the row's number as its key.
    """
    stages: dict[str, tuple[Stage, ...]] = {
        "single shot, float32": (),
        "single shot, int8": (Stage(DIMS, Precision.int8, 20),),
        **{
            f"Ds = {width}, K = {keep}": (Stage(width, Precision.int8, keep),)
            for width, keep in ((8, 200), (16, 200), (16, 50), (32, 50))
        },
        "funnel from 8": tuple(
            Stage(width, Precision.int8, keep)
            for width, keep in ((8, 200), (16, 100), (32, 50), (64, 25))
        ),
    }
    found: dict[str, dict[str, Any]] = {}
    speed: dict[str, list[float]] = {name: [] for name in stages}
    asked = model.test[:queries]
    for turn in range(rounds):
        for name, before in stages.items():
            plan = Plan("flat", 1, (*before, Stage(DIMS, Precision.float32, _K)))
            docs.load(plan=plan, route="flat", threads=1, cache=False, max_staleness=float("inf"))
            docs.search(asked[0], k=_K)
            began = time.perf_counter()
            hits = [docs.search(query, k=_K).ids for query in asked]
            speed[name].append(queries / (time.perf_counter() - began))
            if turn == 0:
                labels = split.train_labels[np.array([list(map(int, each)) for each in hits])]
                score = average_precision(labels, split.test_labels[:queries], _K).mean()
                found[name] = {"plan": str(plan), "mAP@10": round(float(score), 5)}
            docs.unload()
    for name, each in found.items():
        ratios = np.array(speed[name]) / np.array(speed["single shot, float32"])
        each.update(
            queries_per_s=round(float(np.median(speed[name]))),
            times_single=np.percentile(ratios, [25, 50, 75]).round(2).tolist(),
        )
    return [{"way": name, **each} for name, each in found.items()]


def classification(model: Trained, split: Split, splits: int) -> dict[str, Any]:
    """Cascades of the network's own heads over test rows: half of them fit the rule, the other half are asked."""
    cascade = Cascade.from_heads(model.weights, model.biases, np.arange(split.classes))
    rules: dict[str, dict[str, float]] = {
        "at most .2 points lost": {"max_loss": 0.002},
        "at most .5 points lost": {"max_loss": 0.005},
        **{f"{cost} dims": {"max_cost": cost} for cost in (12, 16, 32)},
    }
    found = {}
    for name, rule in rules.items():
        try:
            found[name] = over_splits(
                cascade,
                model.test,
                split.test_labels,
                splits=splits,
                known=len(model.test) // 2,
                **rule,
            )
        except mrl_db.TargetNotMetError as error:
            found[name] = {"unmet": str(error)}
    return found
