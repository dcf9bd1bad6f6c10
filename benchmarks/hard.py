"""Hard sets: data that break what holds for friendly rows. A recipe for each, with a fixed seed.

Real rows are of debian-minilm (384 dims, unit length). What "noise s" says: a step in a random direction, s times as long as the row.

copies       a fifth of the rows are near copies of others, in groups of 12, 50, 200 or 1,000, at noise .02, .05, .1, .2 or 1; asked are more of them
one          1.5 rows in 2.5 are copies of one vector: equal to the last bit, or at noise .02; asked are more of them, and real ones
lengths      inner product; real rows times a lognormal factor, sigma .5, 1, 1.5
prefix       the first 128 dims of half of the rows, and of half of the queries, are zero
ends         real rows times 1e-30 or 1e25, by all metrics; and half of the rows times the one, half times the other, by cosine
dims         4, 8, 20, 50, 64 and 100 dims: uniform in a cube (l2), and principal components of real rows (cosine)
far          queries far from all rows: noise (cosine), and noise 30 times as long as the rows (l2)
clusters     two clusters 20 apart (l2); the same with one of them deleted after the load, whose rows are asked for
tails        coordinates of Student's t with 1.5 degrees of freedom, 64 dims (l2, inner product)
signs        +1 and -1: the signs of real rows; 64 random signs
filters      ids in the order of 100 clusters, and filters by cluster that the query is in, or far from
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REAL_DIMS = 384
GROUPS, NOISES = (12, 50, 200, 1000), (0.02, 0.05, 0.1, 0.2, 1.0)
SIGMAS, DIMS = (0.5, 1.0, 1.5), (4, 8, 20, 50, 64, 100)
METRICS = ("cosine", "inner_product", "l2")


@dataclass(frozen=True)
class HardSet:
    """Rows, and queries that are none of them.

    Attributes:
        name: Of the set.
        metric: Of the collection.
        rows: (n, dims) float32.
        queries: (m, dims), on which recall is measured.
        fresh: (m, dims), of the kind that the rows are, on which promises are.
        deleted: Positions of rows to delete after the load.
        cluster: (n,) of each row, where searches are filtered by it, or None.
        asked: (m,) cluster that each query is filtered by.
    """

    name: str
    metric: str
    rows: np.ndarray
    queries: np.ndarray
    fresh: np.ndarray
    deleted: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    cluster: np.ndarray | None = None
    asked: np.ndarray | None = None

    @property
    def alive(self) -> np.ndarray:
        """Positions of the rows that are not deleted."""
        return np.setdiff1d(np.arange(len(self.rows)), self.deleted)


class Recipes:
    """Makes the sets out of real rows."""

    def __init__(self, data: Path, rows: int, queries: int) -> None:
        """data: the folder with debian-minilm."""
        real = np.load(data / "debian-minilm" / "vectors.f16.npy").astype(np.float32)
        real /= np.linalg.norm(real, axis=1, keepdims=True)
        order = np.random.default_rng(21).permutation(len(real))
        self.n, self.m = rows, queries
        self.real, self.held_out = real[order[:rows]], real[order[rows : rows + queries]]
        self.more = real[order[rows + queries :]]

    def sets(self, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[HardSet]:
        """Yields the sets whose name is wanted, one after another."""
        for name, make in self._recipes():
            if wanted(name):
                yield make(np.random.default_rng(sum(name.encode())))

    def _recipes(self) -> Iterator[tuple[str, Callable[[np.random.Generator], HardSet]]]:
        for size in GROUPS:
            for noise in NOISES:
                name = f"copies {size} at {noise}"
                yield name, lambda rng, a=name, s=size, e=noise: self._copies(a, s, e, rng)
        for noise in (0.0, 0.02):
            name = f"one vector at {noise}"
            yield name, lambda rng, a=name, e=noise: self._one(a, e, rng)
        for sigma in SIGMAS:
            name = f"lengths sigma {sigma}"
            yield name, lambda rng, a=name, s=sigma: self._lengths(a, s, rng)
        yield "zero prefixes", self._prefixes
        for metric in METRICS:
            for length in (1e-30, 1e25):
                name = f"lengths {length:g} {metric}"
                yield name, lambda _, a=name, s=length, t=metric: self._ends(a, s, t)
        yield "lengths 1e-30 and 1e25 cosine", self._both_ends
        for dims in DIMS:
            name = f"{dims} dims uniform"
            yield name, lambda rng, a=name, d=dims: self._uniform(a, d, rng)
            name = f"{dims} dims PCA"
            yield name, lambda _, a=name, d=dims: self._principal(a, d)
        for metric in ("cosine", "l2"):
            name = f"far queries {metric}"
            yield name, lambda rng, a=name, t=metric: self._far(a, t, rng)
        for deleted in (False, True):
            name = "one cluster deleted" if deleted else "two clusters"
            yield name, lambda rng, a=name, gone=deleted: self._clusters(a, gone, rng)
        for metric in ("inner_product", "l2"):
            name = f"heavy tails {metric}"
            yield name, lambda rng, a=name, t=metric: self._tails(a, t, rng)
        yield "signs of real rows", self._signs
        yield "64 random signs", self._random_signs
        for near in (True, False):
            name = "filter by own cluster" if near else "filter by far cluster"
            yield name, lambda rng, a=name, own=near: self._filters(a, rng, own=own)

    def _copies(self, name: str, size: int, noise: float, rng: np.random.Generator) -> HardSet:
        groups = max(1, self.n // 5 // size)
        centres = self.more[:groups]
        of_group = np.repeat(np.arange(groups), size)
        near = stepped(centres[of_group], noise, rng)
        rows = np.concatenate([self.real[: self.n - len(near)], near])
        rows = rows[rng.permutation(len(rows))]
        asked = stepped(centres[rng.integers(0, groups, self.m)], noise, rng)
        share = round(self.m * len(near) / len(rows))
        fresh = np.concatenate([asked[:share], self.held_out[: self.m - share]])
        return HardSet(name, "cosine", rows, asked, fresh)

    def _one(self, name: str, noise: float, rng: np.random.Generator) -> HardSet:
        many = self.n * 3 // 2
        near = stepped(np.repeat(self.more[:1], many + self.m, axis=0), noise, rng)
        rows = np.concatenate([self.real, near[:many]])
        rows = rows[rng.permutation(len(rows))]
        share = self.m * 3 // 5
        fresh = np.concatenate([near[many : many + share], self.held_out[: self.m - share]])
        return HardSet(name, "cosine", rows, fresh, fresh)

    def _lengths(self, name: str, sigma: float, rng: np.random.Generator) -> HardSet:
        lengths = rng.lognormal(0, sigma, (self.n + self.m, 1)).astype(np.float32)
        rows = self.real * lengths[: self.n]
        return HardSet(
            name, "inner_product", rows, self.held_out, self.held_out * lengths[self.n :]
        )

    def _prefixes(self, rng: np.random.Generator) -> HardSet:
        rows, queries = self.real.copy(), self.held_out.copy()
        rows[rng.random(self.n) < 0.5, :128] = 0
        queries[rng.random(self.m) < 0.5, :128] = 0
        return HardSet("zero prefixes", "cosine", rows, queries, queries)

    def _ends(self, name: str, length: float, metric: str) -> HardSet:
        queries = self.held_out * np.float32(length)
        return HardSet(name, metric, self.real * np.float32(length), queries, queries)

    def _both_ends(self, rng: np.random.Generator) -> HardSet:
        lengths = rng.choice(np.array([1e-30, 1e25], np.float32), (self.n + self.m, 1))
        queries = self.held_out * lengths[self.n :]
        name = "lengths 1e-30 and 1e25 cosine"
        return HardSet(name, "cosine", self.real * lengths[: self.n], queries, queries)

    def _uniform(self, name: str, dims: int, rng: np.random.Generator) -> HardSet:
        made = rng.uniform(-1, 1, (self.n + self.m, dims)).astype(np.float32)
        return HardSet(name, "l2", made[: self.n], made[self.n :], made[self.n :])

    def _principal(self, name: str, dims: int) -> HardSet:
        mean = self.real.mean(axis=0)
        _, directions = np.linalg.eigh(np.cov(self.real.T))
        first = directions[:, ::-1][:, :dims].astype(np.float32)
        queries = (self.held_out - mean) @ first
        return HardSet(name, "cosine", (self.real - mean) @ first, queries, queries)

    def _far(self, name: str, metric: str, rng: np.random.Generator) -> HardSet:
        queries = rng.standard_normal((self.m, REAL_DIMS)).astype(np.float32)
        queries *= (30 if metric == "l2" else 1) / np.linalg.norm(queries, axis=1, keepdims=True)
        return HardSet(name, metric, self.real, queries, self.held_out)

    def _clusters(self, name: str, gone: bool, rng: np.random.Generator) -> HardSet:
        apart = rng.standard_normal(REAL_DIMS).astype(np.float32)
        apart *= np.float32(20) / np.linalg.norm(apart)
        rows, queries = self.real.copy(), self.held_out.copy()
        rows[self.n // 2 :] += apart
        if not gone:
            queries[self.m // 2 :] += apart
            return HardSet(name, "l2", rows, queries, queries)
        asked = queries.copy()
        asked[self.m // 4 :] += apart  # most ask where nothing is left
        return HardSet(name, "l2", rows, asked, queries, np.arange(self.n // 2, self.n))

    def _tails(self, name: str, metric: str, rng: np.random.Generator) -> HardSet:
        made = rng.standard_t(1.5, (self.n + self.m, 64)).astype(np.float32)
        return HardSet(name, metric, made[: self.n], made[self.n :], made[self.n :])

    def _signs(self, _: np.random.Generator) -> HardSet:
        rows, queries = (
            np.where(a > 0, 1, -1).astype(np.float32) for a in (self.real, self.held_out)
        )
        return HardSet("signs of real rows", "cosine", rows, queries, queries)

    def _random_signs(self, rng: np.random.Generator) -> HardSet:
        made = rng.choice(np.array([-1, 1], np.float32), (self.n + self.m, 64))
        return HardSet("64 random signs", "cosine", made[: self.n], made[self.n :], made[self.n :])

    def _filters(self, name: str, rng: np.random.Generator, *, own: bool) -> HardSet:
        centres = self.real[rng.choice(self.n, 100, replace=False)]
        cluster = np.argmax(self.real @ centres.T, axis=1)
        order = np.argsort(cluster, kind="stable")
        similar = self.held_out @ centres.T
        full = np.flatnonzero(np.bincount(cluster, minlength=100) >= 20)
        chosen = full[(np.argmax if own else np.argmin)(similar[:, full], axis=1)]
        return HardSet(
            name, "cosine", self.real[order], self.held_out, self.held_out,
            cluster=cluster[order], asked=chosen,
        )  # fmt: skip


def stepped(rows: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Returns rows, each a step in a random direction away: `noise` times as long as it is."""
    steps = rng.standard_normal(rows.shape).astype(np.float32)
    lengths = noise * np.linalg.norm(rows, axis=1, keepdims=True)
    steps *= lengths / np.linalg.norm(steps, axis=1, keepdims=True)
    return np.asarray(rows + steps, dtype=np.float32)


def compared(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns distances (m, n) in float64: the square of l2's."""
    q, x = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        q, x = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (q, x))
        return 1 - q @ x.T
    if metric == "inner_product":
        return -(q @ x.T)
    return np.maximum((q**2).sum(1)[:, None] + (x**2).sum(1)[None] - 2 * (q @ x.T), 0)


class Truth:
    """What is right for a set's queries: the k-th exact distance of each, ties included."""

    def __init__(self, of: HardSet, queries: np.ndarray, k: int, block: int = 100) -> None:
        self.set, self.queries, self.k = of, queries, k
        alive, filtered = of.alive, of.cluster is not None
        self.kth = np.empty(len(queries))
        for begin in range(0, len(queries), block):
            part = slice(begin, begin + block)
            distances = compared(of.metric, queries[part], of.rows[alive])
            if filtered:
                assert of.cluster is not None
                assert of.asked is not None
                passing = of.cluster[alive][None] == of.asked[part][:, None]
                distances[~passing] = np.inf
            self.kth[part] = np.partition(distances, k - 1, axis=1)[:, k - 1]

    def recall(self, ids: np.ndarray) -> np.ndarray:
        """Returns the recall of each query from (m, up to k) ids; -1 is none.

        Float32's rounding of a sum is no fault: it is what the last stage of every engine has.
        """
        of, found = self.set, np.zeros(len(self.queries))
        dead = np.zeros(len(of.rows), bool)
        dead[of.deleted] = True
        for number, (query, own) in enumerate(zip(self.queries, ids, strict=True)):
            own = np.unique(own[own >= 0])
            if not len(own):
                continue
            rows = of.rows[own]
            if of.metric == "l2":
                distances = ((rows.astype(np.float64) - query) ** 2).sum(axis=1)
                slack = 1e-6 * self.kth[number]
            else:
                distances = compared(of.metric, query[None], rows)[0]
                slack = 3e-7
                if of.metric == "inner_product":
                    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
                    slack = slack * lengths.max() * np.linalg.norm(query.astype(np.float64))
            right = (distances <= self.kth[number] + slack) & ~dead[own]
            if of.cluster is not None and of.asked is not None:
                right &= of.cluster[own] == of.asked[number]
            found[number] = min(int(right.sum()), self.k) / self.k
        return found
