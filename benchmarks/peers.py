"""The systems that bench_peers.py compares: each built over the same rows, searched one query at a time or in a batch.

Rivals are libraries from wheels, tuned as their own documentation advises. The projected ones get what our engine gives itself: vectors cut by
PCA, and a rerank of their shortlist by the full float32 vectors, in our C++ kernel, one call a query.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import mrl_db
from mrl_db import _kernels, graph_plan, kernels
from mrl_db.engines.native.index import Loading
from mrl_db.engines.native.engine import NativeEngine
from mrl_db.engines.native.journal import Journal
from mrl_db.model.metric import Metric
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.engines.native.projection import SAMPLE_ROWS, fit_projection

BUILD_THREADS = 2


class System(ABC):
    """Something that is built over rows (n, dims) of unit length, and finds the nearest by inner product."""

    name = ""
    group = "full"  # or "projected", or "ours"
    points: tuple[Any, ...] = ()

    @abstractmethod
    def build(self, rows: np.ndarray) -> None:
        """Builds over the rows, with BUILD_THREADS threads."""

    @abstractmethod
    def set(self, point: Any, k: int, threads: int) -> None:
        """Makes ready for searches at a point of the sweep."""

    def one(self, query: np.ndarray) -> np.ndarray:
        """Returns the ids for one query (dims,)."""
        return self.many(query[np.newaxis])[0]

    @abstractmethod
    def many(self, queries: np.ndarray) -> np.ndarray:
        """Returns the ids (n, k) for a batch."""


class Ours(System):
    """The native engine as `Collection.search` uses it, Python and trace included; rows are handed over without a database."""

    group = "ours"
    points = (10, 12, 14, 16, 20, 24, 28, 34, 40, 50, 60, 80, 120, 160, 220, 300, 420, 700, 1800)

    def __init__(self, build: str = "default", simd: str | None = None) -> None:
        self.name = "mrl_db" if build == "default" else f"mrl_db, build={build}"
        self._build, self._simd = build, simd or mrl_db.simd()
        if simd:
            self.name += f", {simd}"

    def build(self, rows: np.ndarray) -> None:
        _kernels.use_simd(self._simd)
        dims = rows.shape[1]
        index = _kernels.Index(_kernels.Metric.cosine, dims, _kernels.KeyType.int64, True)
        index.reserve(len(rows))
        index.append(np.arange(len(rows)).view(np.uint8).reshape(-1, 8), rows, BUILD_THREADS)
        index.set_projection(*fit_projection(index.sample(SAMPLE_ROWS)))
        index.build(self._build, BUILD_THREADS, None)
        info = CollectionInfo(
            name="docs",
            schema="public",
            table="docs",
            key="id",
            key_type="bigint",
            key_order="",
            key_length=None,
            vector="embedding",
            vector_type="vector",
            vector_oid=0,
            vector_schema="public",
            dims=dims,
            nesting_dims=(dims,),
            metric=Metric.cosine,
            adapted=False,
            low_dims=dims,
            low_dim_column=None,
            index=None,
            index_kinds=(),
            plan=None,
            columns={},
            vectors_required=True,
        )
        live = SimpleNamespace(  # follows no table
            index=index,
            info=info,
            follows=False,
            journal=Journal(),
            sync=lambda *_: None,
            close=lambda: None,
        )
        nobody = SimpleNamespace(aside=lambda search: search())  # in place of a database's session
        self.engine = NativeEngine(nobody, live, Loading(graph_plan(dims=dims)))  # type: ignore[arg-type]
        self._info, self._dims = info, dims

    def set(self, point: int, k: int, threads: int) -> None:
        from mrl_db.model.filters import AllOf
        from mrl_db.postgres.request import Request

        _kernels.use_simd(self._simd)  # each block of queries begins with this
        self._k, self._threads = k, threads
        self._plan = graph_plan(dims=self._dims, k=k, effort=point)
        self.engine.follow_plan(self._plan)
        self._request = Request(self._info, AllOf(()), ())

    def one(self, query: np.ndarray) -> np.ndarray:
        hits = self.engine.search_one(query, self._k)
        assert hits is not None
        return hits.ids

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self.engine.search(self._request, queries, self._plan, threads=self._threads).ids


class Projected:
    """Cut vectors for a rival, and the rerank of what it finds."""

    def fit(self, rows: np.ndarray, dims: int) -> np.ndarray:
        sample = rows[:: max(1, len(rows) // SAMPLE_ROWS)]
        self._mean = sample.mean(axis=0)
        centred = sample - self._mean
        _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        mixing, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((dims, dims)))
        self._columns = np.ascontiguousarray(
            directions[:, ::-1][:, :dims] @ mixing, dtype=np.float32
        )
        self._rows = rows
        return np.ascontiguousarray((rows - self._mean) @ self._columns)

    def project(self, queries: np.ndarray) -> np.ndarray:
        return queries @ self._columns

    def rerank(self, queries: np.ndarray, found: np.ndarray, k: int, threads: int) -> np.ndarray:
        return kernels.rerank(
            queries, self._rows, found.astype(np.int64), k, metric="inner_product", threads=threads
        )[1]


class Svs(System):
    """Intel Scalable Vector Search, Vamana. LVQ and LeanVec refuse to run on AMD."""

    points = (10, 12, 15, 20, 25, 30, 40, 50, 65, 80, 100, 140, 200, 300)
    degree, window = 64, 128  # that the graph is built with

    def __init__(self, dtype: str) -> None:
        self.name = f"SVS Vamana {dtype}"
        self._dtype = np.dtype(dtype)

    def _make(self, rows: np.ndarray) -> None:
        import svs

        parameters = svs.VamanaBuildParameters(
            graph_max_degree=self.degree, window_size=self.window, alpha=0.95
        )
        self._index = svs.Vamana.build(
            parameters, rows, svs.DistanceType.MIP, num_threads=BUILD_THREADS
        )

    def build(self, rows: np.ndarray) -> None:
        self._make(rows.astype(self._dtype))

    def set(self, point: int, k: int, threads: int) -> None:
        self._index.num_threads = threads
        self._index.search_window_size = max(point, k)
        self._k = k

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self._index.search(queries, self._k)[0]


class SvsProjected(Svs, Projected):
    """int8 of the projection; the shortlist is reranked. points: (window, shortlist)."""

    group = "projected"
    points = (
        (12, 12),
        (15, 15),
        (20, 20),
        (25, 20),
        (30, 20),
        (40, 20),
        (40, 30),
        (60, 30),
        (80, 30),
        (120, 40),
        (200, 40),
        (300, 60),
    )

    def __init__(self, dims: int) -> None:
        super().__init__("int8")
        self.name = f"SVS Vamana int8, PCA-{dims} + rerank"
        self._dims = dims

    def build(self, rows: np.ndarray) -> None:
        cut = self.fit(rows, self._dims)
        self._scale = 127 / np.quantile(np.abs(cut[::7]), 0.9999)
        self._make(np.clip(np.rint(cut * self._scale), -127, 127).astype(np.int8))

    def set(self, point: tuple[int, int], k: int, threads: int) -> None:
        super().set(max(point[0], k), k, threads)
        self._shortlist, self._threads = max(point[1] * k // 10, k + k // 5), threads
        self._index.search_window_size = max(point[0], self._shortlist)

    def many(self, queries: np.ndarray) -> np.ndarray:
        cut = self.project(queries)
        cut *= 127 / np.abs(cut).max(axis=1, keepdims=True)
        found = self._index.search(np.rint(cut).astype(np.int8), self._shortlist)[0]
        return self.rerank(queries, found, self._k, self._threads)


class Faiss(System):
    """A FAISS index by its factory string; points set one of its search parameters."""

    def __init__(
        self,
        name: str,
        factory: str,
        points: tuple[Any, ...],
        parameter: str,
        construction: dict[str, int] | None = None,
    ) -> None:
        self.name, self._factory, self.points, self._parameter = (
            f"FAISS {name}",
            factory,
            points,
            parameter,
        )
        self._construction = construction or {}

    def build(self, rows: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(BUILD_THREADS)
        self._index = faiss.index_factory(rows.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT)
        self._space = faiss.ParameterSpace()
        for key, value in self._construction.items():
            self._space.set_index_parameter(self._index, key, value)
        self._index.train(rows[:: max(1, len(rows) // 100_000)])
        self._index.add(rows)

    def set(self, point: Any, k: int, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._k = k
        for parameter, value in zip(
            self._parameter.split(","), point if isinstance(point, tuple) else (point,), strict=True
        ):
            if parameter:
                self._space.set_index_parameter(self._index, parameter, value)

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self._index.search(queries, self._k)[1]


class FaissProjected(Faiss, Projected):
    """HNSW over scalar-quantised PCA vectors, reranked. points: (efSearch, shortlist)."""

    group = "projected"

    def __init__(self, dims: int) -> None:
        points = (
            (16, 16),
            (24, 20),
            (32, 25),
            (48, 30),
            (64, 30),
            (100, 40),
            (160, 50),
            (300, 60),
            (500, 80),
        )
        super().__init__(
            f"HNSW32-SQ8, PCA-{dims} + rerank",
            "HNSW32_SQ8",
            points,
            "efSearch",
            {"efConstruction": 100},
        )
        self._dims = dims

    def build(self, rows: np.ndarray) -> None:
        super().build(self.fit(rows, self._dims))

    def set(self, point: tuple[int, int], k: int, threads: int) -> None:
        self._shortlist, self._threads = max(point[1] * k // 10, k + k // 5), threads
        super().set(max(point[0], self._shortlist), k, threads)

    def many(self, queries: np.ndarray) -> np.ndarray:
        found = self._index.search(self.project(queries), self._shortlist)[1]
        return self.rerank(queries, found, self._k, self._threads)


class Hnswlib(System):
    name = "hnswlib"
    points = (10, 16, 24, 32, 48, 64, 96, 140, 200, 300, 500)

    def build(self, rows: np.ndarray) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=rows.shape[1])
        self._index.init_index(max_elements=len(rows), M=24, ef_construction=150)
        self._index.add_items(rows, num_threads=BUILD_THREADS)

    def set(self, point: int, k: int, threads: int) -> None:
        self._index.set_ef(max(point, k))
        self._index.set_num_threads(threads)
        self._k = k

    def many(self, queries: np.ndarray) -> np.ndarray:
        return self._index.knn_query(queries, self._k)[0]


class Usearch(System):
    points = (12, 16, 24, 32, 48, 64, 96, 140, 200, 300, 500)

    def __init__(self, dtype: str) -> None:
        self.name = f"USearch {dtype}"
        self._dtype = dtype

    def build(self, rows: np.ndarray) -> None:
        from usearch.index import Index

        self._index = Index(
            ndim=rows.shape[1], metric="cos", dtype=self._dtype, connectivity=32, expansion_add=128
        )
        self._index.add(np.arange(len(rows)), rows, threads=BUILD_THREADS)

    def set(self, point: int, k: int, threads: int) -> None:
        self._index.expansion_search = max(point, k)
        self._k, self._threads = k, threads

    def one(self, query: np.ndarray) -> np.ndarray:
        return self._index.search(query, self._k, threads=1).keys

    def many(self, queries: np.ndarray) -> np.ndarray:
        found = self._index.search(queries, self._k, threads=self._threads).keys
        return np.asarray(found)


class Pgvector(System):
    """HNSW over halfvec in an embedded server, prepared statements over a socket."""

    name = "pgvector HNSW halfvec"
    points = (10, 20, 40, 80, 160, 320)

    def build(self, rows: np.ndarray) -> None:
        import psycopg

        import mrl_db
        from mrl_db.postgres.vectors import VectorDumper, VectorParameter

        self._folder = tempfile.TemporaryDirectory()
        self._db = mrl_db.connect(home=Path(self._folder.name) / "home")
        docs = self._db.create_collection("docs", dims=rows.shape[1])
        docs.ingest(np.arange(len(rows)), rows, index=False)
        self._parameter = VectorParameter
        self._connection = psycopg.connect(self._db.dsn, autocommit=True)
        oid = self._connection.execute("SELECT 'vector'::regtype::oid").fetchone()[0]  # type: ignore[index]
        self._connection.adapters.register_dumper(
            VectorParameter, type("D", (VectorDumper,), {"oid": oid})
        )
        self._connection.execute("SET maintenance_work_mem = '2GB'")
        self._half = f"halfvec({rows.shape[1]})"
        self._connection.execute(
            f"CREATE INDEX ON docs USING hnsw ((embedding::{self._half}) halfvec_ip_ops) WITH (m = 16, ef_construction = 64)"
        )
        self._connection.execute("VACUUM ANALYZE docs")

    def set(self, point: int, k: int, threads: int) -> None:  # noqa: ARG002
        self._connection.execute(f"SET hnsw.ef_search = {max(point, k)}")
        self._statement = (
            f"SELECT id FROM docs ORDER BY embedding::{self._half} <#> %s::{self._half} LIMIT {k}"
        )

    def one(self, query: np.ndarray) -> np.ndarray:
        found = (
            self._connection.cursor(binary=True)
            .execute(self._statement, (self._parameter(query),))
            .fetchall()
        )
        return np.array([row[0] for row in found])

    def many(self, queries: np.ndarray) -> np.ndarray:
        return np.stack([self.one(query) for query in queries])


def systems(dims: int, rows: int) -> list[System]:
    """Returns every system, ours first: by what the CPU has, and by AVX2 where it has more."""
    from peers_coded import coded

    lists = 1024 if rows < 500_000 else 4096
    probes = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    ef = (10, 16, 24, 32, 48, 64, 96, 140, 200, 300, 500)
    refine = tuple((probe, factor) for probe in (8, 16, 32, 64, 128, 256) for factor in (4, 10))
    cut = 192 if dims <= 512 else 256
    lesser = "avx2" if mrl_db.simd().startswith("avx512") else None
    forced = [Ours(simd=lesser)] if lesser else []
    return [
        Ours(),
        Ours("fast"),
        *forced,
        Svs("float32"),
        Svs("float16"),
        Faiss("HNSW32", "HNSW32", ef, "efSearch", {"efConstruction": 100}),
        Faiss("IVF, Flat", f"IVF{lists},Flat", probes, "nprobe"),
        Faiss(
            "IVF, PQ fast-scan + refine",
            f"IVF{lists},PQ{dims // 4}x4fs,RFlat",
            refine,
            "nprobe,k_factor_rf",
        ),
        Faiss(
            "IVF, RaBitQ fast-scan + refine",
            f"IVF{lists},RaBitQfs,RFlat",
            refine,
            "nprobe,k_factor_rf",
        ),
        Faiss("Panorama flat", "FlatIPPanorama8", (0,), ""),
        Hnswlib(),
        Usearch("bf16"),
        Usearch("i8"),
        Pgvector(),
        SvsProjected(cut),
        FaissProjected(128),
        *coded(),
    ]
