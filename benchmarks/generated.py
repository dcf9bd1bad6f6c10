"""Larger sets than there is real data for, with the spectrum and the neighbourhoods of real Matryoshka embeddings. Never quoted as real.

Source: openai3s-almedalen, 2,161 vectors of text-embedding-3-small, cut to the wanted dims and brought to unit length, repeated ones left out.
Recipe, with a seed for each set:

1. mean and covariance of the source; the covariance's square root turns white noise into vectors with the source's spectrum;
2. one anchor for every twenty rows: mean + noise;
3. each row picks an anchor at random, and w from the source's own nearest neighbours: the squared distance of a source row, drawn at
   random, from its nearest, over that of two random rows;
4. row = mean + sqrt(1 - w) (anchor - mean) + sqrt(w) noise, at unit length.

So two rows of an anchor lie as near to each other, measured by the spread of all, as nearest neighbours do in the source.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS_AN_ANCHOR = 20
_BLOCK = 50_000


def generate(source: Path, rows: int, dims: int, *, seed: int) -> np.ndarray:
    """Returns float32 vectors (rows, dims) at unit length. source: the folder of openai3s-almedalen."""
    real = np.load(source / "vectors.i8.npy").astype(np.float32)[:, :dims]
    real = np.unique(real, axis=0)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    mean = real.mean(axis=0)
    centred = real - mean
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    root = (directions.T * (values / np.sqrt(len(real)))).astype(np.float32)

    similarity = real @ real.T
    apart = 1 - np.median(similarity[np.triu_indices(len(real), 1)])
    np.fill_diagonal(similarity, -1)
    shares = np.clip((1 - similarity.max(axis=1)) / apart, 1e-3, 1)

    rng = np.random.default_rng(seed)
    anchors = (
        rng.standard_normal((max(1, rows // ROWS_AN_ANCHOR), root.shape[1]), dtype=np.float32)
        @ root.T
    )
    made = np.empty((rows, dims), dtype=np.float32)
    for begin in range(0, rows, _BLOCK):
        block = made[begin : begin + _BLOCK]
        w = rng.choice(shares, len(block)).astype(np.float32)[:, np.newaxis]
        block[:] = rng.standard_normal((len(block), root.shape[1]), dtype=np.float32) @ root.T
        block *= np.sqrt(w)
        block += np.sqrt(1 - w) * anchors[rng.integers(0, len(anchors), len(block))]
        block += mean
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return made
