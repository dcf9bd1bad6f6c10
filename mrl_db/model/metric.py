"""The metrics: each one's operator in pgvector, its prefixes, and its distance in float64."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.errors import ValueRangeError

MetricName = Literal["cosine", "inner_product", "l2"]


class Metric(Enum):
    """How two vectors are compared. Every distance is pgvector's: the smaller, the nearer.

    ============== ======== =============================== ====================================
    metric         operator distance                        prefix
    ============== ======== =============================== ====================================
    cosine         ``<=>``  1 - q.r / (|q| |r|), in [0, 2]  brought to unit length on its own
    inner_product  ``<#>``  -q.r                            cut
    l2             ``<->``  |q - r|                         cut
    ============== ======== =============================== ====================================
    """

    cosine = "cosine"
    inner_product = "inner_product"
    l2 = "l2"

    @classmethod
    def of(cls, value: Metric | str) -> Metric:
        """Returns the metric of this name.

        >>> Metric.of("cosine").operator
        '<=>'
        """
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(metric.value for metric in cls)
            raise ValueRangeError(f"metric {value!r} is not known; choose one of {known}") from None

    @property
    def operator(self) -> str:
        """The operator on full vectors."""
        return {"cosine": "<=>", "inner_product": "<#>", "l2": "<->"}[self.value]

    @property
    def prefix_operator(self) -> str:
        """The operator on prefixes.

        Unit prefixes are ordered by inner product as by cosine, for less, and a zero prefix keeps
        its row.
        """
        return (Metric.inner_product if self.normalised_prefix else self).operator

    @property
    def normalised_prefix(self) -> bool:
        """Whether a prefix is brought to unit length (MRL, arXiv:2205.13147, section 3)."""
        return self is Metric.cosine

    def distances(
        self, query: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Returns the operator's value of a query (dims,) and each row of (n, dims), in float64.

        NaN where cosine has no direction to compare.

        >>> Metric.l2.distances(np.zeros(2), np.array([[3.0, 4.0]])).tolist()
        [5.0]
        """
        match self:
            case Metric.cosine:
                with np.errstate(invalid="ignore", divide="ignore"):
                    cosines = rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
                distances = 1.0 - np.clip(cosines, -1.0, 1.0)
            case Metric.inner_product:
                distances = -(rows @ query)
            case Metric.l2:
                distances = np.linalg.norm(rows - query, axis=1)
        return np.asarray(distances, dtype=np.float64)

    def scores(
        self, queries: NDArray[np.float32], rows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Returns what orders rows (n, dims) as their distances do, for each query, (m, n).

        By one product of matrices in float32, which cannot tell apart what is nearly equally near.
        """
        scores = -(queries @ rows.T)
        squares = np.einsum("ij,ij->i", rows, rows)
        match self:
            case Metric.cosine:
                return np.asarray(scores / np.sqrt(squares), dtype=np.float32)
            case Metric.inner_product:
                return np.asarray(scores, dtype=np.float32)
            case Metric.l2:
                return np.asarray(scores + 0.5 * squares, dtype=np.float32)
