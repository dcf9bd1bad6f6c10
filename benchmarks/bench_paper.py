"""The experiments of Matryoshka Representation Learning (arXiv:2205.13147) on CIFAR-10 and BANKING77, through this library.

pip install '.[embedded,learn]' torch && python benchmarks/bench_paper.py --data SHARED --out FOLDER --name paper

SHARED is the folder with cifar10-jpeg and banking77-minilm. FOLDER keeps what was trained (an interrupted run goes on where it was) and gets
the true MRL vectors as a set for benchmarks (cifar_mrl.npz: 50,000 + 10,000 x 256 float16, labels), tables (paper.md) and plots. Parts:

train           3 seeds of MRL, MRL-E, FF at each width, and MRL with twice the weight on 8 dims
accuracy        linear and 1-NN accuracy by dims; beside them SVD, random features; widths between the nested ones
retrieval       mAP@10 of adaptive retrieval (Ds x K), of the funnel (halve the list, double the dims), of single shots; FLOPs; queries/s of ours
classification  cascades on the MRL heads, against FF and the paper's thresholds
truncation      cut and renormalised against vectors made shorter, as mean absolute percentage error
banking         the accuracy table, and cascades, on 77 classes
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # the networks are small: two threads wait for each other

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from cascades import over_splits
from paper import data, measure, networks, show
from paper.data import DIMS, NESTING, Split, Trained, kept

import mrl_db
from mrl_db.classify import Cascade
from mrl_db.model.metric import Metric
from mrl_db.model.nesting import prefix

EPOCHS = {"cifar": 5, "banking": 30}
RATE = {"cifar": 0.01, "banking": 0.003}


def models(
    split: Split, name: str, folder: Path, seed: int, only: tuple[str, ...] = ()
) -> dict[str, Trained]:
    """Returns what each way of training makes of the split, trained when it is not there yet: "MRL", "MRL-E", "MRL c8=2", "FF-2", …

    name: of the files, beginning with the data's. only: these ways; all without it.
    """
    found = {}
    kind_of_data = name.split(maxsplit=1)[0]
    epochs, rate = EPOCHS[kind_of_data], RATE[kind_of_data]
    ways: dict[str, tuple[str, int, tuple[float, ...] | None]] = {
        "MRL": ("MRL", DIMS, None),
        "MRL-E": ("MRL-E", DIMS, None),
        **{f"FF-{width}": ("FF", width, None) for width in NESTING},
        "MRL c8=2": ("MRL", DIMS, tuple(2.0 if width == 8 else 1.0 for width in NESTING)),
    }
    for way, (kind, dims, weights) in ways.items():
        if only and way not in only:
            continue
        began = time.perf_counter()

        def train(
            kind: str = kind, dims: int = dims, weights: tuple[float, ...] | None = weights
        ) -> Trained:
            return networks.train(
                split, kind, seed=seed, epochs=epochs, dims=dims, weights=weights, rate=rate
            )

        path = folder / f"{name}_{way}_{seed}_{epochs}.npz"
        fresh = not path.exists()
        found[way] = kept(path, train)
        if fresh:
            right = (
                found[way].logits(-1, found[way].test).argmax(axis=1) == split.test_labels
            ).mean()
            print(
                f"{name} {way} seed {seed}: {right:.4f} in {time.perf_counter() - began:.0f} s",
                flush=True,
            )
    return found


def accuracy_table(split: Split, name: str, folder: Path, seeds: int) -> dict[str, Any]:
    """Means and spreads over seeds of `measure.accuracy`: {"linear" | "1-NN": {way: {dims: [mean, standard deviation]}}}."""
    runs = [
        measure.accuracy(models(split, name, folder, seed), split, seed) for seed in range(seeds)
    ]
    return {
        what: {
            way: {
                width: [round(float(np.mean(each)), 4), round(float(np.std(each)), 4)]
                for width in runs[0][what][way]
                for each in [[run[what][way][width] for run in runs]]
            }
            for way in runs[0][what]
        }
        for what in runs[0]
    }


def retrieval(split: Split, folder: Path, seeds: int) -> dict[str, Any]:
    """The grid, its mAP averaged over seeds, and the engine's queries/s on the first seed's representations."""
    trained = [models(split, "cifar", folder, seed, ("MRL",))["MRL"] for seed in range(seeds)]
    runs = [measure.retrieval(model, split) for model in trained]
    grid = [
        {**same[0], "mAP@10": round(float(np.mean([each["mAP@10"] for each in same])), 5)}
        for same in zip(*runs, strict=True)
    ]
    with tempfile.TemporaryDirectory() as home, mrl_db.connect(home=Path(home) / "home") as db:
        docs = db.create_collection("cifar", dims=DIMS, nesting_dims=NESTING)
        docs.add(np.arange(len(trained[0].train)), trained[0].train)
        return {"grid": grid, "engine": measure.engine(docs, trained[0], split, 1000, 5)}


def truncation(split: Split) -> dict[str, dict[str, float]]:
    """Mean absolute percentage error of a representation that is cut and brought to unit length, against one made with so many outputs.

    float32: as the network made it. halfvec: the full vector stored as float16 first. zero coordinates, which have no percentage, are left
    out.
    """

    def error(cut: np.ndarray, short: np.ndarray) -> float:
        made, true = (
            prefix(cut, cut.shape[1], Metric.cosine),
            prefix(short, short.shape[1], Metric.cosine),
        )
        there = true != 0
        return float(100 * np.abs((made[there] - true[there]) / true[there]).mean())

    pairs = networks.shortened(split, seed=0, epochs=EPOCHS["banking"])
    return {
        str(width): {
            "float32": error(cut, short),
            "halfvec": error(cut.astype(np.float16).astype(np.float32), short),
        }
        for width, (cut, short) in pairs.items()
    }


def banking(split: Split, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The accuracy table; and cascades of networks that were trained on 6,000 rows, drawn anew for each of five; the rule is fitted
    on 3,500 others, and what it loses is measured on the 3,583 that are left."""
    vectors, labels = (
        np.concatenate([split.train, split.test]),
        np.concatenate([split.train_labels, split.test_labels]),
    )
    rules: dict[str, dict[str, float]] = {
        "at most .5 points lost": {"max_loss": 0.005},
        "at most 1 point lost": {"max_loss": 0.01},
        "42 dims": {"max_cost": 42.0},
    }
    runs = []
    for seed in range(5):
        order = np.random.default_rng(100 + seed).permutation(len(vectors))
        own = Split(
            vectors[order[:6000]],
            labels[order[:6000]],
            vectors[order[6000:]],
            labels[order[6000:]],
            split.classes,
        )
        model = models(own, f"banking split {seed}", folder, seed, ("MRL",))["MRL"]
        cascade = Cascade.from_heads(model.weights, model.biases, np.arange(split.classes))
        part = max(1, options.splits // 5)
        runs.append(
            {
                name: over_splits(
                    cascade, model.test, own.test_labels, splits=part, known=3500, **rule
                )
                for name, rule in rules.items()
            }
        )
    cascades = {}
    for name in rules:
        same = [run[name] for run in runs]
        cascades[name] = {
            "splits": sum(each["splits"] for each in same),
            **({"kept": sum(each["kept"] for each in same)} if "kept" in same[0] else {}),
            "full accuracy": round(float(np.mean([each["full accuracy"] for each in same])), 4),
            **{
                way: {
                    key: round(float(np.mean([each[way][key] for each in same])), 4)
                    for key in same[0][way]
                }
                for way in ("rule", "pairwise")
            },
        }
    return {**accuracy_table(split, "banking", folder, options.seeds), "cascades": cascades}


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument(
        "--parts",
        nargs="*",
        default=["train", "accuracy", "retrieval", "classification", "truncation", "banking"],
    )
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.splits = 1, 10
        EPOCHS.update(cifar=1, banking=3)
    record = machine.resume(options.name, "torch", "scipy")
    options.out.mkdir(parents=True, exist_ok=True)
    cifar = data.cifar(options.data)
    questions = data.banking(options.data)
    parts: dict[str, Callable[[], Any]] = {
        "train": lambda: {
            seed: sorted(models(cifar, "cifar", options.out, seed)) for seed in range(options.seeds)
        },
        "accuracy": lambda: accuracy_table(cifar, "cifar", options.out, options.seeds),
        "retrieval": lambda: retrieval(cifar, options.out, options.seeds),
        "classification": lambda: [
            measure.classification(
                models(cifar, "cifar", options.out, seed, ("MRL",))["MRL"],
                cifar,
                max(1, options.splits // 12),
            )
            for seed in range(options.seeds)
        ],
        "truncation": lambda: truncation(questions),
        "banking": lambda: banking(questions, options.out, options),
    }
    for name in options.parts:
        machine.keep(options.name, record, name, parts[name]())
    first = models(cifar, "cifar", options.out, 0, ("MRL",))["MRL"]
    np.savez(
        options.out / "cifar_mrl.npz",
        train=first.train.astype(np.float16),
        test=first.test.astype(np.float16),
        train_labels=cifar.train_labels.astype(np.uint8),
        test_labels=cifar.test_labels.astype(np.uint8),
    )
    show.write(record, options.out)


if __name__ == "__main__":
    main()
