"""One hash of the graph that is built over some rows, and of the answers that searches get.

    python tests/packaging/answers.py [ROWS]

Prints it for each instruction set that runs here, and fails where two differ. Rows, queries and
projection are exact numbers, the same on every machine: so whatever compiled the module, and
whatever runs it, the hash for as many rows is one.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
from numpy.typing import NDArray

import mrl_db
from mrl_db import _kernels, kernels

DIMS = 256
KEPT = _kernels.PROJECTION_DIMS
QUERIES = 200
K = 10
PREFIX, PROJECTION = _kernels.Space.prefix, _kernels.Space.projection
INT4, INT8, F32 = (
    _kernels.Precision.int4,
    _kernels.Precision.int8,
    _kernels.Precision.float32,
)
PLANS = [
    (_kernels.Route.graph, 24, [(PROJECTION, KEPT, INT4, 20), (PREFIX, DIMS, F32, K)]),
    (_kernels.Route.graph, 200, [(PROJECTION, KEPT, INT4, 60), (PREFIX, DIMS, F32, K)]),
    (_kernels.Route.flat, 1, [(PREFIX, DIMS // 2, INT8, 50), (PREFIX, DIMS, F32, K)]),
]


def data(rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns rows in clusters of twenty, and queries: whole numbers."""
    rng = np.random.default_rng(20261127)
    anchors = rng.integers(-60, 61, (rows // 20 + 1, DIMS))
    chosen = anchors[rng.integers(0, len(anchors), rows + QUERIES)]
    made = (chosen + rng.integers(-40, 41, chosen.shape)).astype(np.float32)
    return made[:rows], made[rows:]


def projection() -> NDArray[np.float32]:
    """Returns Hadamard's orthogonal matrix, mixed and cut: its values are 1/16 and -1/16."""
    matrix = np.ones((1, 1), dtype=np.float32)
    while len(matrix) < DIMS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    order = np.random.default_rng(1).permutation(DIMS)
    return np.ascontiguousarray(matrix[order][:, 1 : KEPT + 1] / np.float32(16))


def build(vectors: NDArray[np.float32], threads: int = 2) -> _kernels.Index:
    """Returns an index with a graph and codes for the plans: the last rows came after the build."""
    index = _kernels.Index(_kernels.Metric.cosine, DIMS, _kernels.KeyType.int64, True)
    keys, first = np.arange(len(vectors)).view(np.uint8).reshape(-1, 8), len(vectors) * 7 // 8
    index.append(keys[:first], vectors[:first], threads)
    index.set_projection(projection(), np.zeros(DIMS, dtype=np.float32))
    index.add_flat_codes(PREFIX, DIMS // 2, INT8, None, threads)
    index.build("default", threads, None)
    index.upsert(keys[first:], vectors[first:])
    index.link_waiting(len(vectors), threads)
    return index


def answer(rows: int) -> str:
    """Returns the hash by the instruction set in use."""
    vectors, queries = data(rows)
    index = build(vectors)
    digest = hashlib.sha256(index.links().tobytes())
    for plan in PLANS:
        keys, *_ = index.search_many(queries, _kernels.NativePlan(*plan), None, 1)
        digest.update(np.asarray(keys).tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    rows = int(sys.argv[1]) if sys.argv[1:] else 20_000
    answers = {}
    for simd in mrl_db.available_simd():
        with kernels.using_simd(simd):
            answers[simd] = answer(rows)
        print(f"{answers[simd]} {rows} rows, {simd}", flush=True)
    assert len(set(answers.values())) == 1, answers


if __name__ == "__main__":
    main()
