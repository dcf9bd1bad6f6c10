"""Bounds that hold for any number of queries, without assuming how recall is distributed: it is bounded, skewed, and often 1.

Betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024, arXiv:2010.09686). Who bets on
each value being above m, with stakes that look at earlier values only, grows rich with probability at most alpha where the mean is not
above m (Ville's inequality). A percentile is the mean of 0s and 1s.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Values = TypeVar("Values", float, NDArray[np.float64])

_MOST_STAKE = 0.75  # of what can be lost at once


def mean_exceeds(
    values: NDArray[np.float64],
    m: float,
    alpha: float,
    planned: int | None = None,
    least: float = 0.0,
) -> bool:
    """Whether values in [least, 1], independent and in random order, prove at level alpha that their mean is above m.

    planned: how many values there will be in the end, where more may follow: one may look after each and stop, and alpha still holds.

    >>> bool(mean_exceeds(np.ones(500), 0.99, 0.05)), bool(mean_exceeds(np.ones(100), 0.99, 0.05))
    (True, False)
    """
    return bool(
        _wealth(_to_unit(values, least), _to_unit(m, least), alpha, planned or len(values))
        >= math.log(1 / alpha)
    )


def mean_lower_bound(values: NDArray[np.float64], alpha: float, least: float = 0.0) -> float:
    """Returns the largest m, to 1e-5, for which `mean_exceeds`: the mean is above it at confidence 1 - alpha. `least` for no values."""
    low, high = least, float(values.mean()) if len(values) else least
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (
            (middle, high) if mean_exceeds(values, middle, alpha, least=least) else (low, middle)
        )
    return low


def mean_upper_bound(values: NDArray[np.float64], alpha: float, least: float = 0.0) -> float:
    """Returns the bound from above, by the bound from below of what is missing to 1."""
    return 1.0 - (1.0 - least) * mean_lower_bound(1.0 - _to_unit(values, least), alpha)


def _to_unit(values: Values, least: float) -> Values:
    return (values - least) / (1.0 - least)


def _wealth(values: NDArray[np.float64], m: float, alpha: float, planned: int) -> float:
    """The logarithm of the most that a bettor against `mean <= m` ever owns, who began with 1."""
    n = len(values)
    if n == 0 or m >= 1.0:
        return -math.inf
    # Mean and variance as known before each value; at first a guess, worth one value: a mean at m, spread as a fair coin's tenth.
    counts = np.arange(1, n + 1)
    means = (m + np.concatenate(([0.0], np.cumsum(values)[:-1]))) / counts
    deviations = np.concatenate(([0.0], np.cumsum((values - means) ** 2)[:-1]))
    variances = np.maximum((0.1 * m * (1 - m) + deviations) / counts, 1e-12)
    stakes = np.minimum(
        np.sqrt(2 * math.log(1 / alpha) / (planned * variances)),
        _MOST_STAKE / m if m > 0 else np.inf,
    )
    return float(np.cumsum(np.log1p(stakes * (values - m))).max())
