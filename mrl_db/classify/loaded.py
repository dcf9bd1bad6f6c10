"""Classifying rows that are loaded into this process: each stage copies only the coordinates that its rows need next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_db.classify.cascade import Cascade, joined
from mrl_db.classify.stored import Classified
from mrl_db.engines.native.engine import Coordinates, NativeEngine
from mrl_db.postgres.request import Request

_BLOCK = 16_384
_ATTEMPTS = 3


def classify(
    native: NativeEngine, request: Request, cascade: Cascade, dims: int | None
) -> Classified | None:
    """Returns the answer for the rows that pass the filter, as they are at one moment; None when some were replaced, in each attempt."""
    for _ in range(_ATTEMPTS):
        ids, read = native.rows_now(request)
        try:
            return _classified(ids, read, cascade, dims)
        except _ReplacedError:
            continue
    return None


class _ReplacedError(Exception):
    pass


def _classified(
    ids: NDArray[np.generic], read: Coordinates, cascade: Cascade, dims: int | None
) -> Classified:
    copied = 0
    answers = []
    for start in range(0, max(1, len(ids)), _BLOCK):

        def coordinates(
            rows: NDArray[np.int64], begin: int, end: int, start: int = start
        ) -> NDArray[np.float32]:
            nonlocal copied
            found = read((rows + start).astype(np.uint32), begin, end)
            if found is None:
                raise _ReplacedError
            copied += found.nbytes
            return found

        answers.append(
            cascade.predict_stages(min(_BLOCK, len(ids) - start), coordinates, dims=dims)
        )
    return Classified(ids, joined(answers), copied, 0)
