"""The SQL that this package sends.

Read from `sql/`, filled in with identifiers and placeholders, never with values.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from psycopg import Connection, sql


@cache
def query(name: str) -> sql.SQL:
    """Returns a statement of sql/queries by its name, which no two files share."""
    every = {
        name: statement
        for file in (sql_folder() / "queries").iterdir()
        for name, statement in fragments(file.name.removesuffix(".sql")).items()
    }
    return every[name]


@cache
def query_bytes(name: str) -> bytes:
    """Returns such a statement as it is sent, which spares psycopg to make it so each time."""
    return query(name).as_bytes(None)


@cache
def fragments(module: str) -> dict[str, sql.SQL]:
    """Returns the statements of sql/queries/<module>.sql: each follows a line `-- name: <name>`."""
    text = (sql_folder() / "queries" / f"{module}.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\S+)\n", text, flags=re.MULTILINE)[1:]
    return {
        name: sql.SQL(_without_comments(body))
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def identifier(*names: str) -> sql.Identifier:
    """Returns a quoted, qualified identifier for a statement that is executed with parameters.

    Every statement of ours is, if only with an empty list: psycopg then reads % as the start of a
    placeholder, in a name as well.
    """
    return sql.Identifier(*(name.replace("%", "%%") for name in names))


def without_parameters(statement: sql.Composed, connection: Connection[Any]) -> bytes:
    """Returns a statement for psycopg's copy(), which reads no placeholders without parameters."""
    return statement.as_bytes(connection).replace(b"%%", b"%")


def of_row(column: str) -> sql.Composed:
    """Returns a column of the table named row_."""
    return sql.SQL("row_.{}").format(identifier(column))


@cache
def sql_folder() -> Path:
    """Returns the folder of SQL files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / "sql" if (package / "sql").is_dir() else package.parent / "sql"


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
