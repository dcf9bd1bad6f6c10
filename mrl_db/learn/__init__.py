"""Nested representations: losses and heads to train a model with (PyTorch), rotation and adaptor.

Only `MatryoshkaLoss`, `NestedLinear`, `FixedFeature` and `Adaptor.fit` need PyTorch; it is
imported when one of them is asked for.
"""

from typing import TYPE_CHECKING, Any

from mrl_db.learn.adaptor import Adaptor
from mrl_db.learn.rotation import Rotation

if TYPE_CHECKING:
    from mrl_db.learn.losses import FixedFeature, MatryoshkaLoss, NestedLinear

__all__ = ["Adaptor", "FixedFeature", "MatryoshkaLoss", "NestedLinear", "Rotation"]


def __getattr__(name: str) -> Any:
    """Returns a class that needs PyTorch; raises MissingDependencyError without it."""
    if name in __all__:
        from mrl_db.learn import losses

        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
