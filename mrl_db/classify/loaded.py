"""Classifying rows that are loaded into this process: each stage copies only the coordinates that its rows need next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_db import _kernels
from mrl_db.classify.cascade import Answer, Cascade, joined

_BLOCK = 16_384


def classify(index: _kernels.Index, live: _kernels.LiveRows, cascade: Cascade, dims: int | None) -> tuple[Answer, int] | None:
    """Returns the answers for the live rows, in their order, and the bytes of coordinates; None when one was replaced meanwhile."""
    read = 0
    answers = []
    for start in range(0, max(1, len(live)), _BLOCK):

        def coordinates(rows: NDArray[np.int64], begin: int, end: int, start: int = start) -> NDArray[np.float32]:
            nonlocal read
            found = index.coordinates(live, (rows + start).astype(np.uint32), begin, end)
            if found is None:
                raise _ReplacedError
            read += found.nbytes
            return found

        try:
            answers.append(cascade.predict_stages(min(_BLOCK, len(live) - start), coordinates, dims=dims))
        except _ReplacedError:
            return None
    return joined(answers), read


class _ReplacedError(Exception):
    pass
