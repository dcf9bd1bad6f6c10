"""CIFAR-10 and BANKING77 as arrays, and what is computed from them kept in files."""

from __future__ import annotations

import gzip
import io
import json
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIMS = 256
NESTING = (2, 4, 8, 16, 32, 64, 128, 256)
BETWEEN = (3, 6, 12, 24, 48, 96, 192)  # widths that no loss saw


@dataclass(frozen=True, slots=True)
class Split:
    """Inputs and labels, for training and for tests. inputs: uint8 (n, 3, 32, 32) images, or float32 (n, dims) frozen vectors."""

    train: NDArray[np.generic]
    train_labels: NDArray[np.int64]
    test: NDArray[np.generic]
    test_labels: NDArray[np.int64]
    classes: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What a network makes of a split: representations float32 (n, DIMS), and its linear heads, weight (dims, classes) and bias (classes,)."""

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]

    def logits(self, head: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns (n, classes) of one head for full representations."""
        weight = self.weights[head]
        return vectors[:, : len(weight)] @ weight + self.biases[head]


def cifar(folder: Path) -> Split:
    """Decodes the 60,000 images."""
    from PIL import Image

    source = folder / "cifar10-jpeg"
    with lzma.open(source / "images.bin.xz") as file:
        stream = file.read()
    offsets = np.load(source / "offsets.u32.npy")
    images = np.empty((len(offsets) - 1, 3, 32, 32), dtype=np.uint8)
    for number in range(len(images)):
        with Image.open(io.BytesIO(stream[offsets[number] : offsets[number + 1]])) as image:
            images[number] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    labels, test = (
        np.load(source / "labels.u8.npy").astype(np.int64),
        np.load(source / "split.u8.npy") == 1,
    )
    return Split(images[~test], labels[~test], images[test], labels[test], 10)


def banking(folder: Path) -> Split:
    """The frozen vectors of bank customers' questions, with their intents."""
    source = folder / "banking77-minilm"
    vectors = np.load(source / "vectors.f16.npy").astype(np.float32)
    with gzip.open(source / "meta.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    names, labels = np.unique([row["label"] for row in rows], return_inverse=True)
    test = np.array([row["split"] == "test" for row in rows])
    return Split(vectors[~test], labels[~test], vectors[test], labels[test], len(names))


def kept(path: Path, train: Callable[[], Trained]) -> Trained:
    """Returns what the file holds, or trains and writes it: an interrupted run goes on where it was."""
    if not path.exists():
        made = train()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        heads = {f"weight{n}": each for n, each in enumerate(made.weights)} | {
            f"bias{n}": each for n, each in enumerate(made.biases)
        }
        np.savez(
            part, train=made.train.astype(np.float16), test=made.test.astype(np.float16), **heads
        )
        part.replace(path)
    with np.load(path) as file:
        heads_count = sum(name.startswith("weight") for name in file.files)
        weights, biases = (
            [file[f"{what}{n}"] for n in range(heads_count)] for what in ("weight", "bias")
        )
        return Trained(
            file["train"].astype(np.float32), file["test"].astype(np.float32), weights, biases
        )
