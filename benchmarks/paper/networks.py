"""Two small networks, trained for prefixes of every nesting width (MRL, MRL-E), or for one (FF: a network of its own for each width).

A convolutional network of 9 million multiplications an image, and a perceptron with one hidden layer on frozen vectors. Both make DIMS
features that are normalised over the rows and signed (the paper's are not negative: two dims of such leave ten classes a quarter of the
plane). FF at a width is the same network, whose only loss is that of a head on so many first dims.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paper.data import DIMS, NESTING, Split, Trained

from mrl_db.learn import FixedFeature, MatryoshkaLoss, NestedLinear

BATCH = 250
MEAN, SPREAD = 0.473, 0.25  # of CIFAR-10's pixels


def convolutional() -> Any:
    """Returns a network (n, 3, 32, 32) to (n, DIMS)."""

    def layer(given: int, made: int, kernel: int = 3, stride: int = 1) -> list[Any]:
        convolution = torch.nn.Conv2d(given, made, kernel, stride, 1, bias=False)
        return [convolution, torch.nn.BatchNorm2d(made), torch.nn.ReLU(inplace=True)]

    layers = [
        *layer(3, 24, 4, 2),
        *layer(24, 48),
        torch.nn.MaxPool2d(2),
        *layer(48, 96),
        torch.nn.MaxPool2d(2),
        *layer(96, DIMS),
    ]
    last = [
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(DIMS, DIMS, bias=False),
        torch.nn.BatchNorm1d(DIMS),
    ]
    return torch.nn.Sequential(*layers, *last).to(memory_format=torch.channels_last)


def perceptron(given: int) -> Any:
    """Returns a network (n, given) to (n, DIMS)."""
    hidden = [
        torch.nn.Linear(given, 512),
        torch.nn.BatchNorm1d(512),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
    ]
    return torch.nn.Sequential(
        *hidden, torch.nn.Linear(512, DIMS, bias=False), torch.nn.BatchNorm1d(DIMS)
    )


def as_input(rows: NDArray[np.generic]) -> Any:
    """Returns a tensor of a batch of inputs: pixels to about zero mean and unit spread, frozen vectors to a mean square of 1."""
    if rows.dtype == np.uint8:
        pixels = (torch.from_numpy(rows).float() / 255 - MEAN) / SPREAD
        return pixels.contiguous(memory_format=torch.channels_last)
    return torch.from_numpy(np.ascontiguousarray(rows)) * math.sqrt(rows.shape[1])


def moved(images: NDArray[np.generic], rng: np.random.Generator) -> NDArray[np.generic]:
    """Returns each image mirrored or not, and moved by up to two pixels."""
    n, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    down, right = rng.integers(0, 5, (2, n))
    columns = (
        np.where(rng.random((n, 1)) < 0.5, np.arange(width), np.arange(width)[::-1])
        + right[:, np.newaxis]
    )
    rows = np.arange(height) + down[:, np.newaxis]
    picked = (
        np.arange(n)[:, np.newaxis, np.newaxis, np.newaxis],
        np.arange(channels)[np.newaxis, :, np.newaxis, np.newaxis],
    )
    return np.asarray(
        padded[(*picked, rows[:, np.newaxis, :, np.newaxis], columns[:, np.newaxis, np.newaxis, :])]
    )


def train(
    split: Split,
    kind: str,
    *,
    seed: int,
    epochs: int,
    dims: int = DIMS,
    weights: tuple[float, ...] | None = None,
    rate: float = 0.01,
) -> Trained:
    """Trains a network and its heads; returns the representations of all rows.

    kind: "MRL", "MRL-E", or "FF" at dims. weights: c_m of the nested loss. The order of rows and the first weights come from the seed.
    """
    torch.manual_seed(seed)
    images = split.train.dtype == np.uint8
    body = convolutional() if images else perceptron(split.train.shape[1])
    cross_entropy = torch.nn.functional.cross_entropy
    if kind == "FF":
        head, loss = FixedFeature(dims, split.classes), cross_entropy
    else:
        head, loss = (
            NestedLinear(NESTING, split.classes, tied=kind == "MRL-E"),
            MatryoshkaLoss(NESTING, cross_entropy, weights=weights),
        )
    fit(split, body, head, loss, seed, epochs, rate)
    heads = [head.head] if kind == "FF" else list(head.heads)
    widths = [dims] if kind == "FF" else NESTING
    if kind == "MRL-E":
        heads = heads * len(NESTING)
    matrices = [
        each.weight.detach().numpy().T[:width].copy()
        for each, width in zip(heads, widths, strict=True)
    ]
    return Trained(
        represented(body, split.train),
        represented(body, split.test),
        matrices,
        [each.bias.detach().numpy().copy() for each in heads],
    )


def fit(split: Split, body: Any, head: Any, loss: Any, seed: int, epochs: int, rate: float) -> None:
    """Trains body and head: AdamW, one cycle of the learning rate, rows in random order, images moved and mirrored."""
    rng = np.random.default_rng(seed)
    images = split.train.dtype == np.uint8
    parameters = [*body.parameters(), *head.parameters()]
    steps = epochs * (len(split.train) // BATCH)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=steps, pct_start=0.25
    )
    body.train()
    for _ in range(epochs):
        order = rng.permutation(len(split.train))
        for begin in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[begin : begin + BATCH]
            rows = moved(split.train[batch], rng) if images else split.train[batch]
            with torch.autocast("cpu", torch.bfloat16, enabled=images):
                features = body(as_input(rows))
            error = loss(head(features.float()), torch.from_numpy(split.train_labels[batch]))
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
            schedule.step()


def shortened(
    split: Split, *, seed: int, epochs: int
) -> dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Returns for each width (the full representations cut to it, those of the same network with so many outputs), float32 (n, width)."""
    torch.manual_seed(seed)
    body = perceptron(split.train.shape[1])
    fit(
        split,
        body,
        NestedLinear(NESTING, split.classes),
        MatryoshkaLoss(NESTING, torch.nn.functional.cross_entropy),
        seed,
        epochs,
        0.003,
    )
    full = represented(body, split.test)
    pairs = {}
    for width in NESTING[:-1]:
        linear, norm = torch.nn.Linear(512, width, bias=False), torch.nn.BatchNorm1d(width)
        linear.weight.data = body[4].weight.data[:width].clone()
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).data = getattr(body[5], name).data[:width].clone()
        pairs[width] = (
            full[:, :width],
            represented(torch.nn.Sequential(*body[:4], linear, norm), split.test),
        )
    return pairs


def represented(body: Any, rows: NDArray[np.generic]) -> NDArray[np.float32]:
    """Returns the representations (n, what the network makes) of rows."""
    body.eval()
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=rows.dtype == np.uint8),
    ):
        return np.concatenate(
            [
                body(as_input(rows[begin : begin + 1000])).float().numpy()
                for begin in range(0, len(rows), 1000)
            ]
        )
