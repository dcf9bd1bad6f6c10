"""What is asked of a collection: which rows take part, and which columns come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from mrl_db.model.filters import Node
from mrl_db.postgres.catalog import CollectionInfo
from mrl_db.postgres.conditions import (
    among,
    compile_condition,
    conjunction,
    in_part,
    present,
    same,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a collection: the filter and the columns to return, both checked."""

    info: CollectionInfo
    where: Node
    columns: tuple[str, ...]

    @property
    def column_types(self) -> dict[str, str]:
        """The SQL type of each metadata column."""
        return {name: column.type for name, column in self.info.columns.items()}

    def filter(self) -> tuple[sql.Composable, list[Any]]:
        """The condition of the filter alone, with its parameters."""
        types = {self.info.key: self.info.key_type, **self.column_types}
        return compile_condition(self.where, types)

    def filter_of_search(self) -> tuple[sql.Composable, list[Any]]:
        """The same; an error where the collection was made anew, whose metric may be another."""
        condition, parameters = self.filter()
        if self.info.search_oid is not None:
            condition = conjunction(same(self.info.name, self.info.search_oid), condition)
        return condition, parameters

    def condition(self) -> tuple[sql.Composable, list[Any]]:
        """The condition of the rows with a vector that pass the filter, with its parameters.

        Of a part of the table, where the collection is one.
        """
        condition, parameters = self.filter_of_search()
        condition = conjunction(present(self.info.vector), condition)
        if self.info.part is not None:
            condition = conjunction(in_part(self.info.key, *self.info.part), condition)
        return condition, parameters

    def condition_among(self, keys: Sequence[Any]) -> tuple[sql.Composable, list[Any]]:
        """The same of the rows with one of some keys."""
        condition, parameters = self.condition()
        chosen = among(self.info.key, self.info.key_type)
        return conjunction(chosen, condition), [list(keys), *parameters]
