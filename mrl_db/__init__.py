"""Funnel search over Matryoshka embeddings in PostgreSQL and pgvector, with native kernels.

>>> import mrl_db
>>> mrl_db.simd() in mrl_db.available_simd()
True
"""

from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING

from mrl_db.model.errors import MissingDependencyError

try:
    from mrl_db import _kernels  # noqa: F401
except ImportError:
    raise MissingDependencyError(
        f"the compiled module is not in {_Path(__file__).parent}: this is a source tree that was "
        "not installed; run pip install -e . in it, or start Python in another folder"
    ) from None
from mrl_db.collection import Collection, Records
from mrl_db.database import Database, connect
from mrl_db.hits import Hits, StageTrace, Trace
from mrl_db.kernels import available_simd, simd
from mrl_db.model.errors import (
    CancelledError,
    CollectionExistsError,
    CollectionNotFoundError,
    CommitUncertain,
    ConflictError,
    ConnectError,
    DatabaseClosedError,
    DatabaseError,
    DtypeError,
    DuplicateKeyError,
    FilterError,
    FreshnessError,
    MemoryLimitError,
    MigrationError,
    MrlDbError,
    NotFittedError,
    NotLoadedError,
    NotReplayedError,
    PartlyWrittenError,
    PartUnavailableError,
    PlanError,
    PrivilegeError,
    PromiseWarning,
    ReadOnlyError,
    RecoveryConflictError,
    RowSecurityError,
    ServerError,
    ShapeError,
    SimdError,
    TargetNotMetError,
    ValueRangeError,
)
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan, Stage, flat_plan, graph_plan
from mrl_db.model.precision import Precision
from mrl_db.model.promise import Promise, Recall
from mrl_db.postgres.conditions import raw
from mrl_db.rewriting import LargeTableWarning

if _TYPE_CHECKING:
    from mrl_db.async_ import AsyncCollection as AsyncCollection
    from mrl_db.async_ import AsyncDatabase as AsyncDatabase
    from mrl_db.async_ import AsyncScan as AsyncScan
    from mrl_db.async_ import connect_async as connect_async

_OF_ASYNC = ("AsyncCollection", "AsyncDatabase", "AsyncScan", "connect_async")


def __getattr__(name: str) -> object:
    """Returns what is fetched when it is asked for.

    That is `__version__`, whose one home is pyproject.toml, and the face for asyncio, which needs
    greenlet.
    """
    if name == "__version__":
        from importlib.metadata import version

        return version("mrl_db")
    if name in _OF_ASYNC:
        try:
            from mrl_db import async_
        except ImportError as error:
            if error.name != "greenlet":
                raise
            raise MissingDependencyError(
                "asyncio needs the package greenlet: pip install 'mrl_db[async]'"
            ) from None
        return getattr(async_, name)
    raise AttributeError(f"module 'mrl_db' has no attribute {name!r}")


__all__ = [
    "CancelledError",
    "Collection",
    "CollectionExistsError",
    "CollectionNotFoundError",
    "CommitUncertain",
    "ConflictError",
    "ConnectError",
    "Database",
    "DatabaseClosedError",
    "DatabaseError",
    "DtypeError",
    "DuplicateKeyError",
    "FilterError",
    "FreshnessError",
    "Hits",
    "LargeTableWarning",
    "MemoryLimitError",
    "Metric",
    "MigrationError",
    "MissingDependencyError",
    "MrlDbError",
    "NotFittedError",
    "NotLoadedError",
    "NotReplayedError",
    "PartUnavailableError",
    "PartlyWrittenError",
    "Plan",
    "PlanError",
    "Precision",
    "PrivilegeError",
    "Promise",
    "PromiseWarning",
    "ReadOnlyError",
    "Recall",
    "Records",
    "RecoveryConflictError",
    "RowSecurityError",
    "ServerError",
    "ShapeError",
    "SimdError",
    "Stage",
    "StageTrace",
    "TargetNotMetError",
    "Trace",
    "ValueRangeError",
    "available_simd",
    "connect",
    "flat_plan",
    "graph_plan",
    "raw",
    "simd",
]
