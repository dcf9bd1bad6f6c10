"""Keys that no index of their table makes unique: an index in this process has a row for each."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from mrl_db.model.errors import DuplicateKeyError
from mrl_db.postgres.catalog import CollectionInfo


def check_unique(blocks: list[Any], info: CollectionInfo) -> None:
    """Raises DuplicateKeyError where a key came twice, which no index of the table forbade."""
    if not blocks:
        return
    if isinstance(blocks[0], np.ndarray):
        keys = np.concatenate(blocks)
        words = keys.view(f"u{min(8, keys.shape[1])}")
        words = words[np.lexsort(words.T)]
        again = int((words[1:] == words[:-1]).all(axis=1).sum())
    else:
        again = sum(map(len, blocks)) - len(set(chain.from_iterable(blocks)))
    if again:
        raise duplicates(again, info)


def duplicates(again: int, info: CollectionInfo) -> DuplicateKeyError:
    """Returns the error of so many keys that came again, and how they are found."""
    return DuplicateKeyError(
        f'{again} keys of table "{info.schema}.{info.table}" stand on several rows, '
        f'though it was attached as one whose keys are unique: SELECT "{info.key}" … GROUP BY '
        "1 HAVING count(*) > 1 lists them"
    )
