"""Making representations nested: losses and heads for training (PyTorch, an extra), a rotation and an adaptor for embeddings that exist.

Nothing here needs PyTorch to be imported; what needs it says so when it is called.
"""

from mrl_db.learn.adaptor import Adaptor
from mrl_db.learn.losses import FixedFeature, MatryoshkaLoss, NestedLinear
from mrl_db.learn.rotation import Rotation

__all__ = ["Adaptor", "FixedFeature", "MatryoshkaLoss", "NestedLinear", "Rotation"]
