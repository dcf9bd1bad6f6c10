"""What adaptors and cascades are worth on real embeddings.

pip install '.[embedded,learn]' torch && python benchmarks/bench_learn.py --data SHARED --name learn

SHARED is the folder with scifact-minilm, banking77-minilm and debian-minilm. Parts:

adaptor   SciFact: nDCG@10 on the test claims at 1/4, 1/8, 1/16 of the dims: plain prefix, PCA rotation, adaptor without and with the train judgements;
          debian-minilm: recall@10 of held-out rows by prefixes, adaptor without supervision
cascade   BANKING77, rotated: accuracy and dims of the cascade at most half a point, and a point, below full dims, over random splits; how often that is so;
          the paper's pairwise thresholds on the same heads; nearest class mean; abstention
stored    63,666 rows classified where they are stored: bytes of coordinates against full dims, and that the labels are those in process
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "2"

import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
from cascades import over_splits

import mrl_db
from mrl_db.classify import Cascade
from mrl_db.evaluate.metrics import ndcg
from mrl_db.evaluate.representations import nearest
from mrl_db.learn import Adaptor, Rotation
from mrl_db.model.metric import Metric

DIMS = (12, 24, 48, 96, 192, 384)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Returns float32 vectors of length 1."""
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of JSON lines."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def scifact(data: Path, seeds: int) -> dict[str, Any]:
    """nDCG@10 of the test claims at each width."""
    folder = data / "scifact-minilm"
    docs, claims = unit(np.load(folder / "docs.f16.npy")), unit(np.load(folder / "queries.f16.npy"))
    document = {each["id"]: place for place, each in enumerate(lines(folder / "docs.jsonl.gz"))}
    claim = {each["id"]: place for place, each in enumerate(lines(folder / "queries.jsonl.gz"))}

    def judged(name: str) -> list[tuple[int, int, float]]:
        rows = [line.split("\t") for line in (folder / name).read_text().splitlines()[1:]]
        return [
            (claim[query], document[row], float(score))
            for query, row, score in rows
            if float(score) > 0
        ]

    train = [(query, row) for query, row, _ in judged("qrels.train.tsv")]
    test: dict[int, dict[int, float]] = {}
    for query, row, score in judged("qrels.test.tsv"):
        test.setdefault(query, {})[row] = score
    assert not {query for query, _ in train} & set(test)
    asked = np.array(sorted(test))

    def at(rows: np.ndarray, queries: np.ndarray) -> dict[str, float]:
        scores = {}
        for width in (24, 48, 96, 384):
            found = nearest(
                np.ascontiguousarray(rows[:, :width]),
                np.ascontiguousarray(queries[asked][:, :width]),
                Metric.cosine,
                10,
            )
            scores[str(width)] = round(
                float(ndcg(found, [test[query] for query in asked.tolist()]).mean()), 4
            )
        return scores

    rotation = Rotation.fit(docs)
    result: dict[str, Any] = {
        "plain": at(docs, claims),
        "PCA": at(rotation.apply(docs), rotation.apply(claims)),
    }
    for name, known in (
        ("adaptor", {}),
        ("adaptor, judgements", {"queries": claims, "judgements": train}),
    ):
        runs = []
        for seed in range(seeds):
            began = time.perf_counter()
            adaptor = Adaptor.fit(docs, (24, 48, 96, 384), steps=300, seed=seed, **known)
            runs.append(
                {
                    **at(adaptor.apply(docs), adaptor.apply(claims)),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
            print(name, runs[-1], flush=True)
        result[name] = runs
    return result


def debian(data: Path) -> dict[str, Any]:
    """Recall@10 of held-out rows by prefixes, against full vectors; trained on 10,000 rows."""
    vectors = unit(np.load(data / "debian-minilm" / "vectors.f16.npy"))
    order = np.random.default_rng(42).permutation(len(vectors))
    rows, asked = vectors[order[500:]], vectors[order[:500]]
    true = nearest(rows, asked, Metric.cosine, 10)
    rotation = Rotation.fit(rows)
    adaptor = Adaptor.fit(rows[:10_000], (24, 48, 96, 384), steps=400)
    result = {}
    for name, change in (
        ("plain", lambda each: each),
        ("PCA", rotation.apply),
        ("adaptor", adaptor.apply),
    ):
        mine, theirs = change(rows), change(asked)
        result[name] = {}
        for width in (24, 48, 96, 384):
            found = nearest(
                np.ascontiguousarray(mine[:, :width]),
                np.ascontiguousarray(theirs[:, :width]),
                Metric.cosine,
                10,
            )
            result[name][str(width)] = round(
                float((true[:, :, None] == found[:, None]).any(axis=2).mean()), 4
            )
    print("debian", result, flush=True)
    return result


def banking(data: Path, splits: int) -> dict[str, Any]:
    """Cascades on BANKING77."""
    folder = data / "banking77-minilm"
    vectors = unit(np.load(folder / "vectors.f16.npy"))
    labels = np.array([each["label"] for each in lines(folder / "meta.jsonl.gz")])
    order = np.random.default_rng(0).permutation(len(vectors))
    fitted, held = order[:7000], order[7000:]
    rotated = Rotation.fit(vectors[fitted]).apply(vectors)
    result: dict[str, Any] = {}
    for head in ("linear", "tied", "class_mean"):
        began = time.perf_counter()
        cascade = Cascade(DIMS, head=head).fit(
            rotated[fitted], labels[fitted], calibrate=(rotated[held], labels[held])
        )
        own: dict[str, Any] = {
            "seconds": round(time.perf_counter() - began, 1),
            "accuracy": {
                str(w): round(
                    float((cascade.predict(rotated[held], dims=w).labels == labels[held]).mean()), 4
                )
                for w in DIMS
            },
        }
        for max_loss in (0.005, 0.01):
            repeats = splits if head == "linear" else 10
            own[str(max_loss)] = over_splits(
                cascade, rotated[held], labels[held], splits=repeats, known=4500, max_loss=max_loss
            )
        own["max_error 0.02"] = abstaining(cascade, rotated, labels, held[:4500], held[4500:])
        result[head] = own
        print(head, own, flush=True)
    return result


def abstaining(
    cascade: Cascade, vectors: np.ndarray, labels: np.ndarray, known: np.ndarray, fresh: np.ndarray
) -> dict[str, Any]:
    """The share that is answered, and the errors among it, where at most 2 % shall be wrong; or what stands in the way."""
    try:
        cascade.fit_rule(vectors[known], labels[known], max_error=0.02)
    except mrl_db.TargetNotMetError as error:
        return {"unmet": str(error)}
    answer = cascade.predict(vectors[fresh])
    answered = ~answer.abstained
    return {
        "answered": round(float(answered.mean()), 4),
        "error": round(float((answer.labels != labels[fresh])[answered].mean()), 4),
    }


def stored(data: Path) -> dict[str, Any]:
    """Classifies the Debian packages by section, where they are stored: rotated, and adapted with the sections of 10,000 of them."""
    vectors = unit(np.load(data / "debian-minilm" / "vectors.f16.npy"))
    sections = np.array(
        [str(each["section"]) for each in lines(data / "debian-minilm" / "meta.jsonl.gz")]
    )
    order = np.random.default_rng(1).permutation(len(vectors))
    known, held, fresh = order[:10_000], order[10_000:30_000], order[30_000:]
    changes = {
        "rotated": Rotation.fit(vectors[known]),
        "adapted": Adaptor.fit(vectors[known], DIMS, labels=sections[known], steps=400),
    }
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, mrl_db.connect(home=Path(folder) / "home") as db:
        for name, change in changes.items():
            docs = db.create_collection(name, dims=384, nesting_dims=(128, 384), adaptor=change)
            docs.add(np.arange(len(vectors)), vectors)
            kept = docs.get(np.arange(len(vectors))).vectors
            cascade = Cascade(DIMS, head="class_mean").fit(
                kept[known], sections[known], calibrate=(kept[held], sections[held]), max_loss=0.01
            )
            times, found = {}, {}
            for way, dims in (("cascade", None), ("full", 384)):
                began = time.perf_counter()
                found[way] = docs.classify(cascade, dims=dims)
                times[way] = round(time.perf_counter() - began, 2)
            docs.load(route="flat", cache=False)
            began = time.perf_counter()
            loaded = docs.classify(cascade)
            times["cascade, loaded"] = round(time.perf_counter() - began, 2)
            here = cascade.predict(kept)
            answer = found["cascade"]
            assert np.array_equal(answer.answer.labels, here.labels[answer.ids])
            assert np.array_equal(loaded.answer.labels, here.labels[loaded.ids])
            full = cascade.predict(kept[fresh], dims=384)
            result[name] = {
                "rows": len(kept),
                "coordinate_bytes_ratio": round(
                    found["full"].coordinate_bytes / answer.coordinate_bytes, 2
                ),
                "all_bytes_ratio": round(
                    (found["full"].coordinate_bytes + found["full"].key_bytes)
                    / (answer.coordinate_bytes + answer.key_bytes),
                    2,
                ),
                "mean_dims": round(float(here.dims.mean()), 1),
                "accuracy": round(float((here.labels == sections)[fresh].mean()), 4),
                "full_accuracy": round(float((full.labels == sections[fresh]).mean()), 4),
                "seconds": times,
            }
            print(name, result[name], flush=True)
    return result


def main() -> None:
    parser = machine.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--parts", nargs="*", default=["scifact", "debian", "banking", "stored"])
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.splits, options.parts = 1, 3, ["scifact", "stored"]
    record = machine.resume(options.name, "scipy", "torch")
    parts = {
        "scifact": lambda: scifact(options.data, options.seeds),
        "debian": lambda: debian(options.data),
        "banking": lambda: banking(options.data, options.splits),
        "stored": lambda: stored(options.data),
    }
    for name in options.parts:
        machine.keep(options.name, record, name, parts[name]())


if __name__ == "__main__":
    main()
