"""What a cascade costs and loses over random splits of rows that its heads have not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrl_db.classify import Cascade
from mrl_db.classify.stopping import greedy, pareto, stages_of


def judged(
    cascade: Cascade, vectors: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confidence of each head, and whether it is wrong, (n, heads)."""
    answers = [cascade.predict(vectors, dims=width) for width in cascade.dims]
    return np.stack([each.confidence for each in answers], 1), np.stack(
        [each.labels != labels for each in answers], 1
    )


def over_splits(
    cascade: Cascade,
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    splits: int,
    known: int,
    **rule: float,
) -> dict[str, Any]:
    """Fits the rule on so many of the rows and asks the others, for random splits.

    rule: max_loss or max_cost, as in `Cascade.fit_rule`. Beside the rule stand, with the same heads, the paper's pairwise thresholds, and
    the cheapest thresholds that kept max_loss where they were found, which nothing proves. Pairs are (points of accuracy lost to full dims
    in hundredths, mean dims). The points of a split are its own; kept counts those that are at most max_loss.
    """
    dims = np.array(cascade.dims)
    found: dict[str, list[tuple[float, float]]] = {"rule": [], "pairwise": [], "unproven": []}
    full = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(vectors))
        fitted, fresh = order[:known], order[known:]
        cascade.fit_rule(vectors[fitted], labels[fitted], seed=seed, **rule)  # type: ignore[arg-type]
        sure, wrong = judged(cascade, vectors[fitted], labels[fitted])
        sure_fresh, wrong_fresh = judged(cascade, vectors[fresh], labels[fresh])
        ways = {"rule": cascade.thresholds, "pairwise": greedy(sure, wrong)}
        if "max_loss" in rule:
            front = pareto(sure, wrong, cascade.costs)
            ways["unproven"] = next(
                each
                for each in reversed(front)
                if each.errors <= wrong[:, -1].mean() + rule["max_loss"]
            ).thresholds
        for name, thresholds in ways.items():
            stage = stages_of(sure_fresh, thresholds)
            lost = wrong_fresh[np.arange(len(stage)), stage].mean() - wrong_fresh[:, -1].mean()
            found[name].append((float(lost), float(dims[stage].mean())))
        full.append(1.0 - float(wrong_fresh[:, -1].mean()))
    told: dict[str, Any] = {"splits": splits, "full accuracy": round(float(np.mean(full)), 4)}
    for name, pairs in found.items():
        if pairs:
            lost, mean = np.mean(pairs, axis=0)
            told[name] = {
                "lost": round(float(lost), 4),
                "dims": round(float(mean), 1),
                "most lost": round(max(pairs)[0], 4),
            }
    if "max_loss" in rule:
        told["kept"] = int(sum(lost <= rule["max_loss"] for lost, _ in found["rule"]))
    return told
