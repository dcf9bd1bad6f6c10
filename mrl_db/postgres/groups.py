"""The nearest row of each group of rows: exactly, by all rows' full vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from mrl_db.postgres import conditions, statements
from mrl_db.postgres.request import Request
from mrl_db.postgres.session import Session
from mrl_db.postgres.vectors import VectorParameter


def nearest_groups(
    session: Session,
    request: Request,
    query: NDArray[np.float32],
    group: str,
    k: int,
    without: Any = None,
) -> list[tuple[Any, float]]:
    """Returns (key, distance) of the nearest row of each of the k nearest groups.

    Args:
        session: To ask.
        request: The filter.
        query: (dims,).
        group: The column whose equal values make a group; NULLs make one.
        k: Groups.
        without: The key of a row that is left out, or None.
    """
    info = request.info
    condition, parameters = request.condition()
    if without is not None:
        apart = conditions.other(info.key, info.key_type)
        condition, parameters = conditions.conjunction(condition, apart), [*parameters, without]
    statement = statements.query("nearest_groups").format(
        group=statements.identifier(group),
        key=statements.identifier(info.key),
        key_order=sql.SQL(info.key_order),
        vector=statements.identifier(info.vector),
        vector_schema=statements.identifier(info.vector_schema),
        vector_type=statements.identifier(info.vector_type),
        operator=sql.SQL(info.metric.operator),
        source=info.relation,
        condition=condition,
    )
    with session.connection() as connection:
        cursor = connection.cursor(binary=True)
        values = [VectorParameter(query), *parameters, k]
        return [(key, distance) for key, distance in cursor.execute(statement, values).fetchall()]
