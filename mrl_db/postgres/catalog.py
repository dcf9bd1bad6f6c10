"""The catalogue: what the database knows of a collection, and calls of the functions in mrl."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg import adapters, sql
from psycopg import errors as pg
from psycopg.adapt import AdaptersMap
from psycopg.pq import Format
from psycopg.types.json import Json, Jsonb

from mrl_db import door, door_dims
from mrl_db.model.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    FreshnessError,
    ValueRangeError,
)
from mrl_db.model.metric import Metric
from mrl_db.model.plan import Plan
from mrl_db.model.values import misfit
from mrl_db.postgres import statements
from mrl_db.postgres.session import Connection, Session


@dataclass(frozen=True, slots=True)
class Column:
    """A metadata column.

    Attributes:
        name: In the table.
        type: As PostgreSQL's `format_type` writes it.
        oid: Of the type.
        wire_oid: Of the type whose binary form its values have.
        array_oid: Of the type of its arrays, out of which rows can be made; 0 where they cannot.
        generated: Whether the server computes it.
        as_text: Whether its values are read as text, as psycopg has no loader for them.
    """

    name: str
    type: str
    oid: int
    wire_oid: int
    array_oid: int
    generated: bool
    as_text: bool

    @property
    def wire_type(self) -> str:
        """The name of the type whose binary form its values have; its own where none is known."""
        known = adapters.types.get(self.wire_oid)
        if known is None:
            return self.type
        return known.regtype if known.oid == self.wire_oid else f"{known.regtype}[]"


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A text that is searched by its words.

    Attributes:
        column: The text.
        words: The generated tsvector.
        language: The text search configuration.
        ranks: The function of the extension that finds rows by words; None where it is not, or
            not for this table.
    """

    column: str
    words: str
    language: str
    ranks: str | None = None


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """One collection, or a part of its table, as the catalogue had it when it was opened."""

    name: str
    schema: str
    table: str
    key: str
    key_type: str
    key_order: str
    key_length: int | None
    vector: str
    vector_type: str
    vectors_required: bool
    vector_oid: int
    vector_schema: str
    dims: int
    nesting_dims: tuple[int, ...]
    metric: Metric
    adapted: bool
    low_dims: int
    low_dim_column: str | None
    index: str | None
    index_kinds: tuple[str, ...]
    plan: Plan | None
    columns: Mapping[str, Column] = field(hash=False)
    text: TextColumn | None = None
    partitioned: bool = False
    key_indexed: bool = True
    part: tuple[int, int] | None = None
    search_oid: int | None = None

    @property
    def relation(self) -> sql.Identifier:
        """The table, qualified."""
        return statements.identifier(self.schema, self.table)

    @property
    def wire_types(self) -> dict[str, str]:
        """The type of each metadata column's values, a domain's base: as frames have them."""
        return {name: column.wire_type for name, column in self.columns.items()}

    def is_of(self, schema: str, table: str) -> bool:
        """Whether this is the table's name."""
        return self.schema == schema and self.table == table


def list_collections(session: Session) -> list[str]:
    """Returns the names of all collections, sorted."""
    with session.connection() as connection:
        listed = connection.execute(statements.query("collections_list")).fetchall()
    return [row[0] for row in listed]


def describe(session: Session, name: str) -> CollectionInfo:
    """Returns a collection's catalogue entry; raises CollectionNotFoundError."""
    with session.connection() as connection:
        return describe_in(connection, name)


def describe_in(connection: Connection, name: str) -> CollectionInfo:
    """The same, in a transaction of the caller's."""
    door.checked_collection_name(name)
    return _info(_call(connection, "collection_describe", (name,)), connection.adapters)


# What may not change under an index: with it, all that is there would be another thing.
_FORM = ("dims", "metric", "key", "key_type", "vector", "vector_type")


def describe_of_form(session: Session, before: CollectionInfo) -> CollectionInfo:
    """Returns a collection's entry as it is now; raises FreshnessError for one of another form."""
    info = replace(describe(session, before.name), part=before.part)
    for what in _FORM:
        was, is_ = getattr(before, what), getattr(info, what)
        if was != is_:
            raise FreshnessError(
                f'collection "{info.name}" has changed its form ({what} was {was}, is {is_}); open '
                "it again and load() it"
            )
    return info


@dataclass(frozen=True, slots=True)
class Definition:
    """A collection to be made; what PostgreSQL would take in silence is checked."""

    name: str
    dims: int
    nesting_dims: tuple[int, ...] | None
    shortlist_dims: int | None
    metric: Metric
    key_type: str
    columns: Mapping[str, str]
    schema: str | None
    vectors_required: bool = True
    text: str | None = None
    language: str = "english"

    def __post_init__(self) -> None:
        door.checked_collection_name(self.name)
        for column, sql_type in self.columns.items():
            door.checked_name(column, "the column name")
            door.checked_name(sql_type, f"the type of column {column!r}")
        door_dims.checked_dims(self.dims)
        if self.nesting_dims is not None:
            door_dims.checked_nesting_dims(self.nesting_dims, self.dims)
        if self.shortlist_dims is not None:
            door_dims.checked_dims(self.shortlist_dims, "shortlist_dims")
        if self.schema is not None:
            door.checked_name(self.schema, "the schema name")
        check_text(self.text, self.language)


def check_text(text: str | None, language: str) -> None:
    """Checks the names of a column of text and of its language."""
    if text is not None:
        door.checked_name(text, "the column of text")
        door.checked_name(language, "language")


def create(connection: Connection, definition: Definition, adaptor: bytes | None = None) -> None:
    """Creates a table and its collection, with its adaptor, in a transaction of the caller's."""
    values = {
        "name": definition.name,
        "dims": int(definition.dims),
        "nesting_dims": None
        if definition.nesting_dims is None
        else [int(width) for width in definition.nesting_dims],
        "shortlist_dims": None
        if definition.shortlist_dims is None
        else int(definition.shortlist_dims),
        "metric": definition.metric.value,
        "key_type": definition.key_type,
        "columns": Json(dict(definition.columns)),
        "schema": definition.schema,
        "vectors_required": bool(definition.vectors_required),
    }
    try:
        _call(connection, "collection_create", values)
    except (pg.UniqueViolation, pg.DuplicateTable, pg.DuplicateFunction):
        raise CollectionExistsError(
            f'collection "{definition.name}" exists already: another client has just made it; open '
            "it, drop it, or choose another name"
        ) from None
    if definition.text is not None:
        _call(connection, "text_add", (definition.name, definition.text, definition.language))
    if adaptor is not None:
        _call(connection, "adaptor_set", (definition.name, adaptor))


def adaptor_of(session: Session, info: CollectionInfo) -> bytes | None:
    """Returns what changes vectors on their way into a collection, or None."""
    if not info.adapted:
        return None
    with session.connection() as connection:
        row = connection.execute(statements.query("adaptor_get"), (info.name,)).fetchone()
    return None if row is None else bytes(row[0])


def find_table(session: Session, table: str) -> tuple[int, int]:
    """Returns (oid, bytes) of a table named as SQL would; raises CollectionNotFoundError."""
    if misfit(table, "text") is not None:
        raise ValueRangeError(
            f"the table is {table!r}, wanted its name as SQL writes it, such as 'public.articles'"
        )
    with session.connection() as connection:
        try:
            row = connection.execute(statements.query("table_find"), (table,)).fetchone()
        except (pg.InvalidName, pg.SyntaxError, pg.FeatureNotSupported):
            raise ValueRangeError(
                f"the table name {table!r} is not one that SQL could read; quote odd names: "
                "'public.\"My Table\"'"
            ) from None
    if row is None:
        raise CollectionNotFoundError(
            f"no table {table!r}; write it as SQL would, with its schema: 'public.articles'"
        )
    return int(row[0]), int(row[1])


def attach(
    session: Session,
    relation: int,
    *,
    name: str | None,
    vector: str,
    key: str,
    dims: int | None,
    nesting_dims: Sequence[int] | None,
    shortlist_dims: int | None,
    metric: Metric,
    low_dim: str,
    key_unique: bool,
    text: str | None,
    language: str,
) -> str:
    """Makes a collection of a table with data (mrl.attach, mrl.add_text); returns its name."""
    check_text(text, language)
    widths = None if nesting_dims is None else door_dims.checked_widths(nesting_dims)
    values = {
        "relation": relation,
        "name": None if name is None else door.checked_collection_name(name),
        "vector": door.checked_name(vector, "the vector column"),
        "key": door.checked_name(key, "the key column"),
        "dims": None if dims is None else door_dims.checked_dims(dims),
        "nesting_dims": None
        if widths is None
        else list(door_dims.checked_nesting_dims(widths, widths[-1])),
        "shortlist_dims": None
        if shortlist_dims is None
        else door_dims.checked_dims(shortlist_dims, "shortlist_dims"),
        "metric": metric.value,
        "low_dim": low_dim,
        "key_unique": bool(key_unique),
    }
    with session.transaction() as connection:
        attached = str(_call(connection, "collection_attach", values))
        if text is not None:
            _call(connection, "text_add", (attached, text, language))
        return attached


def drop(session: Session, name: str) -> None:
    """Drops a collection (mrl.drop_collection)."""
    door.checked_collection_name(name)
    with session.transaction() as connection:
        _call(connection, "collection_drop", (name,))


def set_plan(session: Session, name: str, plan: Plan | None, engine: str = "sql") -> None:
    """Stores the plan of an engine, or removes it; its promise goes."""
    stored = None if plan is None else Jsonb(plan.to_json())
    with session.transaction() as connection:
        _call(connection, "plan_set", (name, stored, engine))


def keep_promise(
    session: Session, name: str, engine: str, plan: Plan, promise: Mapping[str, Any]
) -> datetime:
    """Stores the plan of an engine with what it was measured to keep; returns when."""
    with session.transaction() as connection:
        made_at: datetime = _call(
            connection, "promise_keep", (name, engine, Jsonb(plan.to_json()), Jsonb(dict(promise)))
        )
    return made_at


def anchor_promise(session: Session, name: str, engine: str) -> None:
    """Takes the rows that are there now for those that a restored promise speaks of."""
    with session.transaction() as connection:
        _call(connection, "promise_anchor", (name, engine))


def stored_plans(
    session: Session, name: str
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any] | None, datetime | None]]:
    """Returns for each engine with a stored plan (plan, promise or None, when it was promised)."""
    with session.connection() as connection:
        found = connection.execute(statements.query("promises"), (name,)).fetchall()
    return {engine: (plan, promise, made_at) for engine, plan, promise, made_at in found}


def _call(connection: Connection, name: str, values: Mapping[str, Any] | Sequence[Any]) -> Any:
    """Calls a function of schema mrl."""
    row = connection.execute(statements.query(name), values).fetchone()
    return None if row is None else row[0]


def _is_text_only(oid: int, wire_oid: int, known: AdaptersMap) -> bool:
    """Whether there is no loader for a type, nor for what a domain is made of.

    Where it has the form of text without being it, as enums have, its values come as its own type.
    """
    oids = (oid,) if wire_oid == adapters.types["text"].oid else (oid, wire_oid)
    return not any(_is_loaded(each, known) for each in oids)


def _is_loaded(oid: int, known: AdaptersMap) -> bool:
    """Whether psycopg makes values of a type, or of an array's elements, which it may not know."""
    info = known.types.get(oid)
    element = oid if info is None or info.array_oid != oid else info.oid
    return all(known.get_loader(each, Format.BINARY) is not None for each in {oid, element})


def _info(entry: Any, known: AdaptersMap) -> CollectionInfo:
    fields = entry if isinstance(entry, dict) else json.loads(entry)
    return CollectionInfo(
        name=fields["name"],
        schema=fields["schema"],
        table=fields["table"],
        key=fields["key"],
        key_type=fields["key_type"],
        key_order=fields["key_order"],
        key_length=fields["key_length"],
        vector=fields["vector"],
        vector_type=fields["vector_type"],
        vectors_required=fields["vectors_required"],
        vector_oid=fields["vector_oid"],
        vector_schema=fields["vector_schema"],
        dims=fields["dims"],
        nesting_dims=tuple(fields["nesting_dims"]),
        metric=Metric.of(fields["metric"]),
        adapted=fields["adapted"],
        low_dims=fields["low_dims"],
        low_dim_column=fields["low_dim_column"],
        index=fields["index"],
        index_kinds=tuple(fields["index_kinds"]),
        plan=None if fields["plan"] is None else Plan.from_json(fields["plan"]),
        columns={
            each["name"]: Column(
                **each, as_text=_is_text_only(each["oid"], each["wire_oid"], known)
            )
            for each in fields["columns"]
        },
        text=None if fields["text"] is None else TextColumn(**fields["text"]),
        partitioned=fields["partitioned"],
        key_indexed=fields["key_indexed"],
        search_oid=fields.get("search_oid"),
    )
