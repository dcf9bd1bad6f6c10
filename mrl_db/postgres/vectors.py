"""pgvector's types in psycopg: their binary form, for parameters and for results.

Beside them the parameter that is in its binary form already, whatever its type.

Written here because pgvector's own adapters look for the extension on the search path only
(docs/decisions/psycopg.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.abc import DumperKey
from psycopg.adapt import Buffer, Dumper, Loader, PyFormat
from psycopg.pq import Format

from mrl_db.postgres import dates


class VectorParameter:
    """A float32 vector (dims,) on its way to the server as a value of type vector."""

    __slots__ = ("wire",)

    def __init__(self, vector: NDArray[np.float32]) -> None:
        # int16 dims, int16 zero, big-endian float4
        head = np.array([vector.shape[0], 0], dtype=">i2")
        self.wire = head.tobytes() + vector.astype(">f4").tobytes()


class VectorDumper(Dumper):
    """Sends a `VectorParameter`; a subclass knows the type's oid in one database."""

    format = Format.BINARY

    def dump(self, obj: VectorParameter) -> Buffer:
        """Returns the bytes that stand for it."""
        return obj.wire


@dataclass(frozen=True, slots=True)
class Field:
    """A value in its binary form on its way to the server.

    Attributes:
        wire: The bytes.
        oid: Of its type; 0: the server takes it from the statement.
    """

    wire: bytes
    oid: int


class _FieldDumper(Dumper):
    format = Format.BINARY

    def get_key(self, obj: Field, format: PyFormat) -> DumperKey:  # noqa: ARG002
        return (self.cls, obj.oid)  # type: ignore[return-value]

    def upgrade(self, obj: Field, format: PyFormat) -> _FieldDumper:  # noqa: ARG002
        dumper = _FieldDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Field) -> Buffer:
        return obj.wire


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.float32]:
        return np.frombuffer(data, dtype=">f4", offset=4).astype(np.float32)


class _HalfvecLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.float32]:
        return np.frombuffer(data, dtype=">f2", offset=4).astype(np.float32)


def adapt(connection: psycopg.Connection[Any], oids: Mapping[str, int]) -> None:
    """Teaches a connection vector and halfvec, whose oids differ from database to database."""
    dates.adapt(connection)
    dumper = type("Dumper", (VectorDumper,), {"oid": oids["vector"]})
    connection.adapters.register_dumper(VectorParameter, dumper)
    connection.adapters.register_dumper(Field, _FieldDumper)
    connection.adapters.register_loader(oids["vector"], _VectorLoader)
    connection.adapters.register_loader(oids["halfvec"], _HalfvecLoader)
