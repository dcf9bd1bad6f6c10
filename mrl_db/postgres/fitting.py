"""Whether a collection that is there is the one that was to be made."""

from __future__ import annotations

from typing import Any

from mrl_db.model.errors import CollectionExistsError
from mrl_db.model.metric import Metric
from mrl_db.postgres import catalog, statements
from mrl_db.postgres.catalog import CollectionInfo, Definition
from mrl_db.postgres.session import Session


def misfits(session: Session, definition: Definition, info: CollectionInfo) -> list[str]:
    """Returns what of a definition a collection that is there does not have, in words.

    What the definition leaves to defaults fits; so do further columns.
    """
    names = list(definition.columns)
    with session.connection() as connection:
        types = connection.execute(
            statements.query("type_names"), (list(definition.columns.values()),)
        ).fetchall()
    there = {
        "dims": info.dims,
        "metric": info.metric,
        "key_type": info.key_type,
        "nesting_dims": info.nesting_dims,
        "shortlist_dims": info.low_dims,
        "schema": info.schema,
        "vectors_required": info.vectors_required,
        "text": None if info.text is None else info.text.column,
        "language": None if info.text is None else info.text.language,
        **{f"column {name!r}": column.type for name, column in info.columns.items()},
    }
    given = {
        "dims": definition.dims,
        "metric": definition.metric,
        "key_type": definition.key_type,
        "nesting_dims": definition.nesting_dims,
        "shortlist_dims": definition.shortlist_dims,
        "schema": definition.schema,
        "vectors_required": None if definition.vectors_required else False,
        "text": definition.text,
        "language": None if definition.text is None else definition.language,
        **{f"column {name!r}": row[0] for name, row in zip(names, types, strict=True)},
    }
    return [
        f"{what} is {_said(there.get(what))}, not {_said(value)}"
        for what, value in given.items()
        if value is not None and value != there.get(what)
    ]


def check_fit(session: Session, definition: Definition, adaptor: bytes | None) -> None:
    """Raises CollectionExistsError where the collection that is there is another one."""
    info = catalog.describe(session, definition.name)
    others = misfits(session, definition, info)
    if catalog.adaptor_of(session, info) != adaptor:
        others.append("adaptor is another one")
    if others:
        raise CollectionExistsError(
            f'collection "{definition.name}" exists already, and its {"; its ".join(others)}; '
            "open() takes it as it is"
        )


def _said(value: Any) -> str:
    return value.value if isinstance(value, Metric) else "missing" if value is None else str(value)
