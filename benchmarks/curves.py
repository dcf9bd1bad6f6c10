"""Speed against recall: how systems are compared where they find equally much."""

from __future__ import annotations

import numpy as np


def at_recall(recalls: list[float], speeds: np.ndarray, target: float) -> float:
    """Queries/s at a recall, interpolated between the points of the upper envelope (log of speed against recall); NaN when out of reach."""
    order = np.argsort(recalls)
    r, s = np.array(recalls)[order], speeds[order]
    envelope = np.maximum.accumulate(s[::-1])[
        ::-1
    ]  # a point of higher recall and higher speed stands for those below it
    if target > r[-1]:
        return float("nan")
    if target <= r[0]:
        return float(envelope[0])
    return float(np.exp(np.interp(target, r, np.log(envelope))))
