"""How a stage stores what it looks at: bytes, SQL type and pgvector's limits."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from mrl_db.model.errors import PlanError

PrecisionName = Literal["float32", "float16", "int8", "int4", "bit"]


class Precision(Enum):
    """float32, float16, int8, int4 or bit, the dearest first."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"
    int4 = "int4"
    bit = "bit"

    @classmethod
    def of(cls, value: Precision | str) -> Precision:
        """Returns the precision of this name.

        >>> Precision.of("int8").bits
        8
        """
        try:
            return cls(value)
        except ValueError:
            known = ", ".join(precision.value for precision in cls)
            raise PlanError(f"precision {value!r} is not known; choose one of {known}") from None

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
