"""Partitioned tables that are collections."""

import pytest
from database.partitions.tables import DIMS, LEAF, RANGES, ROWS, made, same_as_the_database


@pytest.fixture
def docs(db, execute):
    """Partitioned by hash."""
    return made(db, execute, "hash")


@pytest.fixture
def ranges(db, execute):
    """Partitioned by ranges of a hundred keys; loaded."""
    execute(RANGES)
    for first in (0, 100, 200):
        execute(LEAF.format(first))
    docs = db.attach("docs", metric="l2", nesting_dims=(4, DIMS))
    execute(ROWS.format("docs", 0, 249))
    docs.load(cache=False)
    assert same_as_the_database(docs) == set(range(250))
    return docs
