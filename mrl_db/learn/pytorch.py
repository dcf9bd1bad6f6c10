"""PyTorch, or the way to it: what trains imports `torch` from here."""

from mrl_db.model.errors import MissingDependencyError

try:
    import torch
except ImportError:
    raise MissingDependencyError(
        "training needs PyTorch; pip install torch, in the build for your machine"
    ) from None

__all__ = ["torch"]
