"""How a stage stores what it looks at: bytes, SQL type and pgvector's limits."""

from __future__ import annotations

from enum import Enum


class Precision(Enum):
    """float32, float16, int8, int4 or bit, the dearest first."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    int4 = "int4"
    bit = "bit"

    @property
    def bits(self) -> int:
        """Bits of one dimension."""
        return {"float32": 32, "float16": 16, "int8": 8, "int4": 4, "bit": 1}[self.value]

    def bytes(self, dims: int) -> int:
        """Bytes of one row of this many dims, without headers.

        >>> Precision.float16.bytes(128)
        256
        """
        return (self.bits * dims + 7) // 8


# pgvector 0.8, README, "Can I store vectors with more dimensions".
MAX_STORED_DIMS = 16000
MAX_HALFVEC_VALUE = 65504.0
