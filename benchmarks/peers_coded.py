"""Rivals that walk or scan short codes of the rows, and look at longer ones only for the last few.

Each is built and searched as its own documentation advises; what it refines by is its own. Their
records hold recall and speed, as those of all systems in `peers.py`.

- SymphonyQG (rabitqlib): a graph whose node's block holds one-bit codes of its neighbours
- Glass (pyglass): HNSW over 8- or 4-bit codes, refined by float16
- SVS (scalable-vs): Vamana over LVQ codes or LeanVec; on Intel only
- FAISS: HNSW over 8-bit codes, refined by the rows
- kANNolo: HNSW over extended RaBitQ codes, refined by float16
- VSAG: HGraph over 8-bit codes, refined by float16
- ScaNN: a tree of anisotropic product codes, refined by the rows
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peers import BUILD_THREADS, Faiss, Svs, System

EF = (10, 14, 20, 28, 40, 56, 80, 110, 150, 220, 320, 480)


class SymphonyQg(System):
    """`SymqgIndex` with its default start of the graph; bits: of the code that reranks, 0: floats."""

    points = EF

    def __init__(self, degree: int, bits: int) -> None:
        self.name = f"SymphonyQG {degree}" + (f", {bits} bits" if bits else "")
        self._degree, self._bits = degree, bits

    def build(self, rows: np.ndarray) -> None:
        import rabitqlib

        self._index = rabitqlib.SymqgIndex(
            rows.shape[1], self._degree, metric="ip", quantization_bits=self._bits
        )
        self._index.build(rows, 200, num_threads=BUILD_THREADS)

    def set(self, point: int, k: int, threads: int) -> None:
        self._ef, self._k, self._threads = max(point, k), k, threads

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._index.search(query[np.newaxis], self._k, self._ef, 1)[0][0]

    def many(self, queries: np.ndarray) -> np.ndarray:
        search = self._index.search_batch if self._threads > 1 else self._index.search
        return search(queries, self._k, self._ef, self._threads)[0]


class Glass(System):
    """HNSW of degree 32 built over 8-bit codes; what it walks by is `code`."""

    points = EF

    def __init__(self, code: str) -> None:
        self.name = f"Glass HNSW {code} + FP16"
        self._code = code

    def build(self, rows: np.ndarray) -> None:
        import glass

        glass.set_num_threads(BUILD_THREADS)
        graph = glass.Index("HNSW", "IP", quant="SQ8U", R=32, L=200).build(rows)
        self._searcher = glass.Searcher(graph, rows, "IP", self._code, "FP16")
        self._searcher.optimize(BUILD_THREADS)

    def set(self, point: int, k: int, threads: int) -> None:
        self._searcher.set_ef(max(point, k))
        self._k, self._threads = k, threads

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._searcher.search(query, self._k)[0]

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self._searcher.batch_search(queries, self._k, self._threads)[0]


class SvsCoded(Svs):
    """Vamana over what a loader of SVS makes of the rows."""

    def __init__(self, name: str, *, leanvec_dims: int = 0, primary: int = 0, residual: int = 0):
        self.name = f"SVS Vamana {name}"
        self._leanvec_dims, self._primary, self._residual = leanvec_dims, primary, residual

    def build(self, rows: np.ndarray) -> None:
        import svs

        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "rows.fvecs")
            svs.write_vecs(rows, file)
            loaded = svs.VectorDataLoader(file, svs.DataType.float32, dims=rows.shape[1])
            coded = (
                svs.LeanVecLoader(loaded, self._leanvec_dims)
                if self._leanvec_dims
                else svs.LVQLoader(loaded, primary=self._primary, residual=self._residual)
            )
            self._make(coded)


class FaissRefined(Faiss):
    """HNSW over 8-bit codes; a few times k of what it finds are refined by the rows."""

    def __init__(self) -> None:
        points = tuple((ef, factor) for ef in (16, 32, 64, 128, 256, 512) for factor in (2, 4))
        super().__init__("HNSW32-SQ8 + refine", "HNSW32_SQ8,RFlat", points, "efSearch,k_factor_rf")

    def build(self, rows: np.ndarray) -> None:
        super().build(rows)

    def set(self, point: tuple[int, int], k: int, threads: int) -> None:
        super().set((max(point[0], point[1] * k), point[1]), k, threads)


class Kannolo(System):
    """Two stages: HNSW over 4 bits a dimension, float16 of as many candidates as a point says."""

    name = "kANNolo RaBitQ-ext 4 bits + FP16"
    points = tuple((ef, min(ef, 40)) for ef in EF)

    def build(self, rows: np.ndarray) -> None:
        import kannolo

        self._index = kannolo.DenseRerankHNSW.build_from_array(
            rows.ravel(),
            rows.shape[1],
            m=32,
            ef_construction=200,
            metric="dotproduct",
            encoder="rabitq-ext",
            rabitq_total_bits=4,
        )

    def set(self, point: tuple[int, int], k: int, threads: int) -> None:
        self._options = {"k_candidates": max(point[1], k), "ef_search": max(point[0], k)}
        self._k, self._threads = k, threads

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._index.search(query, self._k, **self._options)[1]

    def many(self, queries: np.ndarray) -> np.ndarray:
        ids = self._index.batch_search(
            queries.ravel(), self._k, **self._options, num_threads=self._threads
        )[1]
        return np.asarray(ids).reshape(len(queries), -1)


class Vsag(System):
    """HGraph over uniform 8-bit codes; it has no search of a batch."""

    name = "VSAG HGraph SQ8 + FP16"
    points = EF

    def build(self, rows: np.ndarray) -> None:
        import pyvsag

        pyvsag.set_logger_off()
        parameters = {
            "dtype": "float32",
            "metric_type": "ip",
            "dim": rows.shape[1],
            "index_param": {
                "base_quantization_type": "sq8_uniform",
                "precise_quantization_type": "fp16",
                "use_reorder": True,
                "max_degree": 32,
                "ef_construction": 200,
                "build_thread_count": BUILD_THREADS,
            },
        }
        self._index = pyvsag.Index("hgraph", json.dumps(parameters))
        self._index.build(rows, np.arange(len(rows)), *rows.shape)

    def set(self, point: int, k: int, threads: int) -> None:  # noqa: ARG002
        self._parameters, self._k = json.dumps({"hgraph": {"ef_search": max(point, k)}}), k

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._index.knn_search(query, self._k, self._parameters)[0]

    def many(self, queries: np.ndarray) -> np.ndarray:
        return np.stack([self.one(query) for query in queries])


class Scann(System):
    """A tree of about √n leaves; points: (leaves that are looked at, rows that are refined)."""

    name = "ScaNN tree-AH + reorder"
    points = tuple((leaves, rows) for leaves in (8, 16, 32, 64, 128, 250) for rows in (40, 100))

    def build(self, rows: np.ndarray) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import scann

        leaves = int(np.sqrt(len(rows)) * 2)
        builder = scann.scann_ops_pybind.builder(rows, 10, "dot_product")
        builder = builder.tree(leaves, 32, training_sample_size=min(len(rows), 250_000))
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
        builder.set_n_training_threads(BUILD_THREADS)
        self._index = builder.build()

    def set(self, point: tuple[int, int], k: int, threads: int) -> None:
        self._options: dict[str, Any] = {
            "final_num_neighbors": k,
            "leaves_to_search": point[0],
            "pre_reorder_num_neighbors": max(point[1], k),
        }
        self._index.set_num_threads(threads)

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._index.search(query, **self._options)[0]

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self._index.search_batched_parallel(queries, **self._options)[0]


def coded() -> list[System]:
    """Returns every rival of this module, the fastest that were measured first."""
    return [
        SymphonyQg(32, 0),
        SymphonyQg(32, 8),
        SymphonyQg(64, 0),
        Glass("SQ8U"),
        Glass("SQ4U"),
        SvsCoded("LVQ4x8", primary=4, residual=8),
        SvsCoded("LVQ8", primary=8),
        SvsCoded("LeanVec192", leanvec_dims=192),
        FaissRefined(),
        Kannolo(),
        Vsag(),
        Scann(),
    ]
