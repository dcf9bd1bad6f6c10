"""Bounds of a mean that hold for any number of queries, however recall is distributed.

Recall is bounded, skewed, and mostly 1, so a normal interval claims too much. These bounds are by
betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024,
arXiv:2010.09686): who bets on each value being above m, with stakes that look at earlier values
only, grows rich with probability at most alpha where the mean is not above m (Ville's inequality).
A percentile is the mean of zeros and ones.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mrl_db.model.promise import Target

Values = TypeVar("Values", float, NDArray[np.float64])

_MOST_STAKE = 0.75  # of what can be lost at once


def mean_exceeds(
    values: NDArray[np.float64],
    m: float,
    alpha: float,
    planned: int | None = None,
    least: float = 0.0,
) -> bool:
    """Returns whether values prove, at level alpha, that their mean is above m.

    Args:
        values: In [least, 1], independent and in random order.
        m: The mean to exceed.
        alpha: Probability of a wrong proof.
        planned: How many values there will be in the end, where more may follow. One may look
            after each and stop, and alpha still holds.
        least: The smallest value that there can be.

    >>> mean_exceeds(np.ones(500), 0.99, 0.05), mean_exceeds(np.ones(100), 0.99, 0.05)
    (True, False)
    """
    wealth = _wealth(_to_unit(values, least), _to_unit(m, least), alpha, planned or len(values))
    return wealth >= math.log(1 / alpha)


def mean_lower_bound(values: NDArray[np.float64], alpha: float, least: float = 0.0) -> float:
    """Returns the largest m, to 1e-5, for which `mean_exceeds`; `least` where there are no values.

    The mean is above it at confidence 1 - alpha.
    """
    low, high = least, float(values.mean()) if len(values) else least
    while high - low > 1e-5:
        middle = (low + high) / 2
        if mean_exceeds(values, middle, alpha, least=least):
            low = middle
        else:
            high = middle
    return low


def mean_upper_bound(values: NDArray[np.float64], alpha: float, least: float = 0.0) -> float:
    """Returns the bound from above: by the bound from below of what is missing to 1."""
    return 1.0 - (1.0 - least) * mean_lower_bound(1.0 - _to_unit(values, least), alpha)


def proves(
    recalls: NDArray[np.float64],
    target: Target,
    alpha: float,
    planned: int | None = None,
    least: float = 0.0,
) -> bool:
    """Returns whether recalls, one a query, prove a target; arguments as `mean_exceeds`."""
    values, m = _as_mean(recalls, target)
    return mean_exceeds(values, m, alpha, planned, least if target.statistic == "mean" else 0.0)


def is_hopeless(recalls: NDArray[np.float64], target: Target) -> bool:
    """Returns whether recalls lie so far below that more queries are not worth their time."""
    values, m = _as_mean(recalls, target)
    return bool(values.mean() + 2.0 * values.std() / math.sqrt(len(values)) < m)


def _as_mean(recalls: NDArray[np.float64], target: Target) -> tuple[NDArray[np.float64], float]:
    """The target as a mean of values that has to be above m."""
    if target.statistic == "mean":
        return recalls, target.recall
    return (recalls >= target.recall - 1e-9).astype(np.float64), 0.95


def _to_unit(values: Values, least: float) -> Values:
    return (values - least) / (1.0 - least)


def _wealth(values: NDArray[np.float64], m: float, alpha: float, planned: int) -> float:
    """The logarithm of the most that a bettor against `mean <= m` ever owns, who began with 1."""
    n = len(values)
    if n == 0 or m >= 1.0:
        return -math.inf
    # Mean and variance as they are before each value; at first a guess that is worth one value: the
    # mean is m, the variance a tenth of a coin's.
    counts = np.arange(1, n + 1)
    means = (m + np.concatenate(([0.0], np.cumsum(values)[:-1]))) / counts
    deviations = np.concatenate(([0.0], np.cumsum((values - means) ** 2)[:-1]))
    variances = np.maximum((0.1 * m * (1 - m) + deviations) / counts, 1e-12)
    stakes = np.minimum(
        np.sqrt(2 * math.log(1 / alpha) / (planned * variances)),
        _MOST_STAKE / m if m > 0 else np.inf,
    )
    return float(np.cumsum(np.log1p(stakes * (values - m))).max())
